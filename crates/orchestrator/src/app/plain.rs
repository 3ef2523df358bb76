//! An answer in one piece.

use bytes::Bytes;
use serde::de::IgnoredAny;
use weir_error::{Code, Error};
use weir_llm::{
    Dialect,
    canonical::{Failure, Losses, Wrong},
    gemini, openai, responses,
    upstream::Answer,
};
use weir_proto::{
    chat::{CompleteFrame, Data, End, Head, complete_frame::Frame},
    events::{Outcome, TokenSource, Tokens},
};

use super::{
    chat::{Relaying, head, upstream_error, warn},
    meter::{Ending, Metered},
    pricing::{llm_usage, usage_tokens, wire_usage},
    refusal,
    stream::EVENT_STREAM,
    structured::{replace_text, whole_text},
};

const JSON: &str = "application/json";
const SHOULD_RETRY: &str = "x-should-retry";

/// Relays the whole answer, success or the provider's own refusal. It is metered before it leaves.
pub(crate) async fn relay(
    answer: Answer,
    mut metered: Box<Metered>,
    relaying: &Relaying,
) -> Result<[CompleteFrame; 3], Error> {
    let status = answer.status.as_u16();
    let mut head = head(&answer, relaying);
    let body = match answer.body.collect().await {
        Ok(body) => body,
        Err(error) => {
            let (tokens, source) = metered.tokens().await;
            let outcome = if answer.status.is_success() { Outcome::Cut } else { Outcome::Failed };
            let error = upstream_error(error);
            let told = error.code().http().as_u16();
            metered.finish(Ending { outcome, provider_status: status, status: told, tokens, source }).await;
            return Err(error);
        }
    };
    let success = answer.status.is_success();
    let provider = relaying.spoken().provider();
    if let Some(failure) = success.then(|| provider.failure_of_answer(&body)).flatten() {
        return Ok(failed_within(&failure, body, (head, metered), relaying).await);
    }
    let mut ending = if success {
        metered.first_token();
        let (tokens, source) = metered.tokens_of_answer(&body).await;
        Ending { outcome: Outcome::Succeeded, provider_status: status, status, tokens, source }
    } else {
        failed(status)
    };
    let said = if answer_is_good(ending) {
        answered(relaying, &mut ending, &body, &mut head, &mut metered).await
    } else {
        Ok(refused(relaying, &mut ending, body, &mut head))
    };
    let body = match said {
        Ok(body) => body,
        Err(error) => {
            metered.finish(Ending { outcome: Outcome::Cut, status: 502, ..ending }).await;
            return Err(error);
        }
    };
    let usage = Some(wire_usage(metered.told(ending)));
    let cost_nano_usd = metered.finish(ending).await;
    Ok(whole(head, body, End { usage, cost_nano_usd }))
}

/// An answer that says itself that it failed: what it was charged for is what it says it used.
async fn failed_within(
    failure: &Failure,
    body: Bytes,
    (mut head, metered): (Head, Box<Metered>),
    relaying: &Relaying,
) -> [CompleteFrame; 3] {
    let tokens = relaying.spoken().provider().usage_of_answer(&body).map(usage_tokens).unwrap_or_default();
    let provider_status = u16::try_from(head.status).unwrap_or(200);
    let source = TokenSource::Provider;
    let mut ending =
        Ending { outcome: Outcome::Cut, provider_status, status: failure.status, tokens, source };
    // Clients of its own dialect read it as it came.
    let body = if relaying.spoken() == relaying.client {
        refusal::without_accounts(body)
    } else {
        JSON.clone_into(&mut head.content_type);
        let request_id = Some(relaying.request_id.as_str());
        let (status, body) =
            relaying.client.client().encode_error(refusal::told(failure.clone()), request_id);
        (head.status, ending.status) = (status.into(), status);
        body
    };
    let usage = Some(wire_usage(metered.told(ending)));
    let cost_nano_usd = metered.finish(ending).await;
    whole(head, body, End { usage, cost_nano_usd })
}

fn whole(head: Head, body: Bytes, end: End) -> [CompleteFrame; 3] {
    let all = [Frame::Head(head), Frame::Data(Data { bytes: body }), Frame::End(end)];
    all.map(|frame| CompleteFrame { frame: Some(frame) })
}

fn answer_is_good(ending: Ending) -> bool {
    ending.outcome == Outcome::Succeeded
}

/// The answer in the client's dialect: its opaque state kept, its text held against what was asked for.
async fn answered(
    relaying: &Relaying,
    ending: &mut Ending,
    body: &Bytes,
    head: &mut Head,
    metered: &mut Metered,
) -> Result<Bytes, Error> {
    let (provider, client) = (relaying.spoken(), relaying.client);
    if provider == client {
        // SDKs take what is no JSON for a fault of their own. Who has found the usage in it has read it to its end.
        if ending.source != TokenSource::Provider {
            serde_json::from_slice::<IgnoredAny>(body).map_err(|error| unread().with_source(error))?;
        }
        let carries = match provider {
            Dialect::OpenAi => openai::carries_state(body),
            Dialect::Responses => responses::carries_state(body),
            Dialect::Gemini => gemini::carries_state(body),
            _ => false,
        };
        if carries {
            if provider == Dialect::OpenAi {
                relaying.provider.quirks.carries_state.learn(&relaying.call.model);
            }
            let choices = provider.decode_answer(body, &relaying.call).map(|answer| answer.choices);
            let choices = choices.iter().flatten().map(|choice| choice.parts.as_slice());
            let sent = metered.sent().clone();
            relaying.keep(choices, &sent).await;
        }
        if !relaying.streams {
            return Ok(body.clone());
        }
    }
    JSON.clone_into(&mut head.content_type);
    let mut answer = provider.decode_answer(body, &relaying.call).ok_or_else(|| {
        let failed = provider.failed(body).map(|failure| refusal::told(failure).message);
        failed.map_or_else(unread, |text| Error::new(Code::UpstreamFailed, text))
    })?;
    let mut fits = true;
    for choice in &mut answer.choices {
        let (Some(structure), Some(text)) = (&relaying.structure, whole_text(choice)) else { continue };
        // Rare, and large: another attempt may be within.
        let checked = Box::pin(structure.settle(text, *ending, metered)).await;
        *ending = checked.ending;
        fits &= checked.fits;
        if let Some(text) = checked.text {
            replace_text(&mut choice.parts, text);
        }
    }
    if !fits {
        warn(head, &format!("invalid;{}", client.client().field("response_format")));
    }
    if provider != client {
        let sent = metered.sent().clone();
        relaying.keep(answer.choices.iter().map(|choice| choice.parts.as_slice()), &sent).await;
    }
    let usage = llm_usage(metered.told(*ending));
    let mut losses = Losses::default();
    let body = if relaying.streams {
        // Clients that wait for a stream read nothing else.
        EVENT_STREAM.clone_into(&mut head.content_type);
        client.replay(&answer, usage, &relaying.call, &mut losses).ok_or_else(unread)?
    } else {
        client.client().encode_answer(&answer, usage, &relaying.call, &mut losses)
    };
    if !losses.is_empty() {
        warn(head, &losses.told(client.client()).header());
    }
    Ok(body)
}

fn unread() -> Error {
    Error::new(Code::UpstreamFailed, "the model provider sent an answer that can't be read")
}

/// The refusal in the client's dialect.
fn refused(relaying: &Relaying, ending: &mut Ending, body: Bytes, head: &mut Head) -> Bytes {
    let (provider, client) = (relaying.spoken(), relaying.client);
    if matches!(ending.provider_status, 401 | 403) {
        return own_credentials(relaying, head);
    }
    let mut failure = provider.provider().decode_error(ending.provider_status, &body);
    if failure.status == 0 {
        failure.status = ending.provider_status;
    }
    if failure.message.is_empty() {
        failure.message = format!("the model provider answered {}", ending.provider_status);
    }
    if failure.wrong() == Wrong::Quota {
        // To ask again changes nothing, whatever the status makes clients think.
        head.headers.insert(SHOULD_RETRY.to_owned(), "false".to_owned());
    }
    if provider == client {
        return refusal::told_in(provider, ending.provider_status, body);
    }
    JSON.clone_into(&mut head.content_type);
    let request_id = Some(relaying.request_id.as_str());
    let failure = refusal::told(failure);
    let (status, body) = client.client().encode_error(failure, request_id);
    head.status = status.into();
    ending.status = status;
    body
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
    // It stays so until an operator has mended it.
    head.headers.insert(SHOULD_RETRY.to_owned(), "false".to_owned());
    JSON.clone_into(&mut head.content_type);
    relaying.client.error_body(&error, Some(relaying.request_id.as_str()))
}
