//! The prompt cache: which beginnings of prompts were seen before in this process.
//!
//! What can't be known without a vendor's tokenizer is shared out by length: a beginning's tokens are the prompt's, as
//! its bytes are to the prompt's bytes.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::{answer::Cache, models::Model, request::Conversation, seed::hash};

/// Beginnings remembered; then all are forgotten.
const MOST: usize = 1 << 16;
/// As OpenAI has it: <https://platform.openai.com/docs/guides/prompt-caching>.
const LEAST_IMPLICIT: u64 = 1_024;
const STEP: u64 = 128;
/// Blocks before a mark that are looked at for something cached, as Anthropic has it.
const LOOK_BACK: usize = 20;
/// Tokens of a marked prompt that are never cached: who speaks next.
const NEVER: u64 = 3;
pub(crate) const FIVE_MINUTES_MS: i64 = 300_000;
pub(crate) const HOUR_MS: i64 = 3_600_000;

/// A place in a prompt where a block ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    /// Of all before it.
    pub(crate) digest: u64,
    /// Bytes of all before it.
    pub(crate) bytes: usize,
    /// To be cached up to here, for so long.
    pub(crate) ttl_ms: Option<i64>,
}

/// Beginnings, and when they are forgotten (Unix milliseconds).
#[derive(Debug, Default)]
pub(crate) struct PromptCache(Mutex<HashMap<u64, i64>>);

impl PromptCache {
    /// A long prompt is cached message by message, without being asked.
    pub(crate) fn implicit(
        &self,
        talk: &Conversation,
        model: &Model,
        prompt_tokens: u64,
        now_ms: i64,
    ) -> Cache {
        let Some(&(_, all)) = talk.ends.last() else { return Cache::default() };
        if prompt_tokens < LEAST_IMPLICIT || all == 0 {
            return Cache::default();
        }
        let mut known = self.0.lock();
        let key = |digest: u64| hash(digest, model.id.as_bytes());
        let seen = |digest: u64| known.get(&key(digest)).is_some_and(|until| *until > now_ms);
        let read = talk.ends.iter().rev().find(|(digest, _)| seen(*digest)).map_or(0, |(_, bytes)| *bytes);
        for (digest, _) in &talk.ends {
            remember(&mut known, key(*digest), now_ms + HOUR_MS);
        }
        let read = share(prompt_tokens, read, all) / STEP * STEP;
        let read = if read < LEAST_IMPLICIT { 0 } else { read };
        let written = if model.writes_cache { prompt_tokens / STEP * STEP - read } else { 0 };
        Cache { read, written, ..Cache::default() }
    }

    /// A prompt is cached where it is marked, if there are at least `least` tokens.
    pub(crate) fn explicit(&self, ends: &[End], prompt_tokens: u64, least: u64, now_ms: i64) -> Cache {
        let all = ends.last().map_or(0, |end| end.bytes);
        let tokens =
            |end: &End| share(prompt_tokens, end.bytes, all).min(prompt_tokens.saturating_sub(NEVER));
        let Some(last) = ends.iter().rposition(|end| end.ttl_ms.is_some() && tokens(end) >= least) else {
            return Cache::default();
        };
        let mut known = self.0.lock();
        let from = (last + 1).saturating_sub(LOOK_BACK);
        let seen = |end: &End| known.get(&end.digest).is_some_and(|until| *until > now_ms);
        let read = ends[from..=last].iter().rev().find(|end| seen(end)).map_or(0, tokens);
        let mut cache = Cache { read, ..Cache::default() };
        let mut told = read;
        for end in &ends[..=last] {
            let Some(ttl) = end.ttl_ms.filter(|_| tokens(end) >= least) else { continue };
            let more = tokens(end).saturating_sub(told);
            if ttl == HOUR_MS {
                cache.written_1h += more;
            } else {
                cache.written += more;
            }
            told += more;
            remember(&mut known, end.digest, now_ms + ttl);
        }
        cache
    }
}

fn remember(known: &mut HashMap<u64, i64>, key: u64, until: i64) {
    if known.len() >= MOST {
        known.clear();
    }
    let known = known.entry(key).or_default();
    *known = until.max(*known);
}

fn share(tokens: u64, bytes: usize, all: usize) -> u64 {
    let share = u128::from(tokens) * bytes as u128 / (all as u128).max(1);
    u64::try_from(share).unwrap_or(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Catalogue;

    #[test]
    fn a_long_beginning_is_read_the_second_time_only() {
        let cache = PromptCache::default();
        let talk =
            |last: u64| Conversation { ends: vec![(1, 9_000), (last, 10_000)], ..Conversation::default() };
        let models = Catalogue::new(&[]);
        let ask = |last, model, now| cache.implicit(&talk(last), models.get(model).unwrap(), 2_000, now);
        let read = |last, model, now| ask(last, model, now).read;
        assert_eq!(read(2, "gpt-4o", 0), 0);
        assert_eq!(read(2, "gpt-4o", 1), 1_920);
        assert_eq!(read(3, "gpt-4o", 1), 1_792);
        assert_eq!(read(3, "sim-large", 1), 0);
        assert_eq!(read(3, "gpt-4o", 2 * HOUR_MS), 0);
        assert_eq!(cache.implicit(&talk(2), models.get("gpt-4o").unwrap(), 1_000, 1), Cache::default());
        assert_eq!(ask(2, "gpt-5.6-sol", 1).written, 1_920);
        assert_eq!(ask(3, "gpt-5.6-sol", 1), Cache { read: 1_792, written: 128, written_1h: 0 });
    }

    #[test]
    fn marks_are_written_once_and_read_after() {
        let cache = PromptCache::default();
        let end = |digest, bytes, ttl_ms| End { digest, bytes, ttl_ms };
        let first = [end(1, 4_000, Some(HOUR_MS)), end(2, 6_000, Some(FIVE_MINUTES_MS)), end(3, 8_000, None)];
        let ask = |ends: &[End], now| cache.explicit(ends, 2_000, 900, now);
        assert_eq!(ask(&first, 0), Cache { read: 0, written: 500, written_1h: 1_000 });
        assert_eq!(ask(&first, 1), Cache { read: 1_500, written: 0, written_1h: 0 });
        // The next turn is marked further on.
        let next = [end(1, 4_000, None), end(2, 6_000, None), end(4, 8_000, Some(FIVE_MINUTES_MS))];
        assert_eq!(ask(&next, 2), Cache { read: 1_500, written: 497, written_1h: 0 });
        assert_eq!(ask(&first, FIVE_MINUTES_MS + 2), Cache { read: 1_000, written: 500, written_1h: 0 });
        assert_eq!(cache.explicit(&first, 1_000, 900, 2), Cache::default());
    }
}
