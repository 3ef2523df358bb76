//! `POST /v1/chat/completions` and `POST /v1/messages`: checked, admitted, and handed to the orchestrator with the client's own bytes.
//!
//! A plain answer is collected first, so its limit headers show what it really used. A stream is relayed as it
//! comes. When a stream's first byte takes longer than `keep_alive`, its answer begins without it: status 200,
//! without `x-weir-provider` and `x-weir-model`, kept open by comment lines, so that nothing in between cuts a model
//! that thinks long. A failure after that point arrives as an error event, since the status is gone.

mod answer;
mod attach;
mod count;
mod late;
mod stream;

pub(crate) use answer::served;
pub(crate) use attach::attach;
pub(crate) use count::{count, count_input, count_tokens};

use std::{collections::HashMap, pin::Pin};

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use tonic::Streaming;
use weir_access::{Grant, Permit, Slot};
use weir_error::{Error, require_scope};
use weir_llm::{Dialect, View, tokens};
use weir_proto::chat::{
    CompleteFrame, CompleteRequest, Dialect as WireDialect, Head, chat_client::ChatClient,
    complete_frame::Frame,
};
use weir_types::{Deadline, RequestContext, scope};

use crate::{House, asked::Asked, edge::Answer, reply, uploads::Upload};

/// The orchestrator's answer after its head.
type Frames = Streaming<CompleteFrame>;
type Opening = Pin<Box<dyn Future<Output = Result<(Head, Frames), Error>> + Send>>;

/// What an admitted call holds until its last byte: its place in the process, its body's memory, and its charge.
struct Held {
    permit: Permit,
    _slot: Slot,
    _upload: Upload,
}

pub(crate) async fn complete(house: &House, asked: &Asked, body: Body, dialect: Dialect) -> Answer {
    complete_named(house, asked, body, dialect, "", false).await
}

/// `POST /v1/responses/compact`: a call to a model like any other, whose answer is a shorter conversation.
pub(crate) async fn compact(house: &House, asked: &Asked, body: Body) -> Answer {
    call(house, asked, body, Dialect::Responses, ("", false), Rpc::Compact).await
}

/// In a dialect whose path says the model, and whether to stream.
pub(crate) async fn complete_named(
    house: &House,
    asked: &Asked,
    body: Body,
    dialect: Dialect,
    model: &str,
    stream: bool,
) -> Answer {
    call(house, asked, body, dialect, (model, stream), Rpc::Complete).await
}

/// What the orchestrator is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rpc {
    Complete,
    Compact,
}

async fn call(
    house: &House,
    asked: &Asked,
    body: Body,
    dialect: Dialect,
    (model, stream): (&str, bool),
    rpc: Rpc,
) -> Answer {
    asked.check_json_head(house.config.max_body.as_usize())?;
    let strict = asked.strict()?;
    let grant = house.tenant_grant(asked).await?;
    let mut ctx = asked.context(&grant, house.config.chat_timeout);
    require_scope(&ctx, scope::CHAT_WRITE)?;
    let (body, upload) = house.read_body(&grant, body).await?;
    // Taken only now: a body that comes slowly keeps nobody else waiting.
    let slot = house.access.enter()?;
    let view = View::scan_for(dialect, &body, model, stream)?;
    if rpc == Rpc::Compact {
        once(&view)?;
    }
    let stream = view.stream();
    let timeout = if stream { house.config.stream_timeout } else { house.config.chat_timeout };
    ctx.deadline = Some(Deadline::after(timeout));
    let prompt = tokens::estimate(body.len());
    let default_output = house.config.default_output_tokens;
    let estimate = grant.limits().expected_tokens(prompt, view.max_output(), view.choices(), default_output);
    let mut permit = match house.access.admit(&grant, estimate) {
        Ok(permit) => permit,
        Err(error) => return Ok(refused(house, &grant, &error, asked, dialect)),
    };
    permit.used(prompt);
    let mut held = Held { permit, _slot: slot, _upload: upload };
    let background = matches!(&view, View::Responses(view) if view.background);
    let message = CompleteRequest { strict, ..message(view, body, asked) };
    if background {
        let output = estimate.saturating_sub(prompt);
        return Box::pin(attach::background(house, ctx, held, message, output)).await;
    }
    let opening = open(house, &ctx, message, rpc);
    let mut response = if stream {
        stream::answer(house, held, opening, asked.request_id.clone(), dialect).await?
    } else {
        match opening.await {
            Ok((head, frames)) => {
                answer::whole(&head, frames, held, house.config.max_answer.as_usize()).await?
            }
            Err(error) => return Err(held.failed(error)),
        }
    };
    if dialect == Dialect::Anthropic {
        anthropic_headers(house, &grant, &mut response);
    }
    Ok(response)
}

/// # Errors
/// It is to be streamed, or made without its client.
fn once(view: &View) -> Result<(), Error> {
    let View::Responses(view) = view else { return Ok(()) };
    let wrong =
        [("stream", view.stream), ("background", view.background)].into_iter().find(|(_, asked)| *asked);
    match wrong {
        Some((name, _)) => {
            let text = format!("Unsupported parameter: '{name}': a compaction is answered in one piece.");
            Err(Error::invalid(name, text))
        }
        None => Ok(()),
    }
}

fn anthropic_headers(house: &House, grant: &Grant, response: &mut Response<Body>) {
    let state = house.access.rate(grant);
    reply::anthropic_rate_headers(response.headers_mut(), &state, house.models.now_s());
}

impl Held {
    /// A call that failed before its head.
    fn failed(&mut self, error: Error) -> Error {
        self.permit.failed(error.code());
        error
    }
}

/// Headers that go on to providers of the same dialect.
const FORWARDED: [&str; 2] = ["anthropic-beta", "anthropic-version"];

fn message(view: View, body: Bytes, asked: &Asked) -> CompleteRequest {
    CompleteRequest {
        dialect: wire_dialect(view.dialect()).into(),
        stream: view.stream(),
        include_usage: view.include_usage(),
        headers: if view.dialect() == Dialect::Anthropic { forwarded(asked) } else { HashMap::new() },
        model: view.into_model(),
        body,
        ..CompleteRequest::default()
    }
}

fn forwarded(asked: &Asked) -> HashMap<String, String> {
    let pairs = FORWARDED.iter().filter_map(|name| Some((*name, asked.header(*name)?)));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn wire_dialect(dialect: Dialect) -> WireDialect {
    match dialect {
        Dialect::OpenAi => WireDialect::OpenaiChat,
        Dialect::Responses => WireDialect::OpenaiResponses,
        Dialect::Anthropic => WireDialect::AnthropicMessages,
        Dialect::Gemini => WireDialect::Gemini,
        Dialect::Mistral | Dialect::Ollama | Dialect::Bedrock => WireDialect::Unspecified,
    }
}

/// Asks the orchestrator; resolves at the head of its answer.
fn open(house: &House, ctx: &RequestContext, message: CompleteRequest, rpc: Rpc) -> Opening {
    let mut client = ChatClient::new(house.orchestrator.clone())
        .max_decoding_message_size(house.config.max_answer.as_usize());
    let request = weir_rpc::request(ctx, message);
    Box::pin(async move {
        let answer = match rpc {
            Rpc::Complete => client.complete(request).await,
            Rpc::Compact => client.compact(request).await,
        };
        let mut frames = answer?.into_inner();
        match frames.message().await?.and_then(|first| first.frame) {
            Some(Frame::Head(head)) => Ok((head, frames)),
            _ => Err(Error::internal(std::io::Error::other("an answer without a head"))),
        }
    })
}

fn refused(house: &House, grant: &Grant, error: &Error, asked: &Asked, dialect: Dialect) -> Response<Body> {
    tracing::debug!(error = error.chain(), "request refused");
    let mut response = reply::error(dialect.into(), error, asked);
    reply::rate_headers(response.headers_mut(), &house.access.rate(grant));
    if dialect == Dialect::Anthropic {
        anthropic_headers(house, grant, &mut response);
    }
    response
}
