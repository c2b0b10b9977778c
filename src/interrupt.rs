// SPDX-License-Identifier: MPL-2.0

//! SIGINT and SIGTERM: the first asks for an end, the second ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::{Exit, Failure, configuration};

/// Who sends a signal to a process and then to its group, as `timeout` does, means one.
const SAME: Duration = Duration::from_millis(20);

/// From now on the flag tells whether a signal came.
///
/// # Errors
/// What the system says.
pub fn listen() -> Result<Arc<AtomicBool>, Failure> {
    let flag = Arc::new(AtomicBool::new(false));
    let told = flag.clone();
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(configuration)?;
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
