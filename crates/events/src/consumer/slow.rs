//! Messages whose handler took too long: each time in half the company, so that others get through, until the one that is
//! the reason is alone.

use std::collections::HashMap;

/// So often alone it may be the fault of what the handler needs; from then on it is the message's.
const FORGIVEN: u32 = 2;
/// Messages remembered.
const MAX: usize = 100_000;

#[derive(Debug, Clone, Copy)]
struct Suspect {
    /// With how many it may be handled at once, itself included.
    company: usize,
    /// How often it was alone and took too long.
    alone: u32,
}

/// By stream sequence.
#[derive(Debug, Default)]
pub(super) struct Slow(HashMap<u64, Suspect>);

impl Slow {
    /// Those to handle together. Those above suspicion come first, the worst last.
    pub(super) fn groups<T>(&self, mut items: Vec<T>, sequence: impl Fn(&T) -> u64) -> Vec<Vec<T>> {
        if self.0.is_empty() {
            return vec![items];
        }
        let company = |item: &T| self.0.get(&sequence(item)).map_or(usize::MAX, |s| s.company);
        let alone = |item: &T| self.0.get(&sequence(item)).map_or(0, |s| s.alone);
        items.sort_by_key(|item| (std::cmp::Reverse(company(item)), alone(item)));
        let mut groups: Vec<Vec<T>> = Vec::new();
        for item in items {
            let company_of_it = company(&item);
            match groups.last_mut() {
                Some(group)
                    if group.len() < company_of_it
                        && group.first().is_some_and(|first| company(first) == company_of_it) =>
                {
                    group.push(item);
                }
                _ => groups.push(vec![item]),
            }
        }
        groups
    }

    /// They were handled together and it took too long. True if there is nobody else to blame.
    pub(super) fn took_too_long(&mut self, sequences: &[u64]) -> bool {
        if self.0.len() + sequences.len() > MAX {
            self.0.clear();
        }
        let company = sequences.len().div_ceil(2);
        let mut guilty = false;
        for sequence in sequences {
            let suspect = self.0.entry(*sequence).or_insert(Suspect { company, alone: 0 });
            suspect.company = suspect.company.min(company);
            if sequences.len() == 1 {
                suspect.alone += 1;
                guilty = suspect.alone > FORGIVEN;
            }
        }
        guilty
    }

    pub(super) fn settled(&mut self, sequence: u64) {
        self.0.remove(&sequence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_alone_after_a_few_halvings_and_others_go_first() {
        let mut slow = Slow::default();
        let mut rounds = 0;
        let mut waiting: Vec<u64> = (0..500).collect();
        loop {
            rounds += 1;
            // New ones keep coming: they are not held up.
            waiting.push(1_000 + rounds);
            let mut guilty = false;
            for group in slow.groups(waiting.clone(), |s| *s) {
                if group.contains(&77) {
                    guilty = slow.took_too_long(&group);
                    break;
                }
                group.iter().for_each(|s| slow.settled(*s));
                waiting.retain(|s| !group.contains(s));
            }
            assert!(rounds == 1 || !waiting.contains(&(1_000 + rounds)), "round {rounds}");
            if guilty {
                break;
            }
        }
        assert_eq!((rounds, waiting), (9 + 1 + u64::from(FORGIVEN), vec![77]));
    }
}
