//! The host's clock, for what may depend on it: freshness of archive metadata, tokens, bounded waits. Never an image.

/// Seconds since 1970-01-01 00:00 UTC by the host's clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
