//! What providers refuse, and why.

/// A provider's error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failure {
    /// HTTP status; in the middle of a stream the one its kind goes with.
    pub status: u16,
    pub message: String,
    /// The vendor's stable word for what is wrong, if it has one.
    pub code: Option<String>,
    pub param: Option<String>,
}

/// What is wrong, as far as clients tell it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// The prompt, or it and the answer, are longer than the model's context.
    ContextLength,
    /// The account has no credit left: to ask again changes nothing.
    Quota,
    RateLimit,
    ModelNotFound,
    Content,
    /// What its status says.
    Other,
}

impl Failure {
    /// By the vendor's word for it, else by what it tells people: not every vendor has a word for everything.
    #[must_use]
    pub fn wrong(&self) -> Wrong {
        match self.code.as_deref().unwrap_or_default() {
            "context_length_exceeded" => return Wrong::ContextLength,
            "insufficient_quota" | "billing_error" | "billing_hard_limit_reached" => return Wrong::Quota,
            "model_not_found" => return Wrong::ModelNotFound,
            "content_filter" | "content_policy_violation" => return Wrong::Content,
            _ => {}
        }
        let said = |phrases: &[&str]| {
            let message = self.message.to_ascii_lowercase();
            phrases.iter().any(|phrase| message.contains(phrase))
        };
        match self.status {
            400 if said(&["credit balance is too low"]) => Wrong::Quota,
            400 | 413 | 422 if said(&TOO_LONG) => Wrong::ContextLength,
            402 => Wrong::Quota,
            404 if said(&["model"]) => Wrong::ModelNotFound,
            429 if said(&["exceeded your current quota, please check your plan and billing"])
                && self.code.is_none() =>
            {
                Wrong::Quota
            }
            429 => Wrong::RateLimit,
            _ => Wrong::Other,
        }
    }
}

/// OpenAI's, Anthropic's, Google's, Mistral's, vLLM's and llama.cpp's words.
const TOO_LONG: [&str; 7] = [
    "prompt is too long",
    "maximum context length",
    "context window",
    "exceeds the maximum number of tokens",
    "too large for model with",
    "input is too long",
    "exceeds the available context size",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_read_from_words() {
        let failure = |status, message: &str, code: Option<&str>| {
            let failure =
                Failure { status, message: message.to_owned(), code: code.map(str::to_owned), param: None };
            failure.wrong()
        };
        assert_eq!(
            failure(400, "prompt is too long: 9 tokens > 8 maximum", Some("invalid_request_error")),
            Wrong::ContextLength
        );
        assert_eq!(failure(400, "Too long", Some("context_length_exceeded")), Wrong::ContextLength);
        assert_eq!(failure(400, "Your credit balance is too low to access", None), Wrong::Quota);
        assert_eq!(failure(429, "x", Some("insufficient_quota")), Wrong::Quota);
        assert_eq!(failure(429, "x", Some("requests")), Wrong::RateLimit);
        assert_eq!(failure(404, "model: claude-9", Some("not_found_error")), Wrong::ModelNotFound);
        assert_eq!(failure(404, "", None), Wrong::Other);
        assert_eq!(failure(500, "prompt is too long", None), Wrong::Other);
    }
}
