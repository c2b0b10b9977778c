// SPDX-License-Identifier: MPL-2.0

//! A NATS server that goes and comes back while pictures are streamed.

use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use cvmmap_control::{Connection, ControlError, Recorder, Source, Subjects, block_on};
use cvmmap_ipc::Target;
use cvmmap_ipc::clock::unix_now_ns;

use super::undisturbed;
use crate::suite::line::{Line, Setup, normal};
use crate::suite::process::Process;
use crate::suite::rig::{Rig, Step, Trouble, ms};

const PROGRAM: &str = "nats-server";
/// Three seconds at the usual rate, of which the first does not count.
const BEFORE: usize = 90;
/// Longer than the longest pause between two attempts to reach a server.
const AWAY: Duration = Duration::from_secs(3);
/// Two seconds between attempts, and the requests themselves, on a machine with other work.
const BACK_MS: f64 = 5_000.0;
/// Frames behind the return, which is when what waited for the server would show.
const AFTER: u64 = 60;

/// SIGKILL for the server, and another one at its port: RTP goes on, and then requests are answered again.
pub fn restart(rig: &mut Rig) -> Step {
    let port = rig.port()?;
    let url = format!("nats://127.0.0.1:{port}");
    let mut server = serve(rig, "nats-server-1", port)?;
    let setup = Setup { nats_url: Some(url.clone()), ..Setup::default() };
    let interval_ns = setup.interval_ns();
    let mut line = Line::start(rig, setup)?;
    let asker = Asker::new(&url, &rig.target())?;
    line.wait_for_pictures(rig, BEFORE)?;
    line.wait_for(rig, "producer and streamer to answer", |_| asker.answered())?;
    let killed = unix_now_ns();
    server.kill();
    line.wait_for(rig, "the end of the connection", |_| !asker.answered())?;
    rig.pass(AWAY)?;
    let _server = serve(rig, "nats-server-2", port)?;
    let served = unix_now_ns();
    line.wait_for(rig, "producer and streamer to answer again", |_| asker.answered())?;
    let back = unix_now_ns();
    rig.at_most("the second server listens to the first answers", Some(ms(back - served)), BACK_MS, "ms");
    let last = line.published().last().map_or(0, |frame| frame.n);
    line.wait_for_frame(rig, last + AFTER)?;
    let ended = line.finish(rig)?;
    for (what, log, away, about) in [
        ("the streamer's stderr", "run.err.log", "NATS: no server", "NATS"),
        ("the producer's stderr", "sim-1.err.log", "is away", "NATS"),
    ] {
        let said = std::fs::read_to_string(rig.file(log)).ok();
        let lines = |part: &str| {
            said.as_ref().map(|said| said.lines().filter(|line| line.contains(part)).count() as f64)
        };
        rig.equals(&format!("lines of the outage on {what}"), lines(away), 1.0, "lines");
        // That it came, went, and came.
        rig.at_most(&format!("lines about NATS on {what}"), lines(about), 3.0, "lines");
    }
    let shown = ended.rtp_shown();
    let usual = normal(rig, "RTP", &shown, killed, interval_ns)?;
    let until = ended.published.last().map_or(back, |frame| frame.unix_ns).saturating_sub(500_000_000);
    undisturbed(rig, &ended, &usual, killed..until, interval_ns);
    Ok(())
}

/// Who asks producer and streamer.
struct Asker(Source);

impl Asker {
    fn new(url: &str, target: &str) -> Step<Self> {
        let wrong = |why: String| Trouble::Failed(format!("{url}: {why}"));
        let url = url.parse().map_err(|error: cvmmap_control::url::UrlError| wrong(error.to_string()))?;
        let target: Target = target.parse().map_err(|error| wrong(format!("{target}: {error}")))?;
        let connection = Connection::open(&url).map_err(|error: ControlError| wrong(error.to_string()))?;
        Ok(Self(Source::new(connection, Subjects::new(target.nats_target_key()))))
    }

    /// Whether both answer.
    fn answered(&self) -> bool {
        let source = self.0.clone();
        let asked = async move {
            source.info().await.is_ok() && source.recording_status(Recorder::StreamerMp4).await.is_ok()
        };
        block_on(asked, self.0.limit()).unwrap_or(false)
    }
}

/// Starts a server, and waits until it listens.
fn serve(rig: &mut Rig, name: &str, port: u16) -> Step<Process> {
    let program = find(PROGRAM)?;
    let port_text = port.to_string();
    let mut server = rig.start_other(name, &program, &["--addr", "127.0.0.1", "--port", &port_text])?;
    rig.wait_for("the NATS server to listen", || {
        server.must_run()?;
        Ok(TcpStream::connect(("127.0.0.1", port)).is_ok())
    })?;
    Ok(server)
}

/// Debian puts servers where not every user's PATH looks.
fn find(program: &str) -> Step<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.map(|folder| folder.join(program)).find(|file| file.is_file());
    found.ok_or_else(|| {
        let why = format!(
            "{program} is neither on the PATH nor in /usr/sbin: install the package of that name (Debian, Ubuntu)"
        );
        Trouble::Failed(why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_or_its_package_named() {
        assert!(find("sh").unwrap().is_absolute());
        let Err(Trouble::Failed(why)) = find("no-such-server") else { panic!("there is none") };
        assert!(why.contains("no-such-server is neither") && why.contains("install the package"), "{why}");
    }
}
