// SPDX-License-Identifier: MPL-2.0

//! What a row works with: its folder, processes, free ports, bounded waits, and the evidence that it collects.

use std::collections::HashSet;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cvmmap_ipc::clock::unix_now_ns;

use super::evidence::{Check, Number, Outcome, Relation, Row};
use super::process::{self, Process, TICK};

/// Below the ports that systems give to outgoing connections (32768 and up on Linux): from those, another program's
/// connection may take one between the look at it and the receiver's bind.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// How often logs are read.
const LOG_TICK: Duration = Duration::from_millis(100);

/// Why a row cannot go on.
#[derive(Debug)]
pub enum Trouble {
    /// Something that had to be does not.
    Failed(String),
    /// A signal came.
    Interrupted,
}

impl From<String> for Trouble {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// A step of a row.
pub type Step<T = ()> = Result<T, Trouble>;

/// A row's surroundings.
pub struct Rig<'a> {
    name: &'static str,
    /// Encoders that streamers are told to try.
    pub encoder: &'a str,
    folder: PathBuf,
    interrupted: &'a AtomicBool,
    started: Instant,
    patience: Duration,
    ports: HashSet<u16>,
    rules: Vec<String>,
    checks: Vec<Check>,
    numbers: Vec<Number>,
    commands: Vec<Vec<String>>,
}

impl<'a> Rig<'a> {
    /// Makes the row's folder in the run's. All waits together take `patience` at most.
    ///
    /// # Errors
    /// Where the folder cannot be made.
    pub fn new(
        name: &'static str,
        run: &Path,
        encoder: &'a str,
        patience: Duration,
        interrupted: &'a AtomicBool,
    ) -> Result<Self, String> {
        let folder = run.join(name);
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self {
            name,
            encoder,
            folder,
            interrupted,
            started: Instant::now(),
            patience,
            ports: HashSet::new(),
            rules: Vec::new(),
            checks: Vec::new(),
            numbers: Vec::new(),
            commands: Vec::new(),
        })
    }

    /// The row's.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// A target that no other row or run has.
    pub fn target(&self) -> String {
        let short: String = self.name.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
        format!("{short}-{}", std::process::id())
    }

    /// A file in the row's folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Starts this program.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start(&mut self, name: &str, arguments: Vec<String>) -> Step<Process> {
        let process = Process::start(name, &arguments, &self.folder)?;
        self.commands.push(std::iter::once("cvmmap-streamer".to_owned()).chain(arguments).collect());
        Ok(process)
    }

    /// Starts another program, which dies with the suite as this one does.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start_other(&mut self, name: &str, program: &Path, arguments: &[&str]) -> Step<Process> {
        let mut become_it = vec![process::BECOME.to_owned(), program.display().to_string()];
        become_it.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let process = Process::start(name, &become_it, &self.folder)?;
        self.commands.push(become_it.split_off(1));
        Ok(process)
    }

    /// A port that nobody had a moment ago, for UDP and TCP alike, and that the system gives to nobody who asks for any.
    ///
    /// # Errors
    /// Where there is none.
    pub fn port(&mut self) -> Step<u16> {
        let count = PORTS.end - PORTS.start;
        // Suites that run at the same time begin elsewhere.
        let first = (unix_now_ns() / 1000 % u64::from(count)) as u16;
        let free = |port: &u16| {
            let address = ("127.0.0.1", *port);
            UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok()
        };
        let port = (0..count)
            .map(|n| PORTS.start + (first + n) % count)
            .find(|port| !self.ports.contains(port) && free(port))
            .ok_or_else(|| Trouble::Failed(format!("no port of {PORTS:?} is free on loopback")))?;
        self.ports.insert(port);
        Ok(port)
    }

    /// Waits until a condition holds, for as long as the row may take in all.
    ///
    /// # Errors
    /// What the condition fails with; that it never held; a signal.
    pub fn wait_for(&self, what: &str, holds: impl FnMut() -> Step<bool>) -> Step {
        self.wait_with(TICK, what, holds)
    }

    /// As [`Self::wait_for`], with a condition that is looked at more seldom, since it reads whole logs.
    ///
    /// # Errors
    /// As there.
    pub fn wait_for_logs(&self, what: &str, holds: impl FnMut() -> Step<bool>) -> Step {
        self.wait_with(LOG_TICK, what, holds)
    }

    fn wait_with(&self, tick: Duration, what: &str, mut holds: impl FnMut() -> Step<bool>) -> Step {
        loop {
            if self.interrupted.load(Ordering::Relaxed) {
                return Err(Trouble::Interrupted);
            }
            if holds()? {
                return Ok(());
            }
            if self.started.elapsed() > self.patience {
                let patience = self.patience.as_secs();
                return Err(Trouble::Failed(format!("waited in vain for {what}: {patience} s are over")));
            }
            std::thread::sleep(tick);
        }
    }

    /// Lets time pass that a fault is made of.
    ///
    /// # Errors
    /// A signal.
    pub fn pass(&self, time: Duration) -> Step {
        let end = Instant::now() + time;
        self.wait_for("time to pass", || Ok(Instant::now() >= end))
    }

    /// Says in the evidence how numbers are judged.
    pub fn rule(&mut self, text: &str) {
        if !self.rules.iter().any(|rule| rule == text) {
            self.rules.push(text.to_owned());
        }
    }

    /// Asserts.
    pub fn at_most(&mut self, what: &str, measured: Option<f64>, bound: f64, unit: &'static str) {
        self.checks.push(Check::new(what, measured, Relation::AtMost, bound, unit));
    }

    /// Asserts.
    pub fn at_least(&mut self, what: &str, measured: Option<f64>, bound: f64, unit: &'static str) {
        self.checks.push(Check::new(what, measured, Relation::AtLeast, bound, unit));
    }

    /// Asserts.
    pub fn equals(&mut self, what: &str, measured: Option<f64>, bound: f64, unit: &'static str) {
        self.checks.push(Check::new(what, measured, Relation::Equals, bound, unit));
    }

    /// Asserts that something is so.
    pub fn holds(&mut self, what: &str, holds: bool) {
        self.equals(what, Some(f64::from(u8::from(holds))), 1.0, "bool");
    }

    /// Reports without a bound.
    pub fn number(&mut self, what: &str, value: Option<f64>, unit: &'static str) {
        self.numbers.push(Number { what: what.to_owned(), value, unit });
    }

    /// The row as it ended.
    pub fn conclude(self, step: Step, run: &Path) -> Row {
        let failed = self.checks.iter().find(|check| !check.ok).map(Check::text);
        let (result, reason) = match (step, failed) {
            (Err(Trouble::Interrupted), _) => (Outcome::Skip, Some("interrupted".to_owned())),
            (Err(Trouble::Failed(why)), _) => (Outcome::Fail, Some(why)),
            (Ok(()), Some(failed)) => (Outcome::Fail, Some(failed)),
            (Ok(()), None) => (Outcome::Pass, None),
        };
        Row {
            name: self.name.to_owned(),
            result,
            reason,
            seconds: self.started.elapsed().as_secs_f64(),
            rules: self.rules,
            checks: self.checks,
            numbers: self.numbers,
            commands: self.commands,
            logs: files_of(&self.folder, run),
        }
    }
}

fn files_of(folder: &Path, run: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let relative = |path: PathBuf| path.strip_prefix(run).map_or(path.clone(), Path::to_path_buf);
    let mut files: Vec<PathBuf> = entries.map(|entry| relative(entry.path())).collect();
    files.sort();
    files
}

/// From nanoseconds.
pub fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rig<'a>(run: &Path, patience: Duration, interrupted: &'a AtomicBool) -> Rig<'a> {
        Rig::new("row", run, "auto", patience, interrupted).unwrap()
    }

    #[test]
    fn a_row_passes_only_where_every_check_holds() {
        let run = tempfile::tempdir().unwrap();
        let calm = AtomicBool::new(false);
        let conclude = |bound: f64, step| {
            let mut rig = rig(run.path(), Duration::from_secs(9), &calm);
            std::fs::write(rig.file("a.log"), "").unwrap();
            rig.at_most("x", Some(2.0), bound, "frames");
            rig.conclude(step, run.path())
        };
        let row = conclude(2.0, Ok(()));
        assert_eq!((row.result, row.reason, row.logs), (Outcome::Pass, None, vec!["row/a.log".into()]));
        let row = conclude(1.0, Ok(()));
        assert_eq!((row.result, row.reason.unwrap().as_str()), (Outcome::Fail, "x: 2 frames, not at most 1"));
        assert_eq!(conclude(2.0, Err("late".to_owned().into())).result, Outcome::Fail);
        assert_eq!(conclude(2.0, Err(Trouble::Interrupted)).result, Outcome::Skip);
    }

    #[test]
    fn waits_end() {
        let run = tempfile::tempdir().unwrap();
        let flag = AtomicBool::new(false);
        let rig = rig(run.path(), Duration::from_millis(50), &flag);
        let Err(Trouble::Failed(why)) = rig.wait_for("rain", || Ok(false)) else { panic!("it never holds") };
        assert!(why.contains("rain"), "{why}");
        flag.store(true, Ordering::Relaxed);
        assert!(matches!(rig.wait_for("rain", || Ok(true)), Err(Trouble::Interrupted)));
    }

    #[test]
    fn ports_are_given_once() {
        let run = tempfile::tempdir().unwrap();
        let flag = AtomicBool::new(false);
        let mut rig = rig(run.path(), Duration::from_secs(9), &flag);
        let ports: HashSet<u16> = (0..20).map(|_| rig.port().unwrap()).collect();
        assert!(ports.len() == 20 && ports.iter().all(|port| PORTS.contains(port)), "{ports:?}");
    }
}
