// SPDX-License-Identifier: MPL-2.0

//! `cvmmap-streamer rtp-receive` and `rtmp-receive`: receivers that check, for tests, what a streamer sends.
//!
//! Both are made of a judge of bytes without I/O ([`packets`], [`judge`]), a decoder that the judged video goes
//! through ([`pictures`]), and a loop around a socket ([`rtp`], [`rtmp`]). Here is what the two share: how long they
//! receive, what they hold against the sender, and how that becomes an exit code.

mod config;
mod judge;
mod nal;
mod packets;
mod pictures;
pub mod rtmp;
pub mod rtp;
mod sdp;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

pub use self::nal::Codec;
use crate::exit::{Exit, Failure, configuration};
use crate::{interrupt, tell};

/// Sockets are read in pieces of this length, so that deadlines and signals are seen.
const NAP: Duration = Duration::from_millis(20);
/// Errors that are kept with their text.
const ERRORS_SHOWN: usize = 8;

/// How long to receive, and what to write down.
#[derive(Debug, Clone, clap::Args)]
struct Limits {
    /// Time for reaching the threshold, in milliseconds; with --duration-ms, for the first packet or publisher
    #[arg(long, default_value_t = 10_000, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout_ms: u64,
    /// Receive until this many milliseconds after the start, then judge; without it, the first error or the threshold
    /// is the end
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    duration_ms: Option<u64>,
    /// Write one JSON line per decoded picture to this file
    #[arg(long, value_name = "FILE")]
    frames_log: Option<PathBuf>,
}

/// What is wrong with what came, and the exit code it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Breach {
    exit: Exit,
    what: String,
}

impl Breach {
    fn protocol(what: impl Into<String>) -> Self {
        Self { exit: Exit::Protocol, what: what.into() }
    }
}

/// What the sender did wrong.
#[derive(Debug, Default, Serialize)]
struct Findings {
    /// How many errors there were.
    error_count: u64,
    /// The first of them.
    errors: Vec<String>,
    /// Of the first one, which decides.
    #[serde(skip)]
    exit: Option<Exit>,
}

impl Findings {
    fn add(&mut self, breach: Breach) {
        self.error_count += 1;
        self.exit.get_or_insert(breach.exit);
        if self.errors.len() < ERRORS_SHOWN {
            tell::talk(format_args!("found: {}", breach.what));
            self.errors.push(breach.what);
        }
    }

    fn extend(&mut self, breaches: impl IntoIterator<Item = Breach>) {
        breaches.into_iter().for_each(|breach| self.add(breach));
    }
}

/// What of the summary decides, beside the findings.
struct Reached {
    /// `packets`, `video frames`
    what: &'static str,
    got: u64,
    wanted: u64,
    /// A packet, or a publisher, came at all.
    begun: bool,
    /// Those that are not damaged.
    pictures: u64,
}

impl Reached {
    /// The threshold, and an undamaged picture.
    fn enough(&self) -> bool {
        self.got >= self.wanted && self.pictures > 0
    }
}

/// The one place where what was seen becomes success or an exit code.
fn verdict(findings: &Findings, reached: &Reached) -> Result<(), Failure> {
    let Reached { what, got, wanted, begun, pictures } = reached;
    if let Some(exit) = findings.exit {
        let more = match findings.error_count {
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        return Err(Failure::new(exit, format!("{}{more}", findings.errors[0])));
    }
    if !begun {
        return Err(Failure::new(Exit::Timeout, format!("nothing came: 0 {what}")));
    }
    if got < wanted {
        return Err(Failure::new(
            Exit::Threshold,
            format!("{got} {what}, fewer than the {wanted} asked for"),
        ));
    }
    if *pictures == 0 {
        return Err(Failure::new(
            Exit::Protocol,
            format!("{got} {what} came, but no picture was decoded undamaged"),
        ));
    }
    Ok(())
}

/// When to end.
struct Watch {
    started: Instant,
    timeout: Duration,
    duration: Option<Duration>,
    stop: Arc<AtomicBool>,
}

impl Watch {
    /// Starts the clock, and listens to SIGINT and SIGTERM; the second one ends the process at once.
    fn start(limits: &Limits) -> Result<Self, Failure> {
        let stop = interrupt::listen()?;
        Ok(Self {
            started: Instant::now(),
            timeout: Duration::from_millis(limits.timeout_ms),
            duration: limits.duration_ms.map(Duration::from_millis),
            stop,
        })
    }

    fn over(&self, findings: &Findings, reached: &Reached) -> bool {
        let elapsed = self.started.elapsed();
        if self.stop.load(Ordering::Relaxed) {
            return true;
        }
        match self.duration {
            Some(duration) => elapsed >= duration || (!reached.begun && elapsed >= self.timeout),
            None => elapsed >= self.timeout || findings.exit.is_some() || reached.enough(),
        }
    }

    /// Sleeps without outliving a signal or the time for receiving.
    fn sleep(&self, time: Duration) {
        let deadline = self.duration.unwrap_or(self.timeout);
        let end = Instant::now() + time.min(deadline.saturating_sub(self.started.elapsed()));
        while !self.stop.load(Ordering::Relaxed) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(NAP));
        }
    }
}

/// Prints the summary, whose `exit` is what the process will end with.
fn conclude(
    verdict: Result<(), Failure>,
    summary: impl FnOnce(u8) -> serde_json::Value,
) -> Result<(), Failure> {
    let exit = verdict.as_ref().err().map_or(0, |failure| failure.exit as u8);
    tell::result(summary(exit));
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_decides_then_silence_then_the_threshold_then_the_pictures() {
        let reached = |begun, got, pictures| Reached { what: "packets", got, wanted: 10, begun, pictures };
        let exit = |findings: &Findings, reached| verdict(findings, &reached).err().map(|error| error.exit);
        let mut findings = Findings::default();
        assert_eq!(exit(&findings, reached(true, 10, 1)), None);
        assert_eq!(exit(&findings, reached(false, 0, 0)), Some(Exit::Timeout));
        assert_eq!(exit(&findings, reached(true, 9, 1)), Some(Exit::Threshold));
        assert_eq!(exit(&findings, reached(true, 10, 0)), Some(Exit::Protocol));
        findings.add(Breach { exit: Exit::PayloadType, what: "first".into() });
        findings.extend((0..20).map(|n| Breach::protocol(n.to_string())));
        assert_eq!(exit(&findings, reached(false, 0, 0)), Some(Exit::PayloadType));
        assert_eq!((findings.error_count, findings.errors.len()), (21, ERRORS_SHOWN));
        let said = verdict(&findings, &reached(true, 10, 1)).unwrap_err().to_string();
        assert_eq!(said, "first (and 20 more)");
    }
}
