// SPDX-License-Identifier: MPL-2.0

//! A process's memory over time.

use std::fs::File;
use std::io::{LineWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use cvmmap_ipc::clock::unix_now_ns;

use super::frames::percentile;

const EVERY: Duration = Duration::from_millis(50);

/// Unix time in ns, and bytes of memory that no file backs.
pub type Sample = (u64, u64);

/// Samples until it is asked for them.
pub struct Sampler {
    stop: Sender<()>,
    thread: JoinHandle<Vec<Sample>>,
}

impl Sampler {
    /// Samples process `pid`, and writes `log` as it goes: whoever kills the suite keeps what was measured.
    pub fn start(pid: u32, log: PathBuf) -> Self {
        let (stop, stopped) = channel();
        let status = PathBuf::from(format!("/proc/{pid}/status"));
        let thread = std::thread::spawn(move || {
            // Evidence only: the numbers are in the summary.
            let mut log = File::create(log).map(LineWriter::new).ok();
            let mut write = |line: std::fmt::Arguments| {
                let _ = log.as_mut().map(|log| writeln!(log, "{line}"));
            };
            write(format_args!("unix_ns,rss_anon_bytes"));
            let mut samples = Vec::new();
            loop {
                if let Some(bytes) = anonymous(&status) {
                    let at = unix_now_ns();
                    write(format_args!("{at},{bytes}"));
                    samples.push((at, bytes));
                }
                if stopped.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout) {
                    return samples;
                }
            }
        });
        Self { stop, thread }
    }

    /// All samples.
    pub fn end(self) -> Vec<Sample> {
        let _ = self.stop.send(());
        self.thread.join().unwrap_or_default()
    }
}

fn anonymous(status: &Path) -> Option<u64> {
    parse(&std::fs::read_to_string(status).ok()?)
}

fn parse(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilo| kilo * 1024)
}

/// How far the highest sample in `span` is above the median of the second before it, in bytes; it may be below.
pub fn growth(samples: &[Sample], span: std::ops::Range<u64>) -> Option<f64> {
    let of = |span: std::ops::Range<u64>| {
        samples.iter().filter(|(at, _)| span.contains(at)).map(|(_, bytes)| *bytes).collect::<Vec<_>>()
    };
    let before = percentile(&of(span.start.saturating_sub(1_000_000_000)..span.start), 50)?;
    let highest = of(span).into_iter().max()?;
    Some(highest as f64 - before as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_memory_is_read() {
        assert_eq!(parse("VmRSS:\t  9 kB\nRssAnon:\t    1234 kB\nRssFile: 1 kB\n"), Some(1234 * 1024));
        assert_eq!(parse("VmRSS: 9 kB\n"), None);
        assert!(anonymous(Path::new("/proc/self/status")).unwrap() > 0);
    }

    #[test]
    fn growth_is_above_what_was_usual_before() {
        let second = 1_000_000_000;
        let samples: Vec<Sample> = [(1, 50), (2, 900), (3, 100), (4, 100), (5, 130), (6, 120), (7, 999)]
            .map(|(tenth, bytes)| (10 * second + tenth * second / 10, bytes))
            .to_vec();
        let span = |from: u64, to: u64| 10 * second + from * second / 10..10 * second + to * second / 10;
        assert_eq!(growth(&samples, span(5, 7)), Some(30.0));
        assert_eq!(growth(&samples, span(3, 5)), Some(50.0));
        assert_eq!(growth(&samples, span(1, 5)), None, "nothing before");
        assert_eq!(growth(&samples, span(8, 9)), None, "nothing in it");
    }

    #[test]
    fn a_sampler_leaves_a_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("memory.csv");
        let sampler = Sampler::start(std::process::id(), log.clone());
        let read = || std::fs::read_to_string(&log).unwrap_or_default();
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while read().lines().count() < 3 {
            assert!(std::time::Instant::now() < end, "it is written while samples are taken");
            std::thread::sleep(Duration::from_millis(5));
        }
        let samples = sampler.end();
        assert!(read().starts_with("unix_ns,rss_anon_bytes\n"));
        assert_eq!(read().lines().count(), samples.len() + 1);
    }
}
