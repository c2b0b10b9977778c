// SPDX-License-Identifier: MPL-2.0

//! A NATS server of one's own. It needs std alone, so that the crates' tests can have it too:
//! `#[path = "../../../tests/common/nats.rs"] mod nats;`

#![allow(dead_code, missing_docs)]

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// No server takes longer to start on a working system, however loaded it is.
const PATIENCE: Duration = Duration::from_secs(30);

/// A `nats-server` process on a loopback port, without JetStream, that ends with its owner.
pub struct Nats {
    child: Child,
    port: u16,
    args: Vec<String>,
    log: Arc<Mutex<String>>,
}

impl Nats {
    /// Returns once the server answers.
    pub fn start() -> Self {
        Self::with_args(&[])
    }

    /// `args`: more of `nats-server`'s own, such as `["--user", "u", "--pass", "p"]`.
    pub fn with_args(args: &[&str]) -> Self {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let end = Instant::now() + PATIENCE;
        loop {
            let (port, log) = (free_port(), Arc::default());
            match spawn(port, &args, &log) {
                Ok(child) => return Self { child, port, args, log },
                Err(reason) => assert!(taken(&reason) && Instant::now() < end, "{reason}"),
            }
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Without user or password.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// What the server said so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// SIGKILL: clients see their connections end, and nobody listens.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Kills the server where it runs, and returns once a new one answers on the same port.
    pub fn restart(&mut self) {
        self.kill();
        let end = Instant::now() + PATIENCE;
        self.child = loop {
            match spawn(self.port, &self.args, &self.log) {
                Ok(child) => break child,
                Err(reason) => assert!(taken(&reason) && Instant::now() < end, "{reason}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        };
    }

    /// SIGSTOP: the kernel still takes connections and bytes, but nothing is answered.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// SIGCONT: undoes [`Self::freeze`].
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success(), "{command}");
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One below those that the kernel gives to outgoing connections: while a server is dead, a client that tries again and
/// again could be given the very port it tries, connect to itself, and keep the server from coming back.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let candidate = std::process::id().wrapping_mul(37) + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + (candidate % 12_000) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Whether a server ended since another process had taken the port meanwhile.
fn taken(reason: &str) -> bool {
    reason.contains("address already in use")
}

/// A server that answers, or why there is none.
fn spawn(port: u16, args: &[String], log: &Arc<Mutex<String>>) -> Result<Child, String> {
    // Debian puts it where not every user's PATH looks.
    let debian = Path::new("/usr/sbin/nats-server");
    let mut command = Command::new(if debian.exists() { debian } else { Path::new("nats-server") });
    let name = format!("test-{}-{port}", std::process::id());
    command.args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--name", &name]).args(args);
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child =
        spawned.unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/install-deps.sh installs it"));

    let said = BufReader::new(child.stderr.take().unwrap());
    let keep = log.clone();
    let reader = std::thread::spawn(move || {
        for line in said.lines().map_while(Result::ok) {
            let mut log = keep.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
        }
    });

    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            reader.join().unwrap();
            return Err(format!("{command:?}: {status}\n{}", log.lock().unwrap()));
        }
        if greets(port, &name) {
            return Ok(child);
        }
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{command:?} did not answer\n{}", log.lock().unwrap());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether the server of that name is the one on the port.
fn greets(port: u16, name: &str) -> bool {
    let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut info = String::new();
    let read = BufReader::new(stream).read_line(&mut info);
    read.is_ok() && info.starts_with("INFO ") && info.contains(&format!("\"server_name\":\"{name}\""))
}
