//! Embeddings: requests of a tenant for the same model that arrive within a few milliseconds share one call to a
//! provider. Each is metered by itself, with its share of what the call used.

mod batch;
mod call;
mod own;
mod parts;

use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::{Semaphore, oneshot};
use weir_error::{Code, Error, require_scope};
use weir_llm::{Dialect, canonical::Losses, embeddings::Input, tokens};
use weir_proto::chat::{self, EmbedInput, EmbedRequest, EmbedResponse, embed_input};
use weir_runtime::Tasks;
use weir_types::{Deadline, RequestContext, scope};

use super::{
    chat::{Chat, Servers, dialect},
    meter::Metered,
};
use batch::{Batches, Key};
use call::Call;

/// OpenAI's own bound: <https://developers.openai.com/api/reference/resources/embeddings>.
const MAX_INPUTS: usize = 2_048;
/// Inputs larger than this are counted on a blocking thread.
const COUNT_INLINE: usize = 64 * 1024;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Embedder {
    chat: Chat,
    batches: Arc<Batches>,
    /// For Weir's own model.
    room: Arc<Semaphore>,
}

/// What a request asks for besides its inputs.
#[derive(Clone)]
pub(crate) struct Asked {
    dimensions: Option<u32>,
    extra: Map<String, Value>,
    /// Refuse rather than leave something out.
    strict: bool,
    client: Dialect,
}

impl Asked {
    /// What is lost, in the client's words.
    ///
    /// # Errors
    /// The client does not bear it.
    fn told(&self, losses: &Losses) -> Result<String, Error> {
        let losses = losses.told(self.client.client());
        if self.strict && !losses.is_empty() {
            let text =
                format!("This model's provider would not get all of the request: {}.", losses.header());
            return Err(Error::new(Code::InvalidArgument, text));
        }
        Ok(losses.header())
    }
}

/// One request in a call.
pub(crate) struct Member {
    metered: Box<Metered>,
    inputs: Vec<Input>,
    /// What its inputs count, for its share.
    weight: u64,
    deadline: Option<Deadline>,
    answer: oneshot::Sender<Result<EmbedResponse, Error>>,
}

impl Member {
    fn bytes(&self) -> usize {
        self.inputs.iter().map(Input::size).sum()
    }
}

impl Embedder {
    pub(crate) fn new(chat: Chat, batch_ms: u64) -> Self {
        Self { chat, batches: Arc::new(Batches::new(batch_ms)), room: own::room() }
    }

    /// From here on, calls may be shared.
    pub(crate) fn spawn(&self, tasks: &Tasks) {
        self.batches.run_on(tasks);
    }

    pub(crate) async fn embed(
        &self,
        ctx: &RequestContext,
        request: EmbedRequest,
    ) -> Result<EmbedResponse, Error> {
        require_scope(ctx, scope::CHAT_WRITE)?;
        let client = match request.dialect() {
            chat::Dialect::Unspecified => Dialect::OpenAi,
            named => dialect(named)?,
        };
        let (extra, strict, dimensions) = (extra(&request.extra)?, request.strict, request.dimensions);
        let asked = Asked { dimensions, extra, strict, client };
        let inputs = inputs(request.inputs)?;
        let weight = weigh(&inputs).await;
        let servers = self.chat.servers(ctx, &request.model).await?;
        let mut metered = self.chat.meter.request(ctx, &request.model, false)?;
        metered.embeds(weight);
        let tokens = matches!(inputs.first(), Some(Input::Tokens(_)));
        let (answer, answered) = oneshot::channel();
        let member = Member { metered, inputs, weight, deadline: ctx.deadline, answer };
        let candidates = match servers {
            Servers::Own(model) => return own::embed(model, &asked, member, self.room.clone()).await,
            Servers::Providers(candidates) => candidates,
        };
        let key = Key {
            tenant: ctx.tenant,
            model: request.model,
            dimensions,
            extra: request.extra,
            tokens,
            strict,
            client,
        };
        let call = Call { candidates, asked };
        if let Some(alone) = self.batches.join(key, member, call) {
            let (call, member) = *alone;
            call.make(vec![member], None).await;
        }
        // The sender is dropped unused only where its task was ended by force.
        answered.await.unwrap_or_else(|_| Err(Error::unavailable("this process is stopping")))
    }
}

fn extra(json: &[u8]) -> Result<Map<String, Value>, Error> {
    if json.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(json).map_err(|e| Error::invalid("extra", "not a JSON object").with_source(e))
}

fn inputs(wire: Vec<EmbedInput>) -> Result<Vec<Input>, Error> {
    if !(1..=MAX_INPUTS).contains(&wire.len()) {
        return Err(Error::invalid("input", format!("expected 1 to {MAX_INPUTS} inputs")));
    }
    let one = |input: EmbedInput| match input.input {
        Some(embed_input::Input::Text(text)) if !text.is_empty() => Ok(Input::Text(text)),
        Some(embed_input::Input::Tokens(tokens)) if !tokens.ids.is_empty() => Ok(Input::Tokens(tokens.ids)),
        _ => Err(Error::invalid("input", "an input is empty")),
    };
    let inputs = wire.into_iter().map(one).collect::<Result<Vec<_>, _>>()?;
    let tokens = inputs.iter().filter(|input| matches!(input, Input::Tokens(_))).count();
    if tokens != 0 && tokens != inputs.len() {
        return Err(Error::invalid("input", "texts and tokens don't go together"));
    }
    Ok(inputs)
}

fn count(inputs: &[Input]) -> u64 {
    let one = |input: &Input| match input {
        Input::Text(text) => tokens::count_embedded(text),
        Input::Tokens(ids) => ids.len() as u64,
    };
    inputs.iter().map(one).sum()
}

async fn weigh(inputs: &[Input]) -> u64 {
    if inputs.iter().map(Input::size).sum::<usize>() <= COUNT_INLINE {
        return count(inputs);
    }
    let inputs = inputs.to_vec();
    tokio::task::spawn_blocking(move || count(&inputs)).await.unwrap_or_default()
}

/// Tokens as the text they stand for, for providers that take no tokens.
fn as_text(inputs: &[&Input]) -> Result<Vec<Input>, Error> {
    let one = |input: &&Input| match input {
        Input::Text(text) => Ok(Input::Text(text.clone())),
        Input::Tokens(ids) => tokens::text_of_embedded(ids)
            .map(Input::Text)
            .ok_or_else(|| Error::new(Code::InvalidArgument, "not tokens of a text").with_param("input")),
    };
    inputs.iter().map(one).collect()
}
