//! One attempt, and what some models can't be asked: they are asked once more without it, and it is remembered.

use bytes::Bytes;
use http::HeaderValue;
use weir_error::Error;
use weir_llm::{
    Dialect, StreamOptions, openai,
    upstream::{Answer, UpstreamError},
};
use weir_types::RequestContext;

use super::{
    attempt::{Asked, Outgoing},
    catalog::Candidate,
    chat::{CLIENT_REQUEST_ID, TRACEPARENT},
    learned::Learned,
    meter::{Ending, Metered},
    plain,
    responses::thoughts,
};

/// Much of a refusal that is looked at for what it is about.
const LOOKED_AT: usize = 16 * 1024;

type Sent = Result<Answer, UpstreamError>;

/// What is sent instead of what was refused.
struct Instead<'a> {
    body: Bytes,
    /// What its model is not asked for again, if that was all that was wrong: no client decides how others are asked.
    known: Option<&'a Learned>,
    altered: Option<&'static str>,
    dropped: Option<&'static str>,
}

/// One attempt. Who refuses what is ours to ask otherwise is asked so once more; if that was all that was wrong, its
/// model is not asked for it again for a while.
pub(super) async fn send(
    ctx: &RequestContext,
    asked: &Asked,
    candidate: &Candidate,
    outgoing: &mut Outgoing,
    metered: &mut Metered,
    failed: Option<Ending>,
) -> Result<Sent, Error> {
    let mut sent = send_once(ctx, asked, candidate, outgoing.body.clone(), metered, failed).await?;
    let spoken = candidate.provider.spoken(asked.view.dialect());
    if !matches!(spoken, Dialect::OpenAi | Dialect::Responses) {
        return Ok(sent);
    }
    // A provider may refuse one thing and then the other.
    for _ in 0..2 {
        let Ok(answer) = &mut sent else { break };
        let instead = match spoken {
            Dialect::Responses => without_thoughts(asked, &outgoing.body, answer).await,
            _ => instead(asked, candidate, &outgoing.body, answer).await,
        };
        let Some(Instead { body, known, altered, dropped }) = instead else { break };
        outgoing.body = body.clone();
        if let Some(altered) = altered {
            outgoing.losses.altered(altered);
        }
        if let Some(dropped) = dropped {
            outgoing.losses.dropped(dropped);
        }
        sent = send_once(ctx, asked, candidate, body, metered, Some(plain::failed(400))).await?;
        if let Some(known) = known
            && sent.as_ref().is_ok_and(|answer| answer.status.is_success())
        {
            let (provider, model) = (&candidate.provider.name, &candidate.model);
            tracing::info!(provider, model, "refuses what it was asked with: asked otherwise for a while");
            known.learn(model);
        }
    }
    Ok(sent)
}

async fn instead<'a>(
    asked: &Asked,
    candidate: &'a Candidate,
    body: &Bytes,
    answer: &mut Answer,
) -> Option<Instead<'a>> {
    if answer.status.as_u16() != 400 {
        return None;
    }
    let quirks = &candidate.provider.quirks;
    let (no_options, newer) = (&quirks.no_stream_options, &quirks.newer_limit);
    let may_lack = asked.request.stream && !no_options.holds(&candidate.model);
    let own = asked.view.dialect() == Dialect::OpenAi;
    // Who wants to lose nothing is told.
    let may_rename = !(newer.holds(&candidate.model) || own && asked.request.strict);
    if !may_lack && !may_rename {
        return None;
    }
    let said = beginning(answer).await?;
    if may_rename
        && says(&said, "max_completion_tokens")
        && let Some(body) = openai::with_newer_limit(body)
    {
        let altered = own.then_some("max_tokens");
        return Some(Instead { body, known: Some(newer), altered, dropped: None });
    }
    if !may_lack || !(says(&said, "stream_options") || says(&said, "include_usage")) {
        return None;
    }
    let options = asked.view.stream_options(&asked.request.body);
    // What a client asks for beside usage is its own to mend.
    if options == StreamOptions::Others {
        return None;
    }
    let without = openai::without_stream_options(body);
    let known = (options == StreamOptions::None).then_some(no_options);
    (without != *body).then_some(Instead { body: without, known, altered: None, dropped: None })
}

/// What was thought at one account's is worth nothing at another's, and no end of the conversation.
async fn without_thoughts(asked: &Asked, body: &Bytes, answer: &mut Answer) -> Option<Instead<'static>> {
    if asked.request.strict || answer.status.as_u16() != 400 {
        return None;
    }
    let said = beginning(answer).await?;
    let body = says(&said, thoughts::UNREADABLE).then(|| thoughts::without_thoughts(body)).flatten()?;
    tracing::info!("a provider can't read reasoning of another account: asked without it");
    let own = asked.view.dialect() == Dialect::Responses;
    let dropped = Some(if own { "reasoning" } else { "thinking" });
    Some(Instead { body, known: None, altered: None, dropped })
}

pub(super) async fn send_once(
    ctx: &RequestContext,
    asked: &Asked,
    candidate: &Candidate,
    body: Bytes,
    metered: &mut Metered,
    failed: Option<Ending>,
) -> Result<Sent, Error> {
    let provider = &candidate.provider;
    let spoken = provider.spoken(asked.view.dialect());
    metered.sending(spoken, body.clone());
    let id = metered.open(&provider.name, &candidate.model, failed)?;
    let mut headers = asked.headers_for(spoken);
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(CLIENT_REQUEST_ID, id);
    }
    if let Some(trace) = metered.traceparent() {
        headers.insert(TRACEPARENT, trace);
    }
    let path = asked.path(candidate);
    let body = provider.on_platform(spoken, &mut headers, body);
    let wait = asked.wait(ctx, &candidate.model);
    let sent = provider.upstream.send(&path, headers, body, wait).await;
    if let Ok(answer) = &sent {
        metered.reached(answer.status.as_u16());
    }
    Ok(sent)
}

/// Ollama's models think or don't, and no list says which: one that refuses to is not asked to again for a while.
pub(super) async fn refuses_to_think(asked: &Asked, candidate: &Candidate, sent: &mut Sent) -> bool {
    let Ok(answer) = sent else { return false };
    let (provider, model) = (&candidate.provider, &candidate.model);
    let known = &provider.quirks.no_think;
    let may = provider.dialect == Dialect::Ollama && answer.status.as_u16() == 400 && asked.asks_to_think();
    if !may || known.holds(model) {
        return false;
    }
    let Some(said) = beginning(answer).await else { return false };
    let refuses = says(&said, "does not support thinking");
    if refuses {
        tracing::info!(provider = provider.name, model, "does not think: asked without for a while");
        known.learn(model);
    }
    refuses
}

/// How a refusal begins. It may repeat all of the request.
async fn beginning(answer: &mut Answer) -> Option<Bytes> {
    let said = answer.body.peek().await.ok()?;
    Some(said.slice(..said.len().min(LOOKED_AT)))
}

fn says(said: &[u8], what: &str) -> bool {
    said.windows(what.len()).any(|at| at == what.as_bytes())
}
