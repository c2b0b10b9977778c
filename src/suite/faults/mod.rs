// SPDX-License-Identifier: MPL-2.0

//! What goes wrong on purpose, and what must hold all the same.
//!
//! - [`torn`]: a producer that is read while it writes;
//! - [`stall`]: a server that does not read, and a streamer that does not run;
//! - [`producer`]: resets, crashes, segments that shrink, pictures that grow;
//! - [`wire`]: garbage, and a server that goes and comes back;
//! - [`nats`]: the control plane's server, which does the same.

mod nats;
mod producer;
mod stall;
mod torn;
mod wire;

use super::frames::{self, Normal, Shown, percentile};
use super::line::Ended;
use super::rig::{Rig, ms};
use super::{Spec, rows};

/// The rows in the order they run.
pub const ROWS: &[Spec] = rows![
    ("torn-reads", 40, torn::reads),
    ("torn-reads-proof", 40, torn::proof),
    ("sink-stall", 60, stall::sink),
    ("streamer-stop", 50, stall::streamer),
    ("reset-storm", 50, producer::reset_storm),
    ("producer-crash", 50, producer::crash),
    ("segment-shrink", 50, producer::shrink),
    ("size-change", 50, producer::grow),
    ("garbage", 90, wire::garbage),
    ("rtmp-restart", 60, wire::restart),
    ("nats-restart", 60, nats::restart),
];

/// Pictures until latency is back to normal, as the issue names it.
const RECOVERS_WITHIN: f64 = 3.0;
/// Raw frames by which memory may grow.
const GROWS_BY: f64 = 2.0;
/// Of the share before the fault: other work on the machine makes the queue skip frames, a stall would skip all.
const STILL_SHOWN: f64 = 0.75;
/// Of a producer that came back: its start, two handshakes and a key frame, on a machine with other work.
const PRODUCER_BACK_MS: f64 = 5_000.0;
/// Of a server that came back: the longest wait between attempts is five seconds, then come a handshake and a key frame.
const SERVER_BACK_MS: f64 = 12_000.0;

/// Asserts that a stream went on beside a fault as before it: hardly a frame was left out, none was late.
fn undisturbed(rig: &mut Rig, ended: &Ended, normal: &Normal, span: std::ops::Range<u64>, interval_ns: u64) {
    let all = ended.rtp_shown();
    let share = |span: std::ops::Range<u64>| {
        let published = ended.published.iter().filter(|frame| span.contains(&frame.unix_ns)).count();
        let shown = frames::published_in(&all, span).len();
        (published > 0).then(|| shown as f64 / published as f64)
    };
    let settled = all.first().map_or(0, |first| first.published_ns + 1_000_000_000);
    let before = share(settled..span.start).unwrap_or(1.0);
    rig.number("RTP before the fault: share of the published frames shown", Some(before), "of 1");
    let what = "RTP beside the fault: share of the published frames shown";
    rig.at_least(what, share(span.clone()), STILL_SHOWN * before, "of 1");
    let shown = frames::published_in(&all, span.clone());
    let latencies: Vec<u64> = shown.iter().map(Shown::latency_ns).collect();
    let p95 = percentile(&latencies, 95).map(ms);
    rig.at_most("RTP beside the fault: p95 latency", p95, ms(normal.bound_ns), "ms");
    rig.number("RTP beside the fault: median latency", percentile(&latencies, 50).map(ms), "ms");
    let gap = Some(ms(frames::longest_gap_in(&ended.rtp, span)));
    // A third of a second at 30 fps, for a loaded machine: a stall of the branch beside it takes seconds.
    let bound = ms(10 * interval_ns);
    rig.at_most("RTP beside the fault: longest time without a picture", gap, bound, "ms");
}

/// Asserts the three frames.
fn recovered(rig: &mut Rig, name: &str, normal: &Normal, after: &[Shown]) {
    let took = normal.recovered_after(after).map(|count| count as f64);
    let what = format!("{name}: pictures until latency was back to normal");
    rig.at_most(&what, took, RECOVERS_WITHIN, "pictures");
    rig.number(
        &format!("{name}: first latency afterwards"),
        after.first().map(|one| ms(one.latency_ns())),
        "ms",
    );
}

/// Asserts that RTMP was published once.
fn one_session(rig: &mut Rig, ended: &Ended) {
    rig.equals("RTMP sessions", ended.rtmp_summary["sessions"].as_f64(), 1.0, "sessions");
}

/// From a moment to the first of these pictures.
fn first_after(shown: &[Shown], since_ns: u64) -> Option<f64> {
    shown.first().map(|first| ms(first.picture.unix_ns.saturating_sub(since_ns)))
}
