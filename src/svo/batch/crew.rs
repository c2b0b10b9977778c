// SPDX-License-Identifier: MPL-2.0

//! The processes that convert, so many at once.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::board::Board;
use super::logs::Logs;
use super::plan::Job;
use super::report::{Outcome, Row};
use super::worker::{Own, Word};
use crate::suite::process;

/// How often it looks at the flag.
const TICK: Duration = Duration::from_millis(100);
/// Who says nothing more ends soon.
const SOON: Duration = Duration::from_millis(2);
/// This program, also where its file was replaced since it was started.
const PROGRAM: &str = "/proc/self/exe";
/// As much of a log as its last line is looked for in, in bytes.
const LOG_END: u64 = 1 << 14;

/// Who converts.
pub struct Crew<'a> {
    jobs: usize,
    threads: Option<usize>,
    devices: Option<OsString>,
    logs: Logs,
    board: Board,
    interrupted: &'a AtomicBool,
    running: BTreeMap<usize, Running>,
    said: (Sender<Said>, Receiver<Said>),
    /// What was told already, and is the same of others.
    noticed: HashSet<String>,
}

/// A process.
struct Running {
    name: String,
    child: Child,
    /// It ends with this.
    stdin: Option<ChildStdin>,
    log: Option<PathBuf>,
    /// Where its part of the log begins, which may have been there before.
    log_from: u64,
    /// What it said of its result.
    result: Option<Word>,
    /// It says nothing more.
    closed: bool,
}

/// What the process of a row says; nothing more where that is `None`.
type Said = (usize, Option<Word>);

impl<'a> Crew<'a> {
    /// So many jobs at once, each with so many threads; `devices` are the GPUs that they see.
    pub fn new(
        jobs: usize,
        threads: Option<usize>,
        devices: Option<OsString>,
        logs: Logs,
        board: Board,
        interrupted: &'a AtomicBool,
    ) -> Self {
        let (running, said, noticed) = (BTreeMap::new(), channel(), HashSet::new());
        Self { jobs, threads, devices, logs, board, interrupted, running, said, noticed }
    }

    /// Converts, until all is done or a signal comes. It has to be called by the thread that outlives all others, since
    /// the processes die with it.
    pub fn run(&mut self, todo: &[Job], rows: &mut [Row]) {
        let mut waiting: VecDeque<&Job> = todo.iter().collect();
        loop {
            let interrupted = self.interrupted.load(Ordering::Relaxed);
            while !interrupted && self.running.len() < self.jobs {
                let Some(job) = waiting.pop_front() else { break };
                self.start(job, &mut rows[job.row]);
            }
            if self.running.is_empty() && (interrupted || waiting.is_empty()) {
                break;
            }
            if interrupted {
                self.running.values_mut().for_each(|running| drop(running.stdin.take()));
            }
            let ends = self.running.values().any(|running| running.closed);
            if let Ok((row, word)) = self.said.1.recv_timeout(if ends { SOON } else { TICK }) {
                self.hear(row, word);
            }
            self.collect(rows);
            self.board.tick();
        }
        self.board.close();
    }

    fn start(&mut self, job: &Job, row: &mut Row) {
        self.board.start(job.row, &job.name);
        let log = self.logs.path(job.row + 1, &job.name);
        match self.spawn(job, &log) {
            Ok(running) => {
                row.log.clone_from(&running.log);
                self.running.insert(job.row, running);
            }
            Err(error) => {
                row.outcome = Outcome::Failed(format!("its process does not start: {error}"));
                self.board.end(job.row, &row.text());
            }
        }
    }

    fn spawn(&self, job: &Job, log: &Path) -> io::Result<Running> {
        let mut arguments = std::env::args_os();
        let mut command = Command::new(PROGRAM);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        command.args(arguments);
        Own { input: job.input.clone(), replaces: job.replaces, threads: self.threads }.tell(&mut command);
        if let Some(devices) = &self.devices {
            command.env("CUDA_VISIBLE_DEVICES", devices);
        }
        // It can be done without: what came of it is in the report.
        let (log, log_from, talk) = match Logs::open(log) {
            Ok(file) => (Some(log.to_owned()), file.metadata()?.len(), Stdio::from(file)),
            Err(error) => {
                self.board.talk(&format!("warning: {} has no log: '{}': {error}", job.name, log.display()));
                (None, 0, Stdio::null())
            }
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(talk).env("GST_DEBUG_NO_COLOR", "1");
        let mut child = process::bind_to_this(&mut command).spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (row, say) = (job.row, self.said.0.clone());
        let listen = move || {
            for line in stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).split(b'\n')) {
                // Libraries may print there, too.
                let word = line.ok().and_then(|line| serde_json::from_slice(&line).ok());
                if word.is_some() && say.send((row, word)).is_err() {
                    return;
                }
            }
            let _ = say.send((row, None));
        };
        std::thread::spawn(listen);
        Ok(Running { name: job.name.clone(), child, stdin, log, log_from, result: None, closed: false })
    }

    fn hear(&mut self, row: usize, word: Option<Word>) {
        let Some(running) = self.running.get_mut(&row) else { return };
        match word {
            Some(Word::Progress(done, total)) => self.board.progress(row, done, total),
            Some(Word::Notice(text)) => {
                let line = format!("{}: {text}", running.name);
                // What is told of an encoder is the same for all; damage is each one's own.
                if !text.starts_with("warning: encoder ") || self.noticed.insert(text) {
                    self.board.talk(&line);
                }
            }
            Some(result) => running.result = Some(result),
            None => running.closed = true,
        }
    }

    /// Those that have ended.
    fn collect(&mut self, rows: &mut [Row]) {
        let closed: Vec<usize> =
            self.running.iter().filter(|(_, running)| running.closed).map(|(row, _)| *row).collect();
        for number in closed {
            let Some(running) = self.running.get_mut(&number) else { continue };
            let Ok(Some(status)) = running.child.try_wait() else { continue };
            let row = &mut rows[number];
            let text = match running.result.take() {
                Some(Word::Converted { text, summary }) => {
                    row.outcome = Outcome::Converted(summary);
                    text
                }
                other => {
                    let log = running.log.as_deref();
                    let said = || log.and_then(|log| last_line(log, running.log_from).ok().flatten());
                    row.outcome = outcome(other, status, said);
                    row.text()
                }
            };
            self.running.remove(&number);
            self.board.end(number, &text);
        }
    }
}

/// What became of an input of which no output was made; `said` is what the process said last.
fn outcome(word: Option<Word>, status: ExitStatus, said: impl FnOnce() -> Option<String>) -> Outcome {
    match word {
        Some(Word::Made) => Outcome::Skipped("somebody else made its output meanwhile".into()),
        Some(Word::Growing) => Outcome::Busy,
        Some(Word::Interrupted) => Outcome::Interrupted,
        Some(Word::Failed(why)) => Outcome::Failed(why),
        _ => {
            let how = match (status.signal(), status.code()) {
                (Some(9), _) => "was killed: by somebody, or by the system since memory ran out".to_owned(),
                (Some(signal), _) => format!("was ended by signal {signal}"),
                (None, code) => format!("ended with code {}", code.unwrap_or_default()),
            };
            let last = said().map(|line| format!(", having said: {line}")).unwrap_or_default();
            Outcome::Failed(format!("its process {how}{last}"))
        }
    }
}

/// The last line of a log that is not empty, behind `from`; of a long one its end. A log may be of any length.
fn last_line(log: &Path, from: u64) -> io::Result<Option<String>> {
    let mut file = File::open(log)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(from.max(len.saturating_sub(LOG_END))))?;
    let mut end = Vec::new();
    file.take(LOG_END).read_to_end(&mut end)?;
    let end = String::from_utf8_lossy(&end);
    Ok(end.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_a_log_is_found_at_its_end() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let last = |text: &str, from: u64| {
            std::fs::write(log.path(), text).unwrap();
            last_line(log.path(), from).unwrap()
        };
        assert_eq!(last("one\ntwo\n \n\n", 0).as_deref(), Some("two"));
        assert_eq!(last("of another run\n", 15), None, "it is not this one's");
        assert_eq!(last("of another run\nmine", 15).as_deref(), Some("mine"));
        let long = "x".repeat(10 * LOG_END as usize);
        assert_eq!(last(&format!("{long}\nlast\n"), 0).as_deref(), Some("last"));
        assert_eq!(last(&long, 0).unwrap().len(), LOG_END as usize, "no more than that is read");
    }
}
