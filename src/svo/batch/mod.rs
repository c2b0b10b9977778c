// SPDX-License-Identifier: MPL-2.0

//! `cvmmap-streamer batch`: a command over whole data sets.
//!
//! Each recording or segment is converted by a process of this program: what crashes, or is killed since it needs too
//! much memory, costs one output; its talk and that of its libraries goes into a log of its own; and it ends with the batch,
//! however that ends. The process has the same arguments as the batch and, in its environment, which input is its own.
//!
//! - [`tool`]: the commands that can be run, and what a batch has to know of them;
//! - [`discover`]: which inputs there are;
//! - [`plan`]: what is to be done about each;
//! - [`probe`]: whether an output that is there is whole;
//! - [`share`]: how many at once, and how many threads each;
//! - [`worker`]: one input, in a process of its own; [`crew`]: the processes that run;
//! - [`board`]: how far all of it is, for people; [`logs`], [`report`]: what came of it.

pub mod board;
pub mod crew;
pub mod discover;
pub mod logs;
pub mod plan;
pub mod probe;
pub mod report;
pub mod share;
pub mod tool;
pub mod worker;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;

use self::board::Board;
use self::crew::Crew;
use self::discover::Sources;
use self::logs::Logs;
use self::plan::{Existing, Mode, Plan};
use self::report::{Outcome, Report};
use self::tool::{Resolve, Tool};
use super::{grid, options, to_mcap};
use crate::exit::{Exit, Failure};
use crate::{interrupt, tell};

/// Run a conversion over a whole data set: several at once, what is done already is skipped.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Each recording to MP4, as svo-to-mp4 does
    SvoToMp4(Box<Form<options::Options>>),
    /// Each segment to one MP4 with all cameras, as svo-grid-to-mp4 does
    SvoGridToMp4(Box<Form<grid::options::Options>>),
    /// Each segment to MCAP, as svo-to-mcap does
    SvoToMcap(Box<Form<to_mcap::options::Options>>),
}

/// What a batch of any command takes.
#[derive(Debug, clap::Args)]
struct Form<O: clap::Args> {
    #[command(flatten)]
    sources: Sources,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    options: O,
}

#[derive(Debug, clap::Args)]
struct Settings {
    /// How many are converted at once [default: one a core, as far as the memory reaches]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// The GPUs that encoders see
    #[arg(long, value_name = "LIST")]
    cuda_visible_devices: Option<OsString>,
    /// Check outputs that are there, and make those anew that are not whole
    #[arg(long, conflicts_with = "overwrite")]
    probe_existing: bool,
    /// Check outputs that are there, and convert nothing: exit code 1 where one is not whole
    #[arg(long, conflicts_with_all = ["overwrite", "dry_run", "jobs", "cuda_visible_devices", "log_dir"])]
    report_existing: bool,
    /// Tell what would be done, and write nothing
    #[arg(long, conflicts_with = "log_dir")]
    dry_run: bool,
    /// Folder for one log a conversion [default: a new one below $XDG_STATE_HOME/cvmmap-streamer/batch]
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
    /// Print the summary as one JSON line on stdout
    #[arg(long)]
    json: bool,
}

/// Runs a batch; SIGINT and SIGTERM end it, and a second one at once.
///
/// # Errors
/// A [`Failure`] where it cannot begin, where one or more inputs failed, or where it was interrupted.
pub fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::SvoToMp4(form) => form.run(),
        Command::SvoGridToMp4(form) => form.run(),
        Command::SvoToMcap(form) => form.run(),
    }
}

impl<O: clap::Args + Resolve> Form<O> {
    fn run(&self) -> Result<(), Failure> {
        let own = worker::Own::told();
        let tool = self.options.tool(own.as_ref().and_then(|own| own.threads))?;
        match own {
            Some(own) => worker::run(tool.as_ref(), &own.input, own.replaces),
            None => batch(tool.as_ref(), &self.sources, &self.settings),
        }
    }
}

fn batch(tool: &dyn Tool, sources: &Sources, settings: &Settings) -> Result<(), Failure> {
    let started = Instant::now();
    let interrupted = interrupt::listen()?;
    let found = discover::discover(sources, tool.takes())?;
    let existing = match () {
        () if settings.report_existing => Existing::Reported,
        () if tool.overwrites() => Existing::Replaced,
        () if settings.probe_existing => Existing::Probed,
        () => Existing::Kept,
    };
    let mode = Mode { existing, dry: settings.dry_run };
    let cores = share::cores();
    let mut plan = Plan::new(tool, found, mode, cores, &interrupted);
    let mut report = Report::new(tool.name(), mode);
    if !mode.writes() || interrupted.load(Ordering::Relaxed) {
        report.take(plan.rows, started.elapsed());
        return close(&report, settings.json);
    }
    let fit = || share::jobs(tool.takes(), cores, share::available_memory());
    let jobs = settings.jobs.map_or_else(fit, usize::from);
    let jobs = jobs.min(plan.todo.len());
    if jobs > 0 {
        let logs = Logs::new(settings.log_dir.as_deref())?;
        let board = Board::new(tool.name(), plan.todo.len());
        let devices = settings.cuda_visible_devices.clone();
        report.runs(jobs, &logs);
        let mut crew = Crew::new(jobs, share::threads(cores, jobs), devices, logs, board, &interrupted);
        crew.run(&plan.todo, &mut plan.rows);
    }
    report.take(plan.rows, started.elapsed());
    close(&report, settings.json)
}

fn close(report: &Report, json: bool) -> Result<(), Failure> {
    if json {
        tell::result(report.json())
    } else {
        tell::result(report.text())
    };
    let count = |outcome: fn(&Outcome) -> bool| report.rows().filter(|row| outcome(&row.outcome)).count();
    let of = report.rows().count();
    let left = count(|outcome| matches!(outcome, Outcome::Interrupted | Outcome::NotStarted));
    if left > 0 {
        let why =
            format!("interrupted: {left} of {of} are left; the same command goes on where this one ended");
        return Err(Failure::new(Exit::Interrupted, why));
    }
    let bad = count(|outcome| matches!(outcome, Outcome::Failed(_)));
    if bad > 0 {
        return Err(Failure::new(Exit::Configuration, format!("{bad} of {of} failed")));
    }
    let invalid = count(|outcome| matches!(outcome, Outcome::Invalid(_)));
    if invalid > 0 {
        return Err(Failure::new(Exit::Configuration, format!("{invalid} of {of} outputs are not whole")));
    }
    Ok(())
}
