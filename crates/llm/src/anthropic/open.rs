//! Which blocks of a stream are open, for whoever passes it on and may have to end it.

use std::sync::LazyLock;

use memchr::memmem::Finder;

const NAME: &[u8] = b"event: content_block_st";
static FIND: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(NAME));

/// Blocks that have begun and not ended.
#[derive(Debug, Default)]
pub struct OpenBlocks(Vec<usize>);

impl OpenBlocks {
    /// Takes note of whole events. What a text says stands on no line of its own, so it is no event.
    pub fn observe(&mut self, events: &[u8]) {
        for at in FIND.find_iter(events) {
            if at > 0 && events.get(at - 1) != Some(&b'\n') {
                continue;
            }
            let event = events.get(at + NAME.len()..).unwrap_or_default();
            let Some(index) = index(event) else { continue };
            if event.starts_with(b"art") {
                self.0.push(index);
            } else {
                self.0.retain(|open| *open != index);
            }
        }
    }

    #[must_use]
    pub fn indices(&self) -> &[usize] {
        &self.0
    }
}

fn index(event: &[u8]) -> Option<usize> {
    const INDEX: &[u8] = b"\"index\":";
    let at = memchr::memmem::find(event, INDEX)? + INDEX.len();
    let digits = event.get(at..)?.trim_ascii_start();
    let end = digits.iter().position(|b| !b.is_ascii_digit()).unwrap_or(digits.len());
    std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_open_and_close() {
        let mut open = OpenBlocks::default();
        open.observe(b"event: content_block_start\ndata: {\"index\":0}\n\nevent: content_block_delta\ndata: {\"index\":0,\"delta\":{\"text\":\"event: content_block_stop\"}}\n\n");
        open.observe(b"event: content_block_start\ndata: {\"index\": 12}\n\n");
        assert_eq!(open.indices(), [0, 12]);
        open.observe(b"event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n");
        assert_eq!(open.indices(), [12]);
    }
}
