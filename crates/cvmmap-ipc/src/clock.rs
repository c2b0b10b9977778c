// SPDX-License-Identifier: MPL-2.0

//! The Unix clock that live producers stamp their frames with.

use std::time::{SystemTime, UNIX_EPOCH};

/// Stamps further than this from our clock were not taken from it (media time, another epoch).
const SAME_CLOCK_NS: u64 = 60_000_000_000;
/// 2000-01-01 to 2100-01-01: stamps outside count media time, or nothing at all.
const UNIX_STAMPS_NS: std::ops::Range<u64> = 946_684_800_000_000_000..4_102_444_800_000_000_000;

/// Unix time in ns.
pub fn unix_now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// Whether a stamp was taken from this machine's Unix clock around `now_ns`.
pub fn is_same_clock(stamp_ns: u64, now_ns: u64) -> bool {
    stamp_ns.abs_diff(now_ns) < SAME_CLOCK_NS
}

/// Whether a stamp is a Unix time at all, of now or of a recording.
pub fn is_unix_time(stamp_ns: u64) -> bool {
    UNIX_STAMPS_NS.contains(&stamp_ns)
}
