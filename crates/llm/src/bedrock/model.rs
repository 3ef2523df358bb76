//! What a model on Bedrock takes, by its id: there is no list that says it.

/// A model, as far as requests differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// By version.
    Claude(u32, u32),
    /// The first generation, which does not reason.
    Nova,
    Nova2,
    GptOss,
    /// OpenAI's own.
    OpenAi,
    /// Before there was constrained decoding.
    Plain,
    /// Any of the other vendors' newer ones.
    Other,
}

impl Kind {
    /// Of an id, an inference profile's id or its ARN.
    pub(super) fn of(id: &str) -> Self {
        let id = id.rsplit('/').next().unwrap_or(id).to_ascii_lowercase();
        if let Some((_, name)) = id.split_once("claude-") {
            // `claude-sonnet-4-5-20250929-v1:0`, `claude-3-7-sonnet-20250219-v1:0`: small numbers are the version's.
            let mut numbers =
                name.split(['-', '.', ':']).filter_map(|part| part.parse::<u32>().ok()).filter(|n| *n < 100);
            return Self::Claude(numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        }
        let has = |part: &str| id.contains(part);
        if has("amazon.nova-2") {
            Self::Nova2
        } else if has("amazon.nova") {
            Self::Nova
        } else if has("gpt-oss") {
            Self::GptOss
        } else if has("openai.") {
            Self::OpenAi
        } else if ["titan", "jurassic", "cohere", "llama", "ai21", "deepseek.r1"].into_iter().any(has) {
            Self::Plain
        } else {
            Self::Other
        }
    }

    pub(super) fn is_claude(self) -> bool {
        matches!(self, Self::Claude(..))
    }

    /// <https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html>
    pub(super) fn caches(self) -> bool {
        self.is_claude() || matches!(self, Self::Nova | Self::Nova2)
    }

    /// <https://docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html>
    pub(super) fn has_schemas(self) -> bool {
        match self {
            Self::Claude(major, minor) => (major, minor) >= (4, 5),
            Self::GptOss | Self::OpenAi | Self::Other => true,
            Self::Nova | Self::Nova2 | Self::Plain => false,
        }
    }

    /// It decides itself how much to think.
    pub(super) fn adaptive(self) -> bool {
        matches!(self, Self::Claude(major, minor) if (major, minor) >= (4, 6))
    }

    /// It takes neither budgets nor sampling parameters: <https://platform.claude.com/docs/en/api/migration-2026-10-21>.
    pub(super) fn fixed(self) -> bool {
        matches!(self, Self::Claude(major, minor) if (major, minor) >= (4, 7))
    }

    /// It thinks within a budget.
    pub(super) fn budgeted(self) -> bool {
        matches!(self, Self::Claude(major, minor) if (3, 7) <= (major, minor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_profiles_and_arns_are_told_apart() {
        for (id, kind) in [
            ("anthropic.claude-3-7-sonnet-20250219-v1:0", Kind::Claude(3, 7)),
            ("us.anthropic.claude-sonnet-4-20250514-v1:0", Kind::Claude(4, 0)),
            ("global.anthropic.claude-opus-4-6-v1", Kind::Claude(4, 6)),
            (
                "arn:aws:bedrock:us-east-1:1:inference-profile/eu.anthropic.claude-haiku-4-5-20251001-v1:0",
                Kind::Claude(4, 5),
            ),
            ("us.amazon.nova-pro-v1:0", Kind::Nova),
            ("amazon.nova-2-lite-v1:0", Kind::Nova2),
            ("openai.gpt-oss-120b-1:0", Kind::GptOss),
            ("us.openai.gpt-5.6-sol", Kind::OpenAi),
            ("meta.llama3-1-70b-instruct-v1:0", Kind::Plain),
            ("qwen.qwen3-32b-v1:0", Kind::Other),
        ] {
            assert_eq!(Kind::of(id), kind, "{id}");
        }
    }
}
