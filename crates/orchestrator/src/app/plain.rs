//! An answer in one piece.

use bytes::Bytes;
use weir_error::{Code, Error};
use weir_llm::upstream::Answer;
use weir_proto::{
    chat::{CompleteFrame, Data, End, Head, complete_frame::Frame},
    events::{Outcome, TokenSource, Tokens},
};

use super::{
    chat::{head, upstream_error},
    meter::{Ending, Metered, wire_usage},
};

/// Relays the whole answer, success or the provider's own refusal. It is metered before it leaves.
pub(crate) async fn relay(
    answer: Answer,
    mut metered: Metered,
    provider: &str,
    model: &str,
) -> Result<[CompleteFrame; 3], Error> {
    let status = answer.status.as_u16();
    let mut head = head(&answer, provider, model);
    let body = match answer.body.collect().await {
        Ok(body) => body,
        Err(error) => {
            let (tokens, source) = metered.tokens().await;
            let outcome = if answer.status.is_success() { Outcome::Cut } else { Outcome::Failed };
            metered.finish(Ending { outcome, provider_status: status, status: 502, tokens, source }).await;
            return Err(upstream_error(error));
        }
    };
    let ending = if answer.status.is_success() {
        metered.first_token();
        let (tokens, source) = metered.tokens_of_answer(&body).await;
        Ending { outcome: Outcome::Succeeded, provider_status: status, status, tokens, source }
    } else {
        failed(status)
    };
    let usage = Some(wire_usage(ending.tokens));
    metered.finish(ending).await;
    let body = if matches!(status, 401 | 403) { own_credentials(&mut head) } else { body };
    Ok([
        CompleteFrame { frame: Some(Frame::Head(head)) },
        CompleteFrame { frame: Some(Frame::Data(Data { bytes: body })) },
        CompleteFrame { frame: Some(Frame::End(End { usage })) },
    ])
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
fn own_credentials(head: &mut Head) -> Bytes {
    tracing::error!(provider = head.provider, status = head.status, "the provider refused our credentials");
    let error = Error::new(Code::UpstreamFailed, "the model provider refused this platform's credentials");
    head.status = Code::UpstreamFailed.http().as_u16().into();
    head.content_type = "application/json".to_owned();
    weir_llm::openai::error_body(&error)
}
