// SPDX-License-Identifier: MPL-2.0

//! What the benchmarks share: rows of the table, medians, and peers as processes of their own.

#![allow(dead_code)]

use std::io::Read;
use std::process::{Child, Command, Stdio};

pub fn row(what: &str, ours: &str, peer: &str, ratio: f64, limit: f64) {
    let verdict = if ratio <= limit { "met" } else { "MISSED" };
    println!("| {what} | {ours} | {peer} | {ratio:.2} | <= {limit:.2} | {verdict} |");
}

pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
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
    pub fn output(mut self) -> f64 {
        let mut text = String::new();
        self.0.stdout.as_mut().unwrap().read_to_string(&mut text).unwrap();
        text.trim().parse().unwrap_or_else(|_| panic!("a child printed {text:?}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
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
