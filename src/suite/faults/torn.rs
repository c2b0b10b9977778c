// SPDX-License-Identifier: MPL-2.0

//! A producer that writes slowly and pauses in the middle, with hardly a moment between two frames.

use serde_json::Value;

use crate::suite::line::{Line, Setup};
use crate::suite::process::Process;
use crate::suite::rig::{Rig, Step, Trouble};

/// The streamer gets those frames that were whole.
const PICTURES: usize = 90;
const SECONDS: &str = "3";

/// No torn frame leaves the source.
///
/// A lossy codec hides small tears, so readers that compare every byte run beside the streamer; one of them trusts the
/// metadata as a plain client does, which shows that there was something to be torn.
pub fn reads(rig: &mut Rig) -> Step {
    let faults = ["pause@0+2=6", "slow@1+2=6"].map(str::to_owned).to_vec();
    let setup = Setup { size: (640, 360), fps: 120, bitrate: 4000, faults, ..Setup::default() };
    let mut line = Line::start(rig, setup)?;
    line.wait_for_frame(rig, 10)?;
    let mut verifying = inspect(rig, "inspect-verify", "verify")?;
    let mut naive = inspect(rig, "inspect-metadata", "metadata")?;
    line.wait_for(rig, "both inspections", |_| verifying.ended().is_some() && naive.ended().is_some())?;
    line.wait_for_pictures(rig, PICTURES)?;
    let ended = line.finish(rig)?;

    let [verified, trusted] = [frames(&verifying)?, frames(&naive)?];
    let count = |report: &Value, name: &str| report[name].as_f64();
    rig.equals(
        "torn frames accepted, by every byte, with verify",
        count(&verified, "accepted_torn"),
        0.0,
        "frames",
    );
    rig.at_least("frames accepted with verify", count(&verified, "accepted"), 20.0, "frames");
    rig.number("frames refused as torn with verify", count(&verified, "torn"), "frames");
    let torn = count(&trusted, "accepted_torn");
    rig.at_least("torn frames that a reader took who trusts the metadata", torn, 1.0, "frames");
    rig.number("frames that this reader took", count(&trusted, "accepted"), "frames");
    let refused = ended.run["dropped"]["torn"].as_f64();
    rig.at_least("frames that the streamer refused as torn", refused, 1.0, "frames");
    rig.at_least("pictures received", Some(ended.rtp.len() as f64), PICTURES as f64, "pictures");
    Ok(())
}

fn inspect(rig: &mut Rig, name: &str, coherence: &str) -> Step<Process> {
    let target = rig.target();
    // Long enough to be late now and then, as a client that does something with frames is.
    let args = ["inspect", &target, "--seconds", SECONDS, "--coherence", coherence, "--pattern", "--json"];
    let busy = ["--busy-ms", "5"];
    rig.start(name, args.iter().chain(&busy).map(|arg| (*arg).to_owned()).collect())
}

fn frames(process: &Process) -> Step<Value> {
    match process.summary() {
        Some(report) => Ok(report["frames"].clone()),
        None => Err(Trouble::Failed(format!("{} printed no report", process.name()))),
    }
}
