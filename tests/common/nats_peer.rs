// SPDX-License-Identifier: MPL-2.0

//! The producer and the client of the control plane in Python, which share no code with ours.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::{Process, readers, run, text, wait_for};

/// A script of tests/python in the venv of the readers.
fn python(script: &str) -> Command {
    let mut command = Command::new(readers::folder().join("venv/bin/python"));
    command.arg(format!("{}/tests/python/{script}", env!("CARGO_MANIFEST_DIR")));
    command
}

/// A process that writes JSON lines, and what it wrote so far.
pub struct Talker {
    pub process: Process,
    stdin: Option<ChildStdin>,
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Talker {
    fn spawn(command: &mut Command) -> Self {
        let mut process = Process::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let stdin = process.0.stdin.take();
        let said = BufReader::new(process.0.stdout.take().unwrap());
        let lines = Arc::<Mutex<Vec<Value>>>::default();
        let keep = lines.clone();
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                keep.lock().unwrap().push(value);
            }
        });
        Self { process, stdin, lines }
    }

    pub fn lines(&self) -> Vec<Value> {
        self.lines.lock().unwrap().clone()
    }

    /// The first line that `chosen` takes.
    pub fn find(&self, chosen: impl Fn(&Value) -> bool) -> Option<Value> {
        self.lines.lock().unwrap().iter().find(|line| chosen(line)).cloned()
    }

    /// Waits for a line that `chosen` takes.
    pub fn wait(&mut self, what: &str, chosen: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        wait_for(what, || {
            found = self.find(&chosen);
            let ended = found.is_none() && !matches!(self.process.0.try_wait(), Ok(None));
            assert!(!ended, "{what}: the process ended, and said {:?}", self.lines());
            found.is_some()
        });
        found.unwrap()
    }

    /// Writes a line to its standard input.
    pub fn tell(&mut self, command: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{command}").unwrap();
    }
}

/// `nats_producer.py`, and what it would leave behind if it were killed.
pub struct Producer {
    pub talker: Talker,
    target: cvmmap_ipc::Target,
}

impl Producer {
    /// Returns once it publishes pictures and, where there is a server, answers; `args`: its options.
    pub fn start(target: &str, url: &str, args: &str) -> Self {
        let mut producer = Self::start_without_server(target, url, args);
        producer.wait_for_done("connected");
        producer
    }

    /// Returns once it publishes pictures.
    pub fn start_without_server(target: &str, url: &str, args: &str) -> Self {
        let mut command = python("nats_producer.py");
        command.args([target, "--nats", url]).args(args.split_whitespace());
        let mut producer = Self { talker: Talker::spawn(&mut command), target: target.parse().unwrap() };
        producer.wait_for_done("publishing");
        producer
    }

    /// Waits until it says that it did something: `connected`, `loop`, `end`, a command.
    pub fn wait_for_done(&mut self, what: &str) -> Value {
        self.talker.wait(what, |line| line["did"] == what)
    }

    /// Tells it a command; see the script.
    pub fn tell(&mut self, command: &str) {
        self.talker.tell(command);
    }

    /// The requests it received so far on subjects that end so, in order.
    pub fn requests(&self, tail: &str) -> Vec<Value> {
        let ends = |line: &Value| line["request"].as_str().is_some_and(|subject| subject.ends_with(tail));
        self.talker.lines().into_iter().filter(ends).collect()
    }

    /// The same, once there are so many: a request's line may come behind its answer.
    pub fn wait_for_requests(&self, tail: &str, count: usize) -> Vec<Value> {
        wait_for(&format!("{count} requests on {tail}"), || self.requests(tail).len() >= count);
        self.requests(tail)
    }

    /// `cvmmap.KEY.TAIL`
    pub fn subject(&self, tail: &str) -> String {
        format!("cvmmap.{}.{tail}", self.target.nats_target_key())
    }
}

/// Drop one that was killed before the next of its name starts.
impl Drop for Producer {
    fn drop(&mut self) {
        let process = &mut self.talker.process;
        if matches!(process.0.try_wait(), Ok(Some(status)) if status.success()) {
            return; // it left nothing, and another may have its names by now
        }
        process.kill();
        let _ = std::fs::remove_file(Path::new("/dev/shm").join(self.target.shm_name()));
        let _ = std::fs::remove_file(self.target.socket_path());
    }
}

fn said(args: &[&str]) -> Vec<Value> {
    let output = run(python("nats_client.py").args(args));
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A request by `nats_client.py`; `fields`: `name=value`. The fields of the `answer`, or why it `failed`.
pub fn ask(url: &str, subject: &str, message: &str, fields: &[&str]) -> Value {
    said(&[&["request", url, subject, message], fields].concat()).remove(0)
}

/// `ping` and `info`: what services of that name answered.
pub fn discover(url: &str, name: &str) -> Value {
    said(&["discover", url, "--name", name]).remove(0)
}

/// What is answered to each piece of garbage on each subject.
pub fn garbage(url: &str, subjects: &[&str]) -> Vec<Value> {
    said(&[&["garbage", url], subjects].concat())
}

/// Publishes each piece of garbage on each subject.
pub fn publish_garbage(url: &str, subjects: &[&str]) {
    said(&[&["garbage", "--publish", url], subjects].concat());
}

/// A line for each event and body packet on the subjects; returns once the server knows of it.
pub fn watch(url: &str, subjects: &[&str]) -> Talker {
    let mut talker = Talker::spawn(python("nats_client.py").arg("watch").arg(url).args(subjects));
    talker.wait("the subscriptions", |line| line.get("watching").is_some());
    talker
}
