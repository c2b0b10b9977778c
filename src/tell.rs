// SPDX-License-Identifier: MPL-2.0

//! Results for stdout and talk for stderr: whoever reads them may have seen enough and closed the pipe, which ends
//! nothing but a stream of results. `println!` and `eprintln!` panic there.

use std::fmt::Display;
use std::io::Write;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A line of what was asked for; whether stdout took it.
pub fn result(line: impl Display) -> bool {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).is_ok()
}

/// Whether nobody reads stdout any more: what has nothing to say for a while would not learn it by writing.
pub fn is_closed() -> bool {
    let out = std::io::stdout();
    let mut fds = [PollFd::new(&out, PollFlags::empty())];
    let polled = poll(&mut fds, Some(&Timespec::default()));
    polled.is_ok_and(|_| fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP))
}

/// A line about it.
pub fn talk(line: impl Display) {
    // One write: lines of several threads or processes may meet in one log.
    let _ = std::io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}
