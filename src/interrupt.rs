// SPDX-License-Identifier: MPL-2.0

//! SIGINT, SIGTERM and SIGHUP: the first asks for an end, the second ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use crate::exit::{Exit, Failure, configuration};

/// Who sends a signal to a process and then to its group, as `timeout` does, means one.
const SAME: Duration = Duration::from_millis(20);

/// From now on the flag tells whether a signal came. A file that may grow no further is from now on what a write says,
/// and not the end of the process.
///
/// # Errors
/// What the system says.
pub fn listen() -> Result<Arc<AtomicBool>, Failure> {
    let flag = Arc::new(AtomicBool::new(false));
    let told = flag.clone();
    signal_hook::flag::register(SIGXFSZ, Arc::default()).map_err(configuration)?;
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(configuration)?;
    // Under nohup, a terminal that closes means nothing.
    if !is_ignored(SIGHUP) {
        signals.add_signal(SIGHUP).map_err(configuration)?;
    }
    std::thread::spawn(move || {
        let mut first: Option<Instant> = None;
        for _ in signals.forever() {
            if first.get_or_insert_with(Instant::now).elapsed() > SAME {
                // Without the handlers of exit, which may wait for a thread that hangs.
                signal_hook::low_level::exit(i32::from(Exit::Interrupted as u8));
            }
            told.store(true, Ordering::Relaxed);
        }
    });
    Ok(flag)
}

/// Whether whoever started us has a signal ignored.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
