//! What may go wrong, by configuration or by a call's own wish (`x_sim`).

use serde::{Deserialize, Serialize};

use crate::seed::{Rng, hash};

/// Faults of a call. A field that is absent is no fault. The README says what each does and which goes first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Share of calls that have the other fields, 0 to 1; all if absent. Not in `x_sim`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Which calls those are: the same ones, by their order, for the same seed. Not in `x_sim`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Answer with this HTTP status and an error; 200 is no fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Seconds in the `retry-after` header of an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// Close the connection before any byte of an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refuse: Option<bool>,
    /// Never answer; with `cut_after`: fall silent there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hang: Option<bool>,
    /// Milliseconds before anything is answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<u64>,
    /// Milliseconds between tokens; an answer that isn't streamed takes as long as all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_ms: Option<u64>,
    /// Break the connection after this many tokens of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut_after: Option<u64>,
    /// How many tokens the answer has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Break the JSON of the answer, halfway through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub malformed: Option<bool>,
    /// Never say the usage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_usage: Option<bool>,
    /// End a stream in order, without its finish and its terminal event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_end: Option<bool>,
    /// Milliseconds of silence within the answer, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_ms: Option<u64>,
    /// Tokens before that silence; 1 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_after: Option<u64>,
    /// Send a stream in pieces of so many bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk_bytes: Option<usize>,
    /// What is answered, in place of what would be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Say something before calls of tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preamble: Option<bool>,
    /// Redact the thoughts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redacted: Option<bool>,
    /// Decline to answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<bool>,
    /// Break the schema that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub off_schema: Option<Often>,
}

/// How often something goes wrong in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Often {
    /// Until the conversation has an assistant's message.
    Once,
    Always,
}

impl Faults {
    /// # Errors
    /// A field out of its range, as a sentence that names it.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.rate.is_some_and(|rate| !(0.0..=1.0).contains(&rate)) {
            return Err("rate must be between 0 and 1".into());
        }
        if self.chunk_bytes == Some(0) {
            return Err("chunk_bytes must be above 0".into());
        }
        if self.status.is_some_and(|status| status != 200 && !(400..=599).contains(&status)) {
            return Err("status must be 200 or between 400 and 599".into());
        }
        Ok(())
    }

    /// What a call wishes for itself.
    ///
    /// # Errors
    /// As a sentence.
    pub(crate) fn wish(json: &str) -> Result<Self, String> {
        let wish: Self = serde_json::from_str(json).map_err(|error| error.to_string())?;
        wish.check()?;
        if wish.rate.is_some() || wish.seed.is_some() {
            return Err("rate and seed belong to the configuration".into());
        }
        Ok(wish)
    }

    /// Whether the `call`th call has these faults.
    pub(crate) fn strikes(&self, call: u64) -> bool {
        match self.rate {
            None => true,
            Some(rate) => Rng::new(hash(self.seed.unwrap_or(0), &call.to_le_bytes())).unit() < rate,
        }
    }

    /// Field by field, `wish` before `self`.
    pub(crate) fn overridden_by(self, wish: Self) -> Self {
        Self {
            rate: None,
            seed: None,
            status: wish.status.or(self.status),
            retry_after: wish.retry_after.or(self.retry_after),
            refuse: wish.refuse.or(self.refuse),
            hang: wish.hang.or(self.hang),
            first_token_ms: wish.first_token_ms.or(self.first_token_ms),
            token_ms: wish.token_ms.or(self.token_ms),
            cut_after: wish.cut_after.or(self.cut_after),
            tokens: wish.tokens.or(self.tokens),
            malformed: wish.malformed.or(self.malformed),
            no_usage: wish.no_usage.or(self.no_usage),
            no_end: wish.no_end.or(self.no_end),
            pause_ms: wish.pause_ms.or(self.pause_ms),
            pause_after: wish.pause_after.or(self.pause_after),
            chunk_bytes: wish.chunk_bytes.or(self.chunk_bytes),
            text: wish.text.or(self.text),
            preamble: wish.preamble.or(self.preamble),
            redacted: wish.redacted.or(self.redacted),
            refusal: wish.refusal.or(self.refusal),
            off_schema: wish.off_schema.or(self.off_schema),
        }
    }

    /// The status of the error to answer with.
    pub(crate) fn error_status(&self) -> Option<u16> {
        self.status.filter(|status| *status != 200)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_strikes_the_same_calls_at_the_rate_asked() {
        let faults = Faults { rate: Some(0.1), seed: Some(5), ..Faults::default() };
        let struck: Vec<_> = (0..10_000).filter(|call| faults.strikes(*call)).collect();
        assert!((900..1_100).contains(&struck.len()), "{}", struck.len());
        assert_eq!(struck, (0..10_000).filter(|call| faults.strikes(*call)).collect::<Vec<_>>());
        let other = Faults { seed: Some(6), ..faults };
        assert_ne!(struck, (0..10_000).filter(|call| other.strikes(*call)).collect::<Vec<_>>());
        let never = Faults { rate: Some(0.0), ..Faults::default() };
        assert!(!(0..1_000).any(|call| never.strikes(call)));
    }

    #[test]
    fn a_wish_goes_before_the_configuration() {
        let configured =
            Faults { status: Some(500), token_ms: Some(3), refuse: Some(true), ..Faults::default() };
        let wish = Faults { status: Some(200), refuse: Some(false), ..Faults::default() };
        let faults = configured.overridden_by(wish);
        assert_eq!(faults.error_status(), None);
        assert_eq!((faults.refuse, faults.token_ms), (Some(false), Some(3)));
    }

    #[test]
    fn ranges_are_checked() {
        assert!(Faults { rate: Some(1.5), ..Faults::default() }.check().is_err());
        assert!(Faults { status: Some(302), ..Faults::default() }.check().is_err());
        assert!(serde_json::from_str::<Faults>(r#"{"statsu":500}"#).is_err());
    }
}
