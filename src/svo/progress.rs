// SPDX-License-Identifier: MPL-2.0

//! How far a conversion is: a bar on a terminal, a line now and then in a log.

use std::fmt::Write;
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressState, ProgressStyle};

use super::convert::{Control, Event};
use crate::exit::Failure;
use crate::{interrupt, tell};

/// As wide as the terminal.
const STYLE: &str = "{msg} {percent:>3}%|{wide_bar}| {pos}/{len} [{elapsed}<{eta}, {rate}/s]";
/// Of a name as much is shown, in characters.
const NAME: usize = 24;
/// In a log: as many percent from line to line, or after so long a time, but not too often.
const STEP_PERCENT: u64 = 10;
const AT_LEAST_EVERY: Duration = Duration::from_secs(60);
const AT_MOST_EVERY: Duration = Duration::from_secs(10);

/// Shows it on stderr.
pub enum Progress {
    /// On a terminal.
    Bar(ProgressBar),
    /// In a log.
    Lines(Lines),
}

/// When the next line is due.
pub struct Lines {
    name: String,
    /// What is counted, and how finely.
    unit: &'static str,
    parts: u64,
    started: Instant,
    told: Instant,
    told_percent: u64,
}

/// Does something that a signal ends, and shows how far `output` is.
///
/// # Errors
/// What comes of it.
pub(super) fn told<T>(
    output: &Path,
    make: impl FnOnce(&mut Control<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let cancelled = interrupt::listen()?;
    let name = output.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut progress = Progress::new(&name);
    let mut events = |event| match event {
        Event::Progress { done, total } => progress.update(done, total),
        Event::Notice(text) => progress.talk(&text),
    };
    let made = make(&mut Control { events: &mut events, cancelled: &cancelled });
    progress.close();
    made
}

impl Progress {
    /// Of something with a name.
    pub fn new(name: &str) -> Self {
        if std::io::stderr().is_terminal() {
            return Self::Bar(bar(name));
        }
        Self::Lines(Lines::new(name, "frames", 1))
    }

    /// So many frames of all are done.
    pub fn update(&mut self, done: u64, total: u64) {
        match self {
            Self::Bar(bar) => {
                bar.set_length(total);
                bar.set_position(done);
            }
            Self::Lines(lines) => {
                if let Some(line) = lines.line(Instant::now(), done, total) {
                    tell::talk(line);
                }
            }
        }
    }

    /// A line about it.
    pub fn talk(&self, line: &str) {
        match self {
            Self::Bar(bar) => bar.suspend(|| tell::talk(line)),
            Self::Lines(_) => tell::talk(line),
        }
    }

    /// Leaves the terminal as it was.
    pub fn close(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// A bar that counts frames.
pub(super) fn bar(name: &str) -> ProgressBar {
    let rate = |state: &ProgressState, out: &mut dyn Write| {
        let _ = write!(out, "{:.1}", state.per_sec());
    };
    let end: String = match name.chars().count() {
        0..=NAME => name.to_owned(),
        many => std::iter::once('…').chain(name.chars().skip(many - NAME + 1)).collect(),
    };
    ProgressBar::no_length().with_style(style(STYLE).with_key("rate", rate)).with_message(end)
}

/// How all bars look.
pub(super) fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("a valid template");
    style.progress_chars("█▉▊▋▌▍▎▏ ")
}

impl Lines {
    /// Of something with a name, which counts units in so many parts of one.
    pub(super) fn new(name: &str, unit: &'static str, parts: u64) -> Self {
        let now = Instant::now();
        Self { name: name.to_owned(), unit, parts, started: now, told: now, told_percent: 0 }
    }

    /// The line that is due now, if one is.
    pub(super) fn line(&mut self, now: Instant, done: u64, total: u64) -> Option<String> {
        let percent = done * 100 / total.max(1);
        let since = now.duration_since(self.told);
        let due = percent >= self.told_percent + STEP_PERCENT || since >= AT_LEAST_EVERY;
        if !due || since < AT_MOST_EVERY || done == 0 || done >= total {
            return None;
        }
        (self.told, self.told_percent) = (now, percent);
        let elapsed = now.duration_since(self.started);
        let rate = done as f64 / elapsed.as_secs_f64();
        let left = HumanDuration(Duration::from_secs_f64((total - done) as f64 / rate));
        let (unit, [done, total]) = (self.unit, [done, total].map(|parts| parts / self.parts));
        let rate = rate / self.parts as f64;
        Some(format!("{}: {percent} %, {done} of {total} {unit}, {rate:.1}/s, {left} left", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_gets_a_line_now_and_then() {
        let start = Instant::now();
        let mut lines = Lines { started: start, told: start, ..Lines::new("a", "frames", 1) };
        let mut at = |seconds, done| lines.line(start + Duration::from_secs(seconds), done, 1000);
        assert_eq!(at(5, 300), None, "not too often");
        assert_eq!(at(10, 500).unwrap(), "a: 50 %, 500 of 1000 frames, 50.0/s, 10 seconds left");
        assert_eq!(at(25, 550), None, "little has changed");
        assert!(at(30, 600).is_some());
        assert!(at(91, 601).is_some(), "it still runs");
        assert_eq!(at(200, 1000), None, "the closing line comes");
        let mut lines = Lines { started: start, told: start, ..Lines::new("b", "files", 1000) };
        let line = lines.line(start + Duration::from_secs(20), 2500, 10_000).unwrap();
        assert_eq!(line, "b: 25 %, 2 of 10 files, 0.1/s, 60 seconds left");
    }
}
