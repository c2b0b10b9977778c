// SPDX-License-Identifier: MPL-2.0

//! When a server is tried again, and when no more.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(5);
/// What was published for so long was no failed attempt.
const GOOD: Duration = Duration::from_secs(10);

/// Failures in a row.
#[derive(Debug)]
pub struct Retry {
    limit: Option<u32>,
    failures: u32,
}

impl Retry {
    /// `limit` failures in a row are followed by another attempt; `None` = any number.
    pub fn new(limit: Option<u32>) -> Self {
        Self { limit, failures: 0 }
    }

    /// A connection ended that had published for `published`: how long to wait for the next; `None` = no more.
    pub fn after(&mut self, published: Duration) -> Option<Duration> {
        if published >= GOOD {
            self.failures = 0;
        }
        self.failures += 1;
        if self.limit.is_some_and(|limit| self.failures > limit) {
            return None;
        }
        Some(FIRST.saturating_mul(1 << (self.failures - 1).min(16)).min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_five_seconds() {
        let mut retry = Retry::new(None);
        let waits: Vec<_> = (0..8).map(|_| retry.after(Duration::ZERO).unwrap().as_millis()).collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 5000, 5000, 5000]);
        assert_eq!(retry.after(GOOD), Some(FIRST), "a server that was good for a while is tried at once");
        assert!((0..1000).all(|_| retry.after(Duration::ZERO).is_some()));
    }

    #[test]
    fn the_limit_counts_failures_in_a_row() {
        let mut retry = Retry::new(Some(2));
        assert!(retry.after(Duration::ZERO).is_some() && retry.after(Duration::ZERO).is_some());
        assert!(retry.after(GOOD).is_some(), "it begins anew");
        assert!(retry.after(Duration::ZERO).is_some() && retry.after(Duration::ZERO).is_none());
        assert_eq!(Retry::new(Some(0)).after(Duration::ZERO), None);
    }
}
