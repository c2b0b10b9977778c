// SPDX-License-Identifier: MPL-2.0

//! Garbage on every wire that the streamer reads, and a server that goes and comes back.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cvmmap_ipc::clock::unix_now_ns;

use super::{SERVER_BACK_MS, first_after, recovered, undisturbed};
use crate::suite::frames::{self, Ticks};
use crate::suite::line::{Line, Setup, normal};
use crate::suite::process::TICK;
use crate::suite::rig::{Rig, Step, Trouble};

/// Three seconds at the usual rate, of which the first does not count.
const BEFORE: usize = 90;
const AFTER: usize = 45;
const AWAY: Duration = Duration::from_millis(1500);
/// One of each kind of garbage, and one more.
const CONNECTIONS: usize = 4;
/// A connection with a client that keeps quiet.
const HOLDS: Duration = Duration::from_secs(2);
const JUNK: usize = 64 << 10;
/// Events of four connections, and what libraries say: not a line for every few bytes.
const COMPLAINTS: f64 = 150.0;
/// C1, C2, S1 and S2.
const HANDSHAKE: usize = 1536;

/// Messages that are none, headers that break rules, a server that talks nonsense: RTP goes on, and RTMP comes up once
/// there is a server.
pub fn garbage(rig: &mut Rig) -> Step {
    const INVALID_FROM: u64 = 95;
    const INVALID_EVERY: u64 = 10;
    let faults = vec![format!("garbage@{BEFORE}+2=200"), format!("invalid@{INVALID_FROM}+{INVALID_EVERY}")];
    let port = rig.port()?;
    let server = Nonsense::serve(port)?;
    let setup = Setup { rtmp: Some("h264"), rtmp_port: Some(port), faults, ..Setup::default() };
    let interval_ns = setup.interval_ns();
    let mut line = Line::start(rig, setup)?;
    line.wait_for_pictures(rig, BEFORE)?;
    let from = unix_now_ns();
    line.wait_for(rig, "connections to the server that talks nonsense", |_| {
        server.answered() >= CONNECTIONS
    })?;
    let answered = server.end();
    line.serve_rtmp(rig)?;
    let served = unix_now_ns();
    line.wait_for(rig, "RTMP pictures", |line| line.rtmp_pictures().len() >= AFTER)?;
    let mut ended = line.finish(rig)?;
    let complaints = std::fs::read_to_string(rig.file("run.err.log")).map(|log| log.lines().count() as f64);
    rig.at_most("lines on the streamer's stderr", complaints.ok(), COMPLAINTS, "lines");
    rig.at_least(
        "connections answered with garbage",
        Some(answered as f64),
        CONNECTIONS as f64,
        "connections",
    );
    rig.number("garbage messages", Some(garbage_messages(&ended.published)), "messages");
    let rtmp = ended.rtmp_shown();
    let what = "RTMP: a server that speaks it to the first picture";
    rig.at_most(what, first_after(&rtmp, served), SERVER_BACK_MS, "ms");
    // Frames with a broken header are none.
    let invalid = |n: u64| n >= INVALID_FROM && (n - INVALID_FROM).is_multiple_of(INVALID_EVERY);
    let rtp = ended.rtp_shown();
    let wrong = rtp.iter().filter(|one| invalid(one.n)).count() as f64;
    rig.equals("pictures of frames whose header was broken", Some(wrong), 0.0, "pictures");
    ended.published.retain(|frame| !invalid(frame.n));
    let usual = normal(rig, "RTP", &rtp, from, interval_ns)?;
    let last = ended.published.last().map_or(from, |frame| frame.unix_ns);
    // To half a second before the end, when all that was published has come.
    undisturbed(rig, &ended, &usual, from..last.saturating_sub(500_000_000), interval_ns);
    Ok(())
}

fn garbage_messages(published: &[frames::Published]) -> f64 {
    published.iter().filter(|frame| frame.n >= BEFORE as u64 && frame.n.is_multiple_of(2)).count() as f64
        * 200.0
}

/// The RTMP server is killed, and another one starts at its port.
pub fn restart(rig: &mut Rig) -> Step {
    let setup = Setup { rtmp: Some("h264"), ..Setup::default() };
    let interval_ns = setup.interval_ns();
    let mut line = Line::start(rig, setup)?;
    line.wait_for_pictures(rig, BEFORE)?;
    let killed = unix_now_ns();
    let first = line.rtmp.take().map(|mut server| {
        server.process.kill();
        server.pictures()
    });
    rig.pass(AWAY)?;
    line.serve_rtmp(rig)?;
    let served = unix_now_ns();
    line.wait_for(rig, "pictures at the second server", |line| line.rtmp_pictures().len() >= AFTER)?;
    let ended = line.finish(rig)?;
    let first = frames::join(&ended.published, &first.unwrap_or_default(), Ticks::Flv);
    let rtmp = ended.rtmp_shown();
    let back = first_after(&rtmp, served);
    rig.at_most("RTMP: the second server listens to the first picture", back, SERVER_BACK_MS, "ms");
    rig.number("RTMP: the first server was killed to the first picture", first_after(&rtmp, killed), "ms");
    let connections = ended.run["rtmp"]["connections"].as_f64();
    rig.equals("RTMP connections that carried pictures", connections, 2.0, "connections");
    let begins = rtmp.first().is_some_and(|one| one.picture.key);
    rig.holds("RTMP: the first picture is a key frame", begins);
    let usual = normal(rig, "RTMP", &first, killed, interval_ns)?;
    // Those that waited while the connection came up are no measure of it.
    let came = rtmp.first().map_or(served, |one| one.picture.unix_ns);
    let after = frames::published_in(&rtmp, came..u64::MAX);
    recovered(rig, "RTMP, frames captured after the first picture", &usual, &after);
    let waited = rtmp.len() - after.len();
    rig.number("frames that waited for the connection", Some(waited as f64), "pictures");
    let beside = normal(rig, "RTP", &ended.rtp_shown(), killed, interval_ns)?;
    let until = rtmp.first().map_or(served, |one| one.picture.unix_ns);
    undisturbed(rig, &ended, &beside, killed..until, interval_ns);
    Ok(())
}

/// A TCP server whose answers are garbage: at once, behind a handshake as it should be, or of another protocol.
struct Nonsense {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Nonsense {
    fn serve(port: u16) -> Step<Self> {
        let failed = |error: std::io::Error| Trouble::Failed(format!("port {port}: {error}"));
        let listener = TcpListener::bind(("127.0.0.1", port)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let (stopped, count) = (stop.clone(), answered.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        // Whatever a client does with it is its affair.
                        let _ = answer(stream, count.load(Ordering::Relaxed), &stopped);
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(_) => std::thread::sleep(TICK),
                }
            }
        });
        Ok(Self { stop, answered, thread: Some(thread) })
    }

    fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Closes the port.
    fn end(mut self) -> usize {
        self.join();
        self.answered()
    }

    fn join(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Nonsense {
    fn drop(&mut self) {
        self.join();
    }
}

fn answer(mut stream: TcpStream, number: usize, stopped: &AtomicBool) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(TICK))?;
    stream.set_write_timeout(Some(HOLDS))?;
    let end = Instant::now() + HOLDS;
    match number % 3 {
        0 => stream.write_all(&junk(number))?,
        1 => {
            let mut hello = vec![0; 1 + HANDSHAKE];
            let over = || stopped.load(Ordering::Relaxed) || Instant::now() > end;
            read_all(&mut stream, &mut hello, over)?;
            // S0, S1 and, as S2, C1 again.
            let mut reply = hello.clone();
            reply.extend_from_slice(&hello[1..]);
            stream.write_all(&reply)?;
            stream.write_all(&junk(number))?;
        }
        _ => stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")?,
    }
    let mut rest = [0; 4096];
    while !stopped.load(Ordering::Relaxed) && Instant::now() < end {
        match stream.read(&mut rest) {
            Ok(0) => break,
            Ok(_) => (),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => (),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn read_all(stream: &mut TcpStream, to: &mut [u8], over: impl Fn() -> bool) -> std::io::Result<()> {
    let mut filled = 0;
    while filled < to.len() {
        match stream.read(&mut to[filled..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(size) => filled += size,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if over() {
                    return Err(ErrorKind::TimedOut.into());
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The same bytes in each run: xorshift.
fn junk(seed: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64 ^ seed as u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(JUNK).collect()
}
