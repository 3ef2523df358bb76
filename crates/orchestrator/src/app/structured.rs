//! Answers that must fit a schema which their provider could not be told as it was: held against the original, and
//! asked for once more if they don't fit.

use bytes::Bytes;
use http::HeaderMap;
use weir_llm::{
    canonical::{self, Content, Finish, Message, Part, Role},
    schema::{Check, Invalid},
    upstream::Wait,
};
use weir_proto::events::Outcome;

use super::{
    attempt,
    catalog::{Candidate, Catalog},
    heavy,
    meter::{Ending, Metered},
    plain,
};
use crate::metrics::StructuredMetrics;

/// Longer answers are not sent back to their model.
const MAX_REPAIRED: usize = 256 * 1024;

/// What an answer must be, and what asks for it again.
pub(crate) struct Structure {
    pub(crate) check: Check,
    pub(crate) request: canonical::Request,
    pub(crate) candidate: Candidate,
    pub(crate) catalog: Catalog,
    pub(crate) headers: HeaderMap,
    /// For an answer in one piece.
    pub(crate) wait: Wait,
    pub(crate) metrics: StructuredMetrics,
}

/// What became of a text, and how its last attempt ended.
pub(crate) struct Checked {
    /// Other words than those that were looked at.
    pub(crate) text: Option<String>,
    pub(crate) fits: bool,
    pub(crate) ending: Ending,
}

impl Structure {
    /// A text that is its model's whole answer. `ending` is how the attempt that gave it will end.
    pub(crate) async fn settle(&self, text: String, ending: Ending, metered: &mut Metered) -> Checked {
        let invalid = match self.look(text.clone()).await {
            Ok(text) => {
                self.metrics.fit.inc();
                return Checked { text, fits: true, ending };
            }
            Err(invalid) => invalid,
        };
        tracing::info!(errors = %invalid, "an answer does not fit its schema");
        let Some((again, ending)) = self.again(text, &invalid, ending, metered).await else {
            self.metrics.invalid.inc();
            return Checked { text: None, fits: false, ending };
        };
        let Some(again) = again else {
            self.metrics.invalid.inc();
            return Checked { text: None, fits: false, ending };
        };
        match self.look(again.clone()).await {
            Ok(mended) => {
                self.metrics.repaired.inc();
                Checked { text: Some(mended.unwrap_or(again)), fits: true, ending }
            }
            Err(_) => {
                self.metrics.invalid.inc();
                Checked { text: Some(again), fits: false, ending }
            }
        }
    }

    async fn look(&self, text: String) -> Result<Option<String>, Invalid> {
        if self.check.is_light(&text) {
            return self.check.answer(&text);
        }
        let check = self.check.clone();
        let looked = async {
            let place = heavy::check().await;
            let look = move || {
                let _place = place;
                check.answer(&text)
            };
            tokio::task::spawn_blocking(look).await
        };
        // What can't be looked at in time is let through, as is what makes it panic.
        let deadline = self.wait.deadline.map(|deadline| deadline.0.into());
        let looked = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, looked).await.ok(),
            None => Some(looked.await),
        };
        looked.and_then(Result::ok).unwrap_or_else(|| {
            self.metrics.unseen.inc();
            Ok(None)
        })
    }

    /// Another attempt at the same model, with what was wrong. `None`: there was none. Its text is `None` when the first
    /// one's answer stands.
    async fn again(
        &self,
        text: String,
        invalid: &Invalid,
        ending: Ending,
        metered: &mut Metered,
    ) -> Option<(Option<String>, Ending)> {
        if text.len() > MAX_REPAIRED {
            return None;
        }
        let provider = &self.candidate.provider;
        let body = self.body(text, invalid);
        metered.sending(provider.dialect, body.clone());
        // Refused only where usage can't be recorded: the request was closed with what it has then.
        metered.open_again(&provider.name, &self.candidate.model, ending).ok()?;
        let path = provider.chat_path(provider.dialect, &self.candidate.model, false);
        let mut headers = self.headers.clone();
        let body = provider.on_platform(provider.dialect, &mut headers, body);
        let sent = provider.upstream.send(&path, headers, body, self.wait).await;
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(error = %error, "no second answer");
                return Some((None, super::chat::unanswered(&error)));
            }
        };
        let status = answer.status.as_u16();
        metered.reached(status);
        if !answer.status.is_success() {
            return Some((None, plain::failed(status)));
        }
        let Ok(body) = answer.body.collect().await else {
            let (tokens, source) = metered.tokens().await;
            let cut = Ending { outcome: Outcome::Cut, provider_status: status, status, tokens, source };
            return Some((None, cut));
        };
        let (tokens, source) = metered.tokens_of_answer(&body).await;
        let ending = Ending { outcome: Outcome::Succeeded, provider_status: status, status, tokens, source };
        let said = provider.dialect.provider().decode_answer(&body);
        Some((said.and_then(|answer| whole_text(answer.choices.first()?)), ending))
    }

    /// The same request, with the answer that it had and what is wrong with it.
    fn body(&self, text: String, invalid: &Invalid) -> Bytes {
        let mut request = canonical::Request { stream: false, choices: None, ..self.request.clone() };
        request.messages.push(Message { role: Role::Assistant, parts: vec![Part::text(text)] });
        request.messages.push(Message { role: Role::User, parts: vec![Part::text(invalid.repair())] });
        let provider = &self.candidate.provider;
        let model = self.catalog.model(&provider.name, &self.candidate.model);
        let target = attempt::target(&self.candidate, model.as_ref());
        let body = provider.dialect.encode_request(&request, &target, &mut canonical::Losses::default());
        attempt::fitted(body, &self.candidate)
    }
}

/// The text of a choice, if that is its answer: not where it was cut, refused, or calls tools.
pub(crate) fn whole_text(choice: &canonical::Choice) -> Option<String> {
    if !matches!(choice.finish, Finish::Stop | Finish::StopSequence(_)) {
        return None;
    }
    let texts = choice.parts.iter().filter_map(|part| match &part.content {
        Content::Text(text) => Some(text.as_str()),
        _ => None,
    });
    Some(texts.collect::<String>()).filter(|text| !text.is_empty())
}

/// Another text in place of all that was said.
pub(crate) fn replace_text(parts: &mut Vec<Part>, text: String) {
    let first = parts.iter().position(|part| matches!(part.content, Content::Text(_)));
    parts.retain(|part| !matches!(part.content, Content::Text(_)));
    let at = first.unwrap_or(parts.len()).min(parts.len());
    parts.insert(at, Part::text(text));
}
