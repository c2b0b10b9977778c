// SPDX-License-Identifier: MPL-2.0

//! `cvmmap-streamer acceptance` and `faults`: producer, streamer and receivers as processes of their own, over
//! loopback, and what was measured as JSON (`docs/evidence.md`).
//!
//! - [`acceptance`], [`faults`]: the rows;
//! - [`line`]: producer, streamer and receivers of a row, and what holds of all of them;
//! - [`rig`], [`process`], [`memory`]: folders, processes, ports, waits, samples;
//! - [`frames`]: what was published joined with what was shown, without I/O;
//! - [`evidence`]: the summary.

pub mod acceptance;
pub mod evidence;
pub mod faults;
pub mod frames;
pub mod line;
pub mod memory;
pub mod process;
pub mod rig;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cvmmap_ipc::clock::unix_now_ns;

use self::evidence::{Machine, Outcome, Row, SCHEMA, Summary};
use self::rig::{Rig, Step};
use crate::exit::{Exit, Failure, configuration};
use crate::{interrupt, tell};

/// A row of a suite.
pub struct Spec {
    /// For `--rows`.
    pub name: &'static str,
    /// All of its waits together take so long at most.
    pub seconds: u64,
    /// What it does.
    pub run: fn(&mut Rig) -> Step,
}

/// Rows as name, seconds and function.
macro_rules! rows {
    ($(($name:literal, $seconds:literal, $run:expr)),* $(,)?) => {
        &[$($crate::suite::Spec { name: $name, seconds: $seconds, run: $run }),*]
    };
}
use rows;

/// What both suites take.
#[derive(Debug, clap::Args)]
struct Options {
    /// Rows to run, by default all
    #[arg(long, value_name = "NAME[,NAME]", value_delimiter = ',')]
    rows: Vec<String>,
    /// Encoders that the streamers try: as `run --encoder`
    #[arg(long, value_name = "ENCODER", default_value = "auto")]
    encoder: String,
    /// Print the summary as one JSON line on stdout, before the last line
    #[arg(long)]
    json: bool,
}

/// Run the five rows of the matrix: producer, streamer and receiver as processes.
#[derive(Debug, clap::Args)]
pub struct AcceptanceArgs {
    /// Folder for the evidence; each run makes one below it
    #[arg(long, value_name = "DIR", default_value = "target/acceptance")]
    out: PathBuf,
    #[command(flatten)]
    options: Options,
}

/// Inject faults, and measure what they do to streams.
#[derive(Debug, clap::Args)]
pub struct FaultsArgs {
    /// Folder for the evidence; each run makes one below it
    #[arg(long, value_name = "DIR", default_value = "target/faults")]
    out: PathBuf,
    #[command(flatten)]
    options: Options,
}

/// Runs the acceptance rows.
///
/// # Errors
/// A [`Failure`] where a row fails, cannot be chosen, or the evidence cannot be written.
pub fn acceptance(args: &AcceptanceArgs) -> Result<(), Failure> {
    suite("acceptance", &acceptance::rows(), &args.out, &args.options)
}

/// Runs the fault rows.
///
/// # Errors
/// A [`Failure`] where a row fails, cannot be chosen, or the evidence cannot be written.
pub fn faults(args: &FaultsArgs) -> Result<(), Failure> {
    suite("faults", faults::ROWS, &args.out, &args.options)
}

fn suite(command: &'static str, all: &[Spec], out: &Path, options: &Options) -> Result<(), Failure> {
    let chosen = choose(all, &options.rows)?;
    gst::init().map_err(configuration)?;
    let interrupted = interrupt::listen()?;
    let began = Instant::now();
    let started = evidence::utc(unix_now_ns() / 1_000_000_000);
    let folder = run_folder(out, &started)?;
    tell::talk(format_args!("evidence goes to {}", folder.display()));
    let mut summary = Summary {
        schema: SCHEMA,
        command,
        version: env!("CARGO_PKG_VERSION"),
        started,
        seconds: 0.0,
        machine: Machine::here(),
        rows: Vec::new(),
        total: 0,
        pass: 0,
        fail: 0,
        skip: 0,
    };
    for spec in chosen {
        let row = run_row(spec, &folder, &options.encoder, &interrupted)?;
        tell(&row);
        summary.rows.push(row);
        summary.seconds = began.elapsed().as_secs_f64();
        summary.count();
        // After each row: who kills the suite keeps what was measured.
        summary.write(&folder)?;
    }
    if options.json {
        tell::result(serde_json::to_string(&summary).expect("plain data"));
    }
    tell::result(summary.line());
    if interrupted.load(Ordering::Relaxed) {
        return Err(Failure::new(Exit::Interrupted, "interrupted"));
    }
    match summary.total - summary.pass {
        0 => Ok(()),
        bad => {
            Err(configuration(format!("{bad} of {} rows did not pass: {}", summary.total, folder.display())))
        }
    }
}

/// Where evidence of a run goes: a folder of its own, absolute since processes are told of files in it.
fn run_folder(out: &Path, started: &str) -> Result<PathBuf, Failure> {
    let failed =
        |path: &Path, error: std::io::Error| configuration(format!("--out {}: {error}", path.display()));
    std::fs::create_dir_all(out).map_err(|error| failed(out, error))?;
    let out = out.canonicalize().map_err(|error| failed(out, error))?;
    let name = started.replace(':', "-");
    // A second run in the same second.
    for n in 1.. {
        let folder = if n == 1 { out.join(&name) } else { out.join(format!("{name}-{n}")) };
        match std::fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => (),
            Err(error) => return Err(failed(&folder, error)),
        }
    }
    unreachable!("numbers do not end")
}

fn choose<'a>(all: &'a [Spec], names: &[String]) -> Result<Vec<&'a Spec>, Failure> {
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|spec| spec.name == *name)) {
        let known: Vec<&str> = all.iter().map(|spec| spec.name).collect();
        return Err(Failure::usage(format!("--rows: '{unknown}' is none of {}", known.join(", "))));
    }
    let wanted = |spec: &&Spec| names.is_empty() || names.iter().any(|name| name == spec.name);
    Ok(all.iter().filter(wanted).collect())
}

fn run_row(spec: &Spec, run: &Path, encoder: &str, interrupted: &AtomicBool) -> Result<Row, Failure> {
    let patience = Duration::from_secs(spec.seconds);
    let mut rig = Rig::new(spec.name, run, encoder, patience, interrupted).map_err(configuration)?;
    let step = if interrupted.load(Ordering::Relaxed) {
        Err(rig::Trouble::Interrupted)
    } else {
        (spec.run)(&mut rig)
    };
    Ok(rig.conclude(step, run))
}

fn tell(row: &Row) {
    let checks = match (row.result, &row.reason) {
        (Outcome::Pass, _) | (_, None) => format!("{} checks", row.checks.len()),
        (_, Some(reason)) => reason.clone(),
    };
    tell::result(format_args!("{} {:<20} {:5.1} s  {checks}", row.result.name(), row.name, row.seconds));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_name() {
        let names = |rows: &[&str]| {
            let rows: Vec<String> = rows.iter().map(|row| (*row).to_owned()).collect();
            choose(&acceptance::rows(), &rows)
                .map(|specs| specs.iter().map(|spec| spec.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]).unwrap().len(), 5);
        assert_eq!(names(&["rtmp-h264", "rtp-h264"]).unwrap(), ["rtp-h264", "rtmp-h264"]);
        let error = names(&["rtp-h263"]).unwrap_err();
        assert_eq!(error.exit, Exit::Usage);
        assert!(error.to_string().contains("'rtp-h263' is none of rtp-h264, rtp-h265"), "{error}");
    }

    #[test]
    fn row_names_are_unique_and_fit_targets() {
        for rows in [&acceptance::rows()[..], faults::ROWS] {
            let names: std::collections::HashSet<_> = rows.iter().map(|spec| spec.name).collect();
            assert_eq!(names.len(), rows.len());
        }
    }

    #[test]
    fn two_runs_in_a_second_have_folders_of_their_own() {
        let out = tempfile::tempdir().unwrap();
        let [a, b] = [(), ()].map(|()| run_folder(out.path(), "2026-03-18T11:59:41Z").unwrap());
        assert_eq!(a.file_name().unwrap(), "2026-03-18T11-59-41Z");
        assert_eq!(b.file_name().unwrap(), "2026-03-18T11-59-41Z-2");
    }
}
