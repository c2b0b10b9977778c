// SPDX-License-Identifier: MPL-2.0

//! Producers that are read while they write: no torn frame leaves the source.
//!
//! A lossy codec hides small tears, so readers that compare every byte run beside the streamer; one of them trusts the
//! metadata as a plain client does, which shows that there was something to be torn.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::suite::line::{Line, Setup};
use crate::suite::process::Process;
use crate::suite::rig::{Rig, Step, Trouble};

const PICTURES: usize = 60;
const SECONDS: &str = "3";
/// How often and how long the streamer is held up, so that it comes late to frames, also in the middle of one.
const HELD_EVERY: Duration = Duration::from_millis(47);
const HELD_FOR: Duration = Duration::from_millis(25);

/// A third of each interval is fill, slow or with a pause in the middle; readers are held up again and again.
pub fn reads(rig: &mut Rig) -> Step {
    let faults = ["pause@0+2=8", "slow@1+2=8"].map(str::to_owned).to_vec();
    let setup = Setup { size: (1280, 720), bitrate: 2000, faults, ..Setup::default() };
    let mut line = Line::start(rig, setup)?;
    line.wait_for_frame(rig, 10)?;
    let [mut verifying, mut naive] = inspections(rig, "40")?;
    while verifying.ended().is_none() || naive.ended().is_none() {
        line.run.must_run()?;
        rig.pass(HELD_EVERY)?;
        line.run.signal(Signal::STOP);
        let held = rig.pass(HELD_FOR);
        line.run.signal(Signal::CONT);
        held?;
    }
    line.wait_for_pictures(rig, PICTURES)?;
    let ended = line.finish(rig)?;
    let verified = frames(&verifying)?;
    let torn = verified["accepted_torn"].as_f64();
    rig.equals("torn frames accepted, by every byte, with verify", torn, 0.0, "frames");
    rig.at_least("frames accepted with verify", verified["accepted"].as_f64(), 10.0, "frames");
    temptation(rig, &naive)?;
    let dropped = &ended.run["dropped"];
    // It was tempted too: of those that it missed for being held up, some were torn when it looked.
    rig.at_least("frames that the streamer refused as torn", dropped["torn"].as_f64(), 1.0, "frames");
    rig.number("frames that it did not hand on, for any cause", dropped["source"].as_f64(), "frames");
    rig.at_least("pictures received", Some(ended.rtp.len() as f64), PICTURES as f64, "pictures");
    Ok(())
}

/// Fills of changing length take nearly all of each interval: more than `verify` is made for, and what `next-sync` is.
pub fn proof(rig: &mut Rig) -> Step {
    let faults = ["pause@0+2=6", "slow@1+2=6"].map(str::to_owned).to_vec();
    let run_arguments = ["--coherence", "next-sync"].map(str::to_owned).to_vec();
    let setup =
        Setup { size: (640, 360), fps: 120, bitrate: 4000, faults, run_arguments, ..Setup::default() };
    let mut line = Line::start(rig, setup)?;
    line.wait_for_frame(rig, 10)?;
    let [mut verifying, mut naive] = inspections(rig, "5")?;
    line.wait_for(rig, "both inspections", |_| verifying.ended().is_some() && naive.ended().is_some())?;
    line.wait_for_pictures(rig, PICTURES)?;
    let ended = line.finish(rig)?;
    let verified = frames(&verifying)?;
    rig.number("torn frames that verify accepted here", verified["accepted_torn"].as_f64(), "frames");
    rig.number("frames that verify accepted here", verified["accepted"].as_f64(), "frames");
    temptation(rig, &naive)?;
    let refused = ended.run["dropped"]["torn"].as_f64();
    rig.at_least("frames that the streamer refused as torn", refused, 1.0, "frames");
    rig.at_least("pictures received", Some(ended.rtp.len() as f64), PICTURES as f64, "pictures");
    Ok(())
}

/// What this producer does to readers who do not look.
fn temptation(rig: &mut Rig, naive: &Process) -> Step {
    let trusted = frames(naive)?;
    let torn = trusted["accepted_torn"].as_f64();
    rig.at_least("torn frames that a reader took who trusts the metadata", torn, 1.0, "frames");
    rig.number("frames that this reader took", trusted["accepted"].as_f64(), "frames");
    Ok(())
}

/// A reader that verifies and one that does not, each spending some time on each frame, so that they come late.
fn inspections(rig: &mut Rig, busy_ms: &str) -> Step<[Process; 2]> {
    let target = rig.target();
    let mut inspect = |coherence: &str| {
        let args = [
            "inspect",
            &target,
            "--seconds",
            SECONDS,
            "--coherence",
            coherence,
            "--busy-ms",
            busy_ms,
            "--pattern",
            "--json",
        ];
        rig.start(&format!("inspect-{coherence}"), args.map(str::to_owned).to_vec())
    };
    Ok([inspect("verify")?, inspect("metadata")?])
}

fn frames(process: &Process) -> Step<Value> {
    match process.summary() {
        Some(report) => Ok(report["frames"].clone()),
        None => Err(Trouble::Failed(format!("{} printed no report", process.name()))),
    }
}
