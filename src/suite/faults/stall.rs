// SPDX-License-Identifier: MPL-2.0

//! A server that does not read for five seconds, and a streamer that does not run for as long.

use std::time::Duration;

use cvmmap_ipc::clock::unix_now_ns;
use rustix::process::Signal;

use super::{GROWS_BY, one_session, recovered, undisturbed};
use crate::suite::frames::{self, Shown};
use crate::suite::line::{Ended, Line, Setup, normal};
use crate::suite::memory::{self, Sample, Sampler};
use crate::suite::rig::{Rig, Step, Trouble, ms};

const STALL: Duration = Duration::from_secs(5);
/// Three seconds at the usual rate, of which the first does not count.
const BEFORE: usize = 90;
/// Pictures behind the stall.
const AFTER: usize = 30;

const MEMORY_RULE: &str = "memory is what no file backs (RssAnon), every 50 ms; growth is the highest sample in the \
span above the median of the second before it; two raw frames are 2 x width x height x 3 bytes of BGR";

/// The RTMP server stops reading; RTP beside it does not notice.
pub fn sink(rig: &mut Rig) -> Step {
    let rtmp_arguments = ["--stall-after", &BEFORE.to_string(), "--stall-ms", &STALL.as_millis().to_string()]
        .map(str::to_owned)
        .to_vec();
    let setup =
        Setup { size: (1280, 720), bitrate: 2000, rtmp: Some("h264"), rtmp_arguments, ..Setup::default() };
    let interval_ns = setup.interval_ns();
    let raw = setup.raw_bytes();
    let mut line = Line::start(rig, setup)?;
    let sampler = Sampler::start(line.run.pid(), rig.file("run.memory.csv"));
    line.wait_for(rig, "the server to stop reading", |line| {
        line.rtmp.as_ref().is_some_and(|server| server.process.stderr().contains("not reading"))
    })?;
    rig.pass(STALL)?;
    let over = unix_now_ns();
    line.wait_for(rig, "pictures behind the stall", |line| {
        let pictures = line.rtmp_pictures();
        frames::published_in(&frames::join(&line.published(), &pictures), over..u64::MAX).len() >= AFTER
    })?;
    let ended = line.finish(rig)?;
    let samples = sampler.end();

    let Some((from, to)) = frames::longest_gap(&ended.rtmp) else {
        return Err(Trouble::Failed("the RTMP receiver showed nothing".into()));
    };
    rig.at_least("time that the server read nothing", Some(ms(to - from)), 4900.0, "ms");
    let [rtp, rtmp] = [ended.rtp_shown(), ended.rtmp_shown()];
    let usual = normal(rig, "RTMP", &rtmp, from, interval_ns)?;
    let late: Vec<Shown> =
        rtmp.iter().filter(|one| one.picture.unix_ns >= to && one.published_ns < to).copied().collect();
    let after = frames::published_in(&rtmp, to..u64::MAX);
    recovered(rig, "RTMP, frames captured after the stall", &usual, &after);
    rig.number("frames that were in the sockets and came late", Some(late.len() as f64), "pictures");
    let oldest = late.iter().map(Shown::latency_ns).max();
    rig.number("latency of the latest of them", oldest.map(ms), "ms");
    rig.number(
        "time from the end of the stall to the first newer picture",
        super::first_after(&after, to),
        "ms",
    );
    rig.number("access units that were left out", ended.run["rtmp"]["dropped"].as_f64(), "access units");
    rig.number("RTMP sessions", ended.rtmp_summary["sessions"].as_f64(), "sessions");
    grown(rig, &samples, from..to, raw);
    let beside = normal(rig, "RTP", &rtp, from, interval_ns)?;
    undisturbed(rig, &ended, &beside, from..to, interval_ns);
    Ok(())
}

/// The streamer itself does not run; what comes next is the latest frame.
pub fn streamer(rig: &mut Rig) -> Step {
    let setup = Setup { size: (1280, 720), bitrate: 2000, rtmp: Some("h264"), ..Setup::default() };
    let (interval_ns, raw) = (setup.interval_ns(), setup.raw_bytes());
    let mut line = Line::start(rig, setup)?;
    let sampler = Sampler::start(line.run.pid(), rig.file("run.memory.csv"));
    line.wait_for_pictures(rig, BEFORE)?;
    let from = unix_now_ns();
    line.run.signal(Signal::STOP);
    rig.pass(STALL)?;
    let to = unix_now_ns();
    line.run.signal(Signal::CONT);
    line.wait_for(rig, "pictures behind the stop", |line| {
        [line.rtp_pictures(), line.rtmp_pictures()]
            .iter()
            .all(|pictures| pictures.iter().filter(|picture| picture.unix_ns >= to).count() >= AFTER)
    })?;
    let ended = line.finish(rig)?;
    let samples = sampler.end();
    for (name, shown) in [("RTP", ended.rtp_shown()), ("RTMP", ended.rtmp_shown())] {
        latest(rig, name, &shown, from..to, interval_ns)?;
    }
    one_session(rig, &ended);
    // What comes right behind the stop belongs to it: that is where a backlog would be.
    grown(rig, &samples, from..to + 1_000_000_000, raw);
    frames_of_the_stop(rig, &ended, from..to);
    Ok(())
}

/// The first picture behind the stop is of the end of it, and latency is normal at once.
fn latest(rig: &mut Rig, name: &str, shown: &[Shown], stop: std::ops::Range<u64>, interval_ns: u64) -> Step {
    let usual = normal(rig, name, shown, stop.start, interval_ns)?;
    let (before, after): (Vec<Shown>, Vec<Shown>) =
        shown.iter().partition(|one| one.picture.unix_ns < stop.end);
    recovered(rig, name, &usual, &after);
    // The picture that counts as back to normal: those before it were inside the streamer when it stopped.
    let back = usual.recovered_after(&after).and_then(|at| after.get(at));
    let jump = back.zip(before.last()).map(|(back, last)| (back.n - last.n) as f64);
    let least = 0.9 * STALL.as_nanos() as f64 / interval_ns as f64;
    rig.at_least(&format!("{name}: frames skipped by the stop"), jump, least, "frames");
    Ok(())
}

fn frames_of_the_stop(rig: &mut Rig, ended: &Ended, stop: std::ops::Range<u64>) {
    let kept = frames::published_in(&ended.rtp_shown(), stop).len();
    // The latest, and what the encoder had begun with.
    rig.at_most("frames of the stop that were shown afterwards", Some(kept as f64), 3.0, "frames");
}

fn grown(rig: &mut Rig, samples: &[Sample], span: std::ops::Range<u64>, raw_frame: f64) {
    rig.rule(MEMORY_RULE);
    let growth = memory::growth(samples, span);
    rig.at_most("growth of the streamer's memory", growth, GROWS_BY * raw_frame, "bytes");
    rig.number("of which a raw frame has", Some(raw_frame), "bytes");
}
