//! An answer in one piece.

use bytes::Bytes;
use weir_error::{Code, Error};
use weir_llm::upstream::Answer;
use weir_proto::{
    chat::{CompleteFrame, Data, End, Head, complete_frame::Frame},
    events::{Outcome, TokenSource, Tokens},
};

use super::{
    chat::{Relaying, head, upstream_error},
    meter::{Ending, Metered},
    pricing::{llm_usage, wire_usage},
};

const JSON: &str = "application/json";

/// Relays the whole answer, success or the provider's own refusal. It is metered before it leaves.
pub(crate) async fn relay(
    answer: Answer,
    mut metered: Metered,
    relaying: &Relaying,
) -> Result<[CompleteFrame; 3], Error> {
    let status = answer.status.as_u16();
    let mut head = head(&answer, relaying);
    let body = match answer.body.collect().await {
        Ok(body) => body,
        Err(error) => {
            let (tokens, source) = metered.tokens().await;
            let outcome = if answer.status.is_success() { Outcome::Cut } else { Outcome::Failed };
            metered.finish(Ending { outcome, provider_status: status, status: 502, tokens, source }).await;
            return Err(upstream_error(error));
        }
    };
    let mut ending = if answer.status.is_success() {
        metered.first_token();
        let (tokens, source) = metered.tokens_of_answer(&body).await;
        Ending { outcome: Outcome::Succeeded, provider_status: status, status, tokens, source }
    } else {
        failed(status)
    };
    let usage = Some(wire_usage(ending.tokens));
    let body = match said(relaying, ending, body, &mut head) {
        Ok(body) => {
            ending.status = u16::try_from(head.status).unwrap_or(ending.status);
            body
        }
        Err(error) => {
            metered.finish(Ending { outcome: Outcome::Cut, status: 502, ..ending }).await;
            return Err(error);
        }
    };
    let cost_nano_usd = metered.finish(ending).await;
    Ok([
        CompleteFrame { frame: Some(Frame::Head(head)) },
        CompleteFrame { frame: Some(Frame::Data(Data { bytes: body })) },
        CompleteFrame { frame: Some(Frame::End(End { usage, cost_nano_usd })) },
    ])
}

/// The answer, or the refusal, in the client's dialect.
fn said(relaying: &Relaying, ending: Ending, body: Bytes, head: &mut Head) -> Result<Bytes, Error> {
    let (provider, client) = (relaying.provider.dialect, relaying.client);
    if matches!(ending.provider_status, 401 | 403) {
        return Ok(own_credentials(relaying, head));
    }
    if provider == client {
        return Ok(body);
    }
    JSON.clone_into(&mut head.content_type);
    if ending.outcome == Outcome::Succeeded {
        let usage = llm_usage(ending.tokens);
        return provider.translate_answer(&body, client, usage, &relaying.call).ok_or_else(|| {
            Error::new(Code::UpstreamFailed, "the model provider sent an answer that can't be read")
        });
    }
    let (status, body) =
        provider.translate_error(ending.provider_status, &body, client, Some(relaying.request_id.as_str()));
    head.status = status.into();
    Ok(body)
}

/// A provider that refused: it charges nothing.
pub(crate) fn failed(provider_status: u16) -> Ending {
    Ending {
        outcome: Outcome::Failed,
        provider_status,
        status: if matches!(provider_status, 401 | 403) { 502 } else { provider_status },
        tokens: Tokens::default(),
        source: TokenSource::Provider,
    }
}

/// The provider refused Weir's credentials, not the client's: the client must not take its own key for wrong, and
/// the provider's text may quote ours.
fn own_credentials(relaying: &Relaying, head: &mut Head) -> Bytes {
    tracing::error!(provider = head.provider, status = head.status, "the provider refused our credentials");
    let error = Error::new(Code::UpstreamFailed, "the model provider refused this platform's credentials");
    head.status = Code::UpstreamFailed.http().as_u16().into();
    JSON.clone_into(&mut head.content_type);
    relaying.client.error_body(&error, Some(relaying.request_id.as_str()))
}
