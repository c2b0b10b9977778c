// SPDX-License-Identifier: MPL-2.0

//! How far a batch is: on a terminal a bar for each conversion that runs and one for all; in a log a line for each that
//! ends, and one now and then.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar};

use crate::svo::progress::{self, Lines};
use crate::tell;

const TOTAL: &str = "{msg} {percent:>3}%|{bar:30}| [{elapsed_precise}<{eta_precise}]";
/// Parts of an input, which the bar of all counts.
const PARTS: u64 = 1000;

/// Shows it on stderr.
pub struct Board {
    command: &'static str,
    total: u64,
    done: u64,
    /// How many parts of each are done that runs, and its bar.
    running: BTreeMap<usize, (u64, Option<ProgressBar>)>,
    shown: Shown,
}

enum Shown {
    Bars { all: MultiProgress, total: ProgressBar },
    Lines(Lines),
}

impl Board {
    /// Of so many inputs.
    pub fn new(command: &'static str, total: usize) -> Self {
        let total = total as u64;
        let shown = if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(total * PARTS).with_style(progress::style(TOTAL));
            let all = MultiProgress::new();
            Shown::Bars { total: all.add(bar), all }
        } else {
            Shown::Lines(Lines::new(command, "files", PARTS))
        };
        let board = Self { command, total, done: 0, running: BTreeMap::new(), shown };
        board.show_total();
        board
    }

    /// One begins.
    pub fn start(&mut self, key: usize, name: &str) {
        let bar = match &self.shown {
            Shown::Bars { all, total } => Some(all.insert_before(total, progress::bar(name))),
            Shown::Lines(_) => None,
        };
        self.running.insert(key, (0, bar));
    }

    /// So much of one is done.
    pub fn progress(&mut self, key: usize, done: u64, total: u64) {
        let Some((parts, bar)) = self.running.get_mut(&key) else { return };
        *parts = done.saturating_mul(PARTS).checked_div(total).unwrap_or(0).min(PARTS);
        if let Some(bar) = bar {
            bar.set_length(total);
            bar.set_position(done);
        }
        self.show_total();
    }

    /// One has ended, as a line tells.
    pub fn end(&mut self, key: usize, line: &str) {
        if let Some((_, Some(bar))) = self.running.remove(&key) {
            bar.finish_and_clear();
        }
        self.done += 1;
        self.show_total();
        self.talk(&format!("[{}/{}] {line}", self.done, self.total));
    }

    /// Time passes.
    pub fn tick(&mut self) {
        let (parts, of) = (self.parts(), self.total * PARTS);
        match &mut self.shown {
            Shown::Bars { total, .. } => total.tick(),
            Shown::Lines(lines) => lines.line(Instant::now(), parts, of).into_iter().for_each(tell::talk),
        }
    }

    /// A line about it.
    pub fn talk(&self, line: &str) {
        match &self.shown {
            Shown::Bars { all, .. } => all.suspend(|| tell::talk(line)),
            Shown::Lines(_) => tell::talk(line),
        }
    }

    /// Leaves the terminal as it was.
    pub fn close(&self) {
        if let Shown::Bars { all, total } = &self.shown {
            total.finish_and_clear();
            let _ = all.clear();
        }
    }

    fn parts(&self) -> u64 {
        self.done * PARTS + self.running.values().map(|(parts, _)| parts).sum::<u64>()
    }

    fn show_total(&self) {
        if let Shown::Bars { total, .. } = &self.shown {
            total.set_message(format!("{} {}/{}", self.command, self.done, self.total));
            total.set_position(self.parts());
        }
    }
}
