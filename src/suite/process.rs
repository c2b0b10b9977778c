// SPDX-License-Identifier: MPL-2.0

//! Processes of this program with their output in files, which never outlive the row they are started in, nor the suite,
//! however it ends.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use serde_json::Value;

use super::rig::Trouble;
use crate::exit::{Failure, configuration};

/// How often a condition is looked at.
pub const TICK: Duration = Duration::from_millis(20);
/// Who does not end by then, asked to, is killed.
const ENDS_WITHIN: Duration = Duration::from_secs(3);

/// Which process a child is to die with: see [`die_with_suite`].
const DIES_WITH: &str = "CVMMAP_STREAMER_DIES_WITH";

/// A process of this program will die with this one, and more exactly with the thread that starts it.
pub(crate) fn bind_to_this(command: &mut Command) -> &mut Command {
    command.env(DIES_WITH, std::process::id().to_string())
}

/// In a process that a suite or a batch started: asks the system to kill it when that ends, also where it is stopped by
/// then. Who is killed himself cannot end anybody. In any other process it does nothing.
///
/// # Errors
/// Where whoever started it is gone already, or the system refuses.
pub fn die_with_suite() -> Result<(), Failure> {
    let Some(owner) = std::env::var_os(DIES_WITH) else { return Ok(()) };
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| configuration(format!("{DIES_WITH}: {error}")))?;
    // Whoever ended before that sends no signal any more.
    let parent = getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if owner.to_str().is_none_or(|owner| parent.as_deref() != Some(owner)) {
        return Err(configuration(format!("{DIES_WITH}: process {} is not the parent", owner.display())));
    }
    Ok(())
}

/// The command of [`become_program`].
pub const BECOME: &str = "become";

/// Become another program, which dies with the suite
#[derive(Debug, clap::Args)]
pub struct BecomeArgs {
    /// The program
    program: PathBuf,
    /// Its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Becomes another program: what [`die_with_suite`] asked for outlives that.
///
/// # Errors
/// Where there is no such program.
pub fn become_program(args: &BecomeArgs) -> Result<(), Failure> {
    let error = Command::new(&args.program).args(&args.arguments).env_remove(DIES_WITH).exec();
    Err(configuration(format!("{}: {error}", args.program.display())))
}

/// A running process, or one that has ended.
pub struct Process {
    name: String,
    child: Child,
    out: PathBuf,
    err: PathBuf,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts this program with arguments, and its output into `NAME.out.log` and `NAME.err.log` in a folder.
    pub(super) fn start(name: &str, arguments: &[String], folder: &Path) -> Result<Self, Trouble> {
        let failed = |what: &str, error: std::io::Error| Trouble::Failed(format!("{name}: {what}: {error}"));
        let [out, err] = ["out", "err"].map(|stream| folder.join(format!("{name}.{stream}.log")));
        let file = |path: &Path| File::create(path).map_err(|error| failed("its log", error));
        let program = std::env::current_exe().map_err(|error| failed("this program", error))?;
        let child = bind_to_this(&mut Command::new(program))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file(&out)?)
            .stderr(file(&err)?)
            .env("GST_DEBUG_NO_COLOR", "1")
            .spawn()
            .map_err(|error| failed("it does not start", error))?;
        Ok(Self { name: name.to_owned(), child, out, err, status: None })
    }

    /// For messages and log files.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number under which /proc knows it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote so far.
    pub fn stdout(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap_or_default()
    }

    /// What it wrote so far.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(&self.err).unwrap_or_default()
    }

    /// The last line of JSON on stdout: the summary, of all our commands.
    pub fn summary(&self) -> Option<Value> {
        let out = self.stdout();
        out.lines().rev().find_map(|line| serde_json::from_str(line).ok())
    }

    /// Sends a signal, if it still runs.
    pub fn signal(&mut self, signal: Signal) {
        // One that has ended keeps its number until it is waited for here, so nobody else is hit.
        if matches!(self.poll(), Ok(None)) {
            let _ = kill_process(Pid::from_child(&self.child), signal);
        }
    }

    fn poll(&mut self) -> std::io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status)
    }

    /// Whether it ended, and how: an exit code, or -1 where a signal ended it.
    pub fn ended(&mut self) -> Option<i32> {
        match self.poll() {
            Ok(status) => status.map(|status| status.code().unwrap_or(-1)),
            Err(_) => Some(-1),
        }
    }

    /// Fails where it has ended, with what it said last.
    pub fn must_run(&mut self) -> Result<(), Trouble> {
        let Some(code) = self.ended() else { return Ok(()) };
        let said = self.stderr();
        let last = said.lines().last().unwrap_or("nothing was said");
        Err(Trouble::Failed(format!("{} ended early with {code}: {last}", self.name)))
    }

    /// Waits for its end.
    pub fn wait(&mut self, patience: Duration) -> Option<i32> {
        let end = Instant::now() + patience;
        loop {
            let code = self.ended();
            if code.is_some() || Instant::now() >= end {
                return code;
            }
            std::thread::sleep(TICK);
        }
    }

    /// Sends SIGINT and waits: the exit code, and how long it took.
    pub fn interrupt(&mut self, patience: Duration) -> (Option<i32>, Duration) {
        let asked = Instant::now();
        self.signal(Signal::INT);
        let code = self.wait(patience);
        (code, asked.elapsed())
    }

    /// SIGKILL: it gets no chance to clean up.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait(ENDS_WITHIN);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_some() {
            return;
        }
        // A stopped process takes SIGTERM only when it goes on.
        self.signal(Signal::TERM);
        self.signal(Signal::CONT);
        if self.wait(ENDS_WITHIN).is_none() {
            self.kill();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, folder: &Path) -> Process {
        let [out, err] = ["out", "err"].map(|stream| folder.join(stream));
        let child =
            Command::new("sh").args(["-c", script]).stdout(File::create(&out).unwrap()).spawn().unwrap();
        Process { name: "shell".into(), child, out, err, status: None }
    }

    #[test]
    fn a_process_tells_how_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell("echo '{\"n\":1}'; echo '{\"n\":2}'; echo end; exit 7", folder.path());
        assert_eq!(process.wait(Duration::from_secs(30)), Some(7));
        assert_eq!(process.summary().unwrap()["n"], 2);
        let Err(Trouble::Failed(why)) = process.must_run() else { panic!("it has ended") };
        assert!(why.contains("shell ended early with 7"), "{why}");
    }

    #[test]
    fn a_stopped_process_ends_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell("exec sleep 60", folder.path());
        process.signal(Signal::STOP);
        let began = Instant::now();
        drop(process);
        assert!(began.elapsed() < ENDS_WITHIN, "SIGTERM was enough");
    }
}
