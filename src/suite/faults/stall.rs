// SPDX-License-Identifier: MPL-2.0

//! A server that does not read for five seconds, and a streamer that does not run for as long.

use std::time::Duration;

use cvmmap_ipc::clock::unix_now_ns;
use rustix::process::Signal;

use super::{GROWS_BY, one_session, recovered, undisturbed};
use crate::suite::frames::{self, Shown, Ticks};
use crate::suite::line::{Ended, Line, Setup, normal};
use crate::suite::memory::{self, Sample, Sampler};
use crate::suite::rig::{Rig, Step, Trouble, ms};

const STALL: Duration = Duration::from_secs(5);
/// Three seconds at the usual rate, of which the first does not count.
const BEFORE: usize = 90;
/// Four seconds until a server stops reading: by then the memory of the streamer's start has settled.
const WARM: usize = 120;
/// Pictures behind the stall: on a machine with other work, five in a row at normal latency may take a while.
const AFTER: usize = 60;
/// In kbit/s, and frames: the pattern's key frames are a tenth of a raw frame, and what changes between them is next to
/// nothing at any bitrate. With every third one a key frame, what comes in five seconds is several times as much as the
/// memory that a stall may cost.
const HEAVY: (u32, u32) = (20_000, 3);
/// What was left out, in bounds of memory: a streamer that kept it would be far beyond the bound.
const TEMPTS: f64 = 1.5;
/// The longest wait between attempts to connect that is reached by then: a silent server is given up after three seconds,
/// and in the other two no more than three attempts can fail.
const RECONNECTS: Duration = Duration::from_secs(2);

const BACK_RULE: &str = "the stall ends five seconds after the first bytes of the last picture before it; from then on \
frames are counted as they are published, shown or not, until one is shown at normal latency with four more behind it; \
the bound is the frames from one key frame to the next and those of the two seconds that the streamer may wait between \
two attempts to connect";
const TEMPTS_RULE: &str = "what a queue would have kept is the access units that were left out, each of the mean size of \
all that were encoded";
const MEMORY_RULE: &str = "memory is what no file backs (RssAnon), every 50 ms; growth is the highest sample in the \
span above the median of the second before it; two raw frames are 2 x width x height x 3 bytes of BGR";

/// The RTMP server stops reading; RTP beside it does not notice.
pub fn sink(rig: &mut Rig) -> Step {
    let rtmp_arguments = ["--stall-after", &WARM.to_string(), "--stall-ms", &STALL.as_millis().to_string()]
        .map(str::to_owned)
        .to_vec();
    let setup = Setup {
        size: (640, 360),
        bitrate: HEAVY.0,
        gop: HEAVY.1,
        rtmp: Some("h264"),
        rtmp_arguments,
        ..Setup::default()
    };
    let interval_ns = setup.interval_ns();
    let raw = setup.raw_bytes();
    let mut line = Line::start(rig, setup)?;
    let sampler = Sampler::start(line.run.pid(), rig.file("run.memory.csv"));
    line.wait_for(rig, "the server to stop reading", |line| {
        line.rtmp.as_ref().is_some_and(|server| server.process.stderr().contains("not reading"))
    })?;
    rig.pass(STALL)?;
    let passed = unix_now_ns();
    line.wait_for(rig, "pictures behind the stall", |line| {
        let pictures = line.rtmp_pictures();
        frames::published_in(&frames::join(&line.published(), &pictures, Ticks::Flv), passed..u64::MAX).len()
            >= AFTER
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
    // By the server's clock: the first picture behind the stall may be late itself, or never come.
    let over = from + STALL.as_nanos() as u64;
    let newer = frames::published_in(&rtmp, over..u64::MAX);
    let back = usual.recovered_after(&newer).and_then(|at| newer.get(at));
    let dark = back.map(|back| {
        ended.published.iter().filter(|frame| frame.unix_ns >= over && frame.n < back.n).count() as f64
    });
    let bound = f64::from(HEAVY.1) + RECONNECTS.as_nanos() as f64 / interval_ns as f64;
    rig.rule(BACK_RULE);
    rig.at_most(
        "RTMP: frames published from the end of the stall to the first one shown at normal latency",
        dark,
        bound.round(),
        "frames",
    );
    rig.number("frames that were in the sockets and came late", Some(late.len() as f64), "pictures");
    let oldest = late.iter().map(Shown::latency_ns).max();
    rig.number("latency of the latest of them", oldest.map(ms), "ms");
    rig.number(
        "time from the end of the stall to the first newer picture",
        super::first_after(&after, to),
        "ms",
    );
    rig.number("RTMP sessions", ended.rtmp_summary["sessions"].as_f64(), "sessions");
    grown(rig, &samples, from..to.max(over), raw);
    tempted(rig, &ended, raw);
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

/// There was so much to keep that the bound of memory could have been broken.
fn tempted(rig: &mut Rig, ended: &Ended, raw_frame: f64) {
    let left_out = ended.run["rtmp"]["dropped"].as_f64();
    rig.rule(TEMPTS_RULE);
    rig.at_least("access units that were left out", left_out, 1.0, "access units");
    let mean = ended.run["bytes"].as_f64().zip(ended.run["frames_encoded"].as_f64());
    let mean = mean.map(|(bytes, units)| bytes / units);
    rig.number("mean size of an access unit", mean, "bytes");
    let kept = left_out.zip(mean).map(|(units, bytes)| units * bytes);
    rig.at_least(
        "what was left out, which is what a queue would have kept",
        kept,
        TEMPTS * GROWS_BY * raw_frame,
        "bytes",
    );
}

fn grown(rig: &mut Rig, samples: &[Sample], span: std::ops::Range<u64>, raw_frame: f64) {
    rig.rule(MEMORY_RULE);
    let growth = memory::growth(samples, span);
    rig.at_most("growth of the streamer's memory", growth, GROWS_BY * raw_frame, "bytes");
    rig.number("of which a raw frame has", Some(raw_frame), "bytes");
}
