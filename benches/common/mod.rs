// SPDX-License-Identifier: MPL-2.0

//! What the benchmarks share: rows of the table, medians, and peers as processes of their own.

#![allow(dead_code)]

pub mod recordings;

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub fn row(what: &str, ours: &str, peer: &str, ratio: f64, limit: f64) {
    let verdict = if ratio <= limit { "met" } else { "MISSED" };
    println!("| {what} | {ours} | {peer} | {ratio:.2} | <= {limit:.2} | {verdict} |");
}

pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub fn percentile(values: &mut [u64], percent: usize) -> u64 {
    values.sort_unstable();
    values[(values.len() - 1) * percent / 100]
}

pub fn ms(ns: u64) -> String {
    format!("{:.3} ms", ns as f64 / 1e6)
}

/// A name that no other process or call has.
pub fn unique(name: &str) -> String {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("{name}-{}-{n}", std::process::id())
}

pub fn pin(core: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    // A machine with one core is measured as it is.
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

/// This program again, with arguments that say what to be; killed at the end.
pub struct Peer(pub Child);

impl Peer {
    pub fn new(args: &[&str]) -> Self {
        let child = Command::new(std::env::current_exe().unwrap()).args(args).stdout(Stdio::piped()).spawn();
        Self(child.unwrap())
    }

    /// The number that it prints at its end.
    pub fn output(self) -> f64 {
        self.outputs()[0]
    }

    /// The numbers that it prints at its end.
    pub fn outputs(mut self) -> Vec<f64> {
        let mut text = String::new();
        self.0.stdout.as_mut().unwrap().read_to_string(&mut text).unwrap();
        let numbers: Result<Vec<f64>, _> = text.split_whitespace().map(str::parse).collect();
        numbers
            .ok()
            .filter(|numbers| !numbers.is_empty())
            .unwrap_or_else(|| panic!("a child printed {text:?}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A cv-mmap producer that is killed at the end, and cleaned up after.
pub struct CvMmapPeer {
    pub name: String,
    pub process: Peer,
}

impl CvMmapPeer {
    /// Returns when its names are there.
    pub fn new(kind: &str, start: impl FnOnce(&str) -> Peer) -> Self {
        let name = unique(kind);
        let process = start(&name);
        while !cvmmap_ipc::peek_segment(&format!("cvmmap_{name}")).is_ok_and(|info| info.header.is_ok()) {
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { name, process }
    }
}

impl Drop for CvMmapPeer {
    fn drop(&mut self) {
        let _ = self.process.0.kill();
        let _ = self.process.0.wait();
        let _ = std::fs::remove_file(format!("/dev/shm/cvmmap_{}", self.name));
        let _ = std::fs::remove_file(format!("/tmp/cvmmap_{}", self.name));
    }
}

/// The most memory that any child which has ended had at a time, in bytes.
pub fn peak_of_children() -> u64 {
    let mut usage = std::mem::MaybeUninit::zeroed();
    // SAFETY: the call fills the whole struct, for which zeros are valid too.
    let usage: libc::rusage = unsafe {
        libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr());
        usage.assume_init()
    };
    usage.ru_maxrss as u64 * 1024
}

/// What this process has used up so far.
pub fn usage() -> libc::rusage {
    let mut usage = std::mem::MaybeUninit::zeroed();
    // SAFETY: the call fills the whole struct, for which zeros are valid too.
    unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    }
}

/// CPU time of this process so far, in nanoseconds.
pub fn cpu_ns() -> u64 {
    let usage = usage();
    let ns = |time: libc::timeval| (time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64) * 1000;
    ns(usage.ru_utime) + ns(usage.ru_stime)
}

/// CPU time of another process so far, in nanoseconds.
pub fn cpu_ns_of(pid: u32) -> u64 {
    let (mut clock, mut time) = (0, libc::timespec { tv_sec: 0, tv_nsec: 0 });
    // SAFETY: both calls write through a pointer to a value of that type, and nowhere else.
    let failed = unsafe {
        libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) != 0
            || libc::clock_gettime(clock, &mut time) != 0
    };
    // It has ended; nobody uses what it said last.
    if failed { 0 } else { time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64 }
}
