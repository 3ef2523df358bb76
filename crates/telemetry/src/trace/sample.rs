//! Which requests are traced: a ratio of those that nobody asked about, and so many a second of those whose callers
//! did. A caller cannot fill our disks by setting a flag.

use std::time::Instant;

use parking_lot::Mutex;
use weir_types::TraceContext;

const SAMPLED: u8 = 1;

pub(super) struct Sampler {
    /// Trace ids whose lower 63 bits are below it: <https://opentelemetry.io/docs/specs/otel/trace/sdk/#traceidratiobased>.
    bound: u64,
    per_second: f64,
    asked: Mutex<Bucket>,
}

struct Bucket {
    left: f64,
    at: Instant,
}

impl Sampler {
    pub(super) fn new(ratio: f64, per_second: u32) -> Self {
        let per_second = f64::from(per_second);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "0 to 2^63, rounded"
        )]
        let bound = (ratio * (1_u64 << 63) as f64) as u64;
        Self { bound, per_second, asked: Mutex::new(Bucket { left: per_second, at: Instant::now() }) }
    }

    /// For a trace that begins here.
    pub(super) fn root(&self, root: TraceContext) -> TraceContext {
        #[expect(clippy::cast_possible_truncation, reason = "the lower bits are wanted")]
        let low = root.trace_id as u64 >> 1;
        let flags = if low < self.bound { root.flags | SAMPLED } else { root.flags & !SAMPLED };
        TraceContext { flags, ..root }
    }

    /// For a trace that a caller began.
    pub(super) fn asked(&self, inbound: TraceContext) -> TraceContext {
        if inbound.flags & SAMPLED == 0 || self.take(Instant::now()) {
            return inbound;
        }
        TraceContext { flags: inbound.flags & !SAMPLED, ..inbound }
    }

    fn take(&self, now: Instant) -> bool {
        let mut bucket = self.asked.lock();
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.left = (bucket.left + passed * self.per_second).min(self.per_second);
        bucket.at = now;
        let granted = bucket.left >= 1.0;
        if granted {
            bucket.left -= 1.0;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn trace(trace_id: u128, flags: u8) -> TraceContext {
        TraceContext { trace_id, span_id: 1, flags }
    }

    #[test]
    fn the_ratio_is_kept_for_our_own_traces() {
        let of = |ratio| {
            let sampler = Sampler::new(ratio, 0);
            (0..2_000).filter(|_| sampler.root(trace(rand::random(), 0)).flags == 1).count()
        };
        assert_eq!((of(0.0), of(1.0)), (0, 2_000));
        assert!((100..400).contains(&of(0.1)));
    }

    #[test]
    fn what_callers_ask_for_is_granted_within_bounds() {
        let sampler = Sampler::new(1.0, 3);
        assert_eq!(sampler.asked(trace(5, 0)).flags, 0, "not asked for");
        let granted = (0..10).filter(|_| sampler.asked(trace(5, 1)).flags == 1).count();
        assert!((3..=4).contains(&granted), "{granted}");
        let later = Instant::now() + Duration::from_secs(60);
        assert!(sampler.take(later) && sampler.take(later) && sampler.take(later) && !sampler.take(later));
    }
}
