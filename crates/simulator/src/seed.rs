//! Numbers that look random and are the same in every run.

/// The finaliser of `SplitMix64` (Steele, Lea, Flood 2014).
pub(crate) fn mix(seed: u64) -> u64 {
    let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A hash that stays the same over versions of the compiler, eight bytes at a time.
pub(crate) fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let fold = |hash: u64, word: u64| (hash.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(mix(seed), |hash, word| fold(hash, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(fold(fold(hash, u64::from_le_bytes(last)), bytes.len() as u64))
}

/// `SplitMix64`.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Below `bound`, which is above zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // Lemire's multiplication; the bias is far below anything visible here.
        u64::try_from((u128::from(self.next()) * u128::from(bound)) >> 64).unwrap_or(0)
    }

    /// In [0, 1).
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let at = usize::try_from(self.below(from.len() as u64)).unwrap_or(0);
        from[at]
    }
}

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// `prefix` and `digits` letters and digits.
pub(crate) fn id(prefix: &str, digits: usize, seed: u64) -> String {
    let mut rng = Rng::new(seed);
    let mut id = String::with_capacity(prefix.len() + digits);
    id.push_str(prefix);
    let mut left = 0;
    let mut bits = 0;
    for _ in 0..digits {
        // Ten base-62 digits fit 64 bits.
        if left == 0 {
            (bits, left) = (rng.next(), 10);
        }
        id.push(char::from(BASE62[usize::try_from(bits % 62).unwrap_or(0)]));
        bits /= 62;
        left -= 1;
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_differ_by_seed_bytes_and_length() {
        let all = [
            hash(1, b"abc"),
            hash(2, b"abc"),
            hash(1, b"abd"),
            hash(1, b"abc\0"),
            hash(1, b""),
            hash(1, b"\0"),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|b| a != b));
        }
        assert_eq!(hash(1, b"the same bytes"), hash(1, b"the same bytes"));
    }

    #[test]
    fn ids_have_their_form() {
        let id = id("chatcmpl-", 29, 7);
        assert_eq!(id.len(), 38);
        assert!(id["chatcmpl-".len()..].bytes().all(|b| b.is_ascii_alphanumeric()));
    }

    #[test]
    fn numbers_stay_below_their_bound_and_reach_every_value() {
        let mut rng = Rng::new(3);
        let mut seen = [0; 7];
        for _ in 0..7_000 {
            seen[usize::try_from(rng.below(7)).unwrap()] += 1;
            assert!((0.0..1.0).contains(&rng.unit()));
        }
        assert!(seen.iter().all(|n| (800..1_200).contains(n)), "{seen:?}");
    }
}
