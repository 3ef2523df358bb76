//! Who calls, and how much they may: key cache and token buckets.
