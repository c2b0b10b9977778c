// SPDX-License-Identifier: MPL-2.0

//! Results for stdout and talk for stderr: whoever reads them may have seen enough and closed the pipe, which ends
//! nothing. `println!` and `eprintln!` panic there.

use std::fmt::Display;
use std::io::Write;

/// A line of what was asked for.
pub fn result(line: impl Display) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// A line about it.
pub fn talk(line: impl Display) {
    // One write: lines of several threads or processes may meet in one log.
    let _ = std::io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}
