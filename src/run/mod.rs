// SPDX-License-Identifier: MPL-2.0

//! `cvmmap-streamer run`: a producer's pictures over RTP and RTMP, from one encoder.
//!
//! - [`plan`]: what the arguments mean, and every rule about them;
//! - [`stage`], [`tune`]: elements with their settings, as the pipeline and as a launch line;
//! - [`encoder`]: the encoder in use, and the next one when it fails;
//! - [`rtp`], [`rtmp`]: the two ways out;
//! - [`control`]: recordings on request;
//! - [`bus`]: errors that elements post;
//! - [`stamps`]: when pictures were captured;
//! - [`meter`], [`report`]: what passes, and how it is told;
//! - [`quiet`]: what libraries complain of, not more often than it helps;
//! - [`session`]: all of that as one running pipeline.

pub mod bus;
pub mod control;
pub mod encoder;
pub mod meter;
pub mod plan;
pub mod quiet;
pub mod report;
pub mod rtmp;
pub mod rtp;
pub mod session;
pub mod stage;
pub mod stamps;
pub(crate) mod teardown;
pub mod tune;

pub use self::plan::{Args, Plan};
use self::report::Reporter;
use self::session::Session;
use crate::exit::{Exit, Failure};
use crate::{interrupt, tell};

/// Streams until the input ends or a signal comes; a second signal ends the process at once.
///
/// # Errors
/// A [`Failure`] whose exit code says what went wrong.
pub fn run(args: Args) -> Result<(), Failure> {
    let plan = args.resolve()?;
    register_elements()?;
    if plan.print {
        tell::result(session::launch_line(&plan)?);
        return Ok(());
    }
    quiet::hold_back_repeats();
    let interrupted = interrupt::listen()?;
    let mut reporter = Reporter::new(plan.json);
    Session::start(&plan)?.run(&interrupted, &mut reporter).map(drop)
}

/// Initialises GStreamer, with the elements that are linked into this program.
///
/// # Errors
/// A [`Failure`] where GStreamer cannot start.
pub fn register_elements() -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(Exit::Pipeline, format!("GStreamer: {error}"));
    gst::init().map_err(|error| failed(&error))?;
    gstcvmmap::plugin_register_static().map_err(|error| failed(&error))?;
    gstflvh265::plugin_register_static().map_err(|error| failed(&error))?;
    gstzedsvo::plugin_register_static().map_err(|error| failed(&error))
}
