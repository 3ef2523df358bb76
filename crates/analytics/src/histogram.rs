//! A histogram of durations with eight buckets a power of two: what a bucket stands for is off by at most 1/16.

/// Buckets of eight and more microseconds start here; below, each microsecond has its own.
const EXACT: u64 = 8;

/// The bucket of a duration; at most 495.
pub(crate) fn bucket(us: u64) -> i16 {
    if us < EXACT {
        return i16::try_from(us).unwrap_or(0);
    }
    let power = us.ilog2();
    let part = (us >> (power - 3)) & 7;
    let index = u64::from(power - 2) * 8 + part;
    i16::try_from(index).unwrap_or(i16::MAX)
}

/// The middle of a bucket.
fn middle(bucket: i16) -> u64 {
    let index = u64::try_from(bucket).unwrap_or(0);
    if index < EXACT {
        return index;
    }
    let (power, part) = (index / 8 + 2, index % 8);
    let width = 1u64 << (power - 3);
    ((8 + part) << (power - 3)).saturating_add(width / 2)
}

/// The duration that this many per cent of all do not exceed. `buckets` are ordered, with their counts; 0 when empty.
pub(crate) fn percentile(buckets: &[(i16, u64)], percent: u64) -> u64 {
    let total: u64 = buckets.iter().map(|(_, count)| count).sum();
    let rank = (total * percent).div_ceil(100).max(1);
    let mut seen = 0;
    for (bucket, count) in buckets {
        seen += count;
        if seen >= rank {
            return middle(*bucket);
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_close_to_its_buckets_middle() {
        let mut last = -1;
        for us in (0..100_000).chain((17..63).flat_map(|p| [(1 << p) - 1, 1 << p, (1 << p) + (1 << (p - 1))]))
        {
            let bucket = bucket(us);
            assert!(bucket >= last, "{us}: buckets grow with the duration");
            last = bucket;
            let off = middle(bucket).abs_diff(us);
            assert!(off * 16 <= us, "{us} became {}", middle(bucket));
        }
        assert_eq!(bucket(u64::MAX), 495);
    }

    #[test]
    fn percentiles_of_known_data() {
        assert_eq!(percentile(&[], 50), 0);
        assert_eq!(percentile(&[(3, 1)], 1), 3);
        let exact: Vec<_> = (1..=7).map(|n| (n, 1)).collect();
        assert_eq!((percentile(&exact, 50), percentile(&exact, 99)), (4, 7));
        let mut counts = std::collections::BTreeMap::new();
        for us in 1..=10_000u64 {
            *counts.entry(bucket(us)).or_insert(0) += 1;
        }
        let counts: Vec<_> = counts.into_iter().collect();
        for (percent, truth) in [(50, 5_000u64), (95, 9_500), (99, 9_900)] {
            let told = percentile(&counts, percent);
            assert!(told.abs_diff(truth) * 100 < truth * 7, "p{percent}: {told}");
        }
    }
}
