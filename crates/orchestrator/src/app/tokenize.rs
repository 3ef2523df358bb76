//! Tokens of a text or of messages, counted here, and what they would cost: before a call, and without one.

use weir_error::{Code, Error, require_scope};
use weir_llm::{
    Usage, models,
    tokens::{self, Tokenizer, count_chat},
};
use weir_proto::chat::{TokenizeRequest, TokenizeResponse, tokenize_request::Source};
use weir_types::{RequestContext, scope};

use super::chat::{Chat, Servers};
use crate::config::OWN_PROVIDER;

/// Longer texts are counted, and their tokens not listed.
const MAX_LISTED: usize = 1024 * 1024;
/// What messages cost besides their texts is OpenAI's rule of thumb; of tools and images more so.
const CHAT_ERROR: u32 = 5;

impl Chat {
    pub(crate) async fn tokenize(
        &self,
        ctx: &RequestContext,
        request: TokenizeRequest,
    ) -> Result<TokenizeResponse, Error> {
        require_scope(ctx, scope::CHAT_WRITE)?;
        let (provider, model) = match self.servers(ctx, &request.model).await? {
            Servers::Own(own) => (OWN_PROVIDER.to_owned(), own.name().to_owned()),
            Servers::Providers(candidates) => {
                let first = candidates.into_iter().next();
                let nobody =
                    || Error::new(Code::ModelNotFound, "nobody serves this model").with_param("model");
                first.map(|first| (first.provider.name.clone(), first.model)).ok_or_else(nobody)?
            }
        };
        let most_output = request.max_output_tokens;
        let size = match &request.source {
            Some(Source::Text(text)) => text.len(),
            Some(Source::Chat(body)) => body.len(),
            None => 0,
        };
        let asked = model.clone();
        let mut answer = if tokens::is_quick(size) {
            count(&request, &asked)?
        } else {
            let counting = tokio::task::spawn_blocking(move || count(&request, &asked));
            counting.await.map_err(Error::internal)??
        };
        let now_ms = self.meter.clock.now_ms();
        let cost = |output_tokens| {
            let usage = Usage { input_tokens: answer.count, output_tokens, ..Usage::default() };
            self.meter.pricing.of(&provider, &model, now_ms, &usage)
        };
        let (input, most) = (cost(0), cost(most_output));
        answer.input_cost_nano_usd = input.as_ref().map(|cost| cost.nano_usd);
        answer.most_cost_nano_usd = most.map(|cost| cost.nano_usd);
        answer.max_model_tokens = models::facts(&model).and_then(|facts| facts.context);
        answer.price_row = input.map(|cost| cost.row.to_string()).unwrap_or_default();
        Ok(answer)
    }
}

fn count(request: &TokenizeRequest, model: &str) -> Result<TokenizeResponse, Error> {
    let tokenizer = Tokenizer::of(model);
    let mut answer = TokenizeResponse { tokenizer: tokenizer.name.to_owned(), ..TokenizeResponse::default() };
    match &request.source {
        Some(Source::Text(text)) => {
            answer.error_percent = tokenizer.error_percent;
            if request.tokens && tokenizer.own() && text.len() <= MAX_LISTED {
                answer.tokens = tokenizer.encode(text);
                answer.count = answer.tokens.len() as u64;
                if request.token_strs {
                    answer.token_strs = tokenizer.strs(&answer.tokens);
                }
            } else {
                answer.count = tokenizer.count(text);
            }
        }
        Some(Source::Chat(body)) => {
            answer.error_percent = tokenizer.error_percent.max(CHAT_ERROR);
            answer.count = count_chat(body, model)
                .ok_or_else(|| Error::invalid("messages", "expected an array of messages"))?;
        }
        None => return Err(Error::invalid("prompt", "either a prompt or messages")),
    }
    answer.exact = answer.error_percent == 0;
    Ok(answer)
}
