// SPDX-License-Identifier: MPL-2.0

//! Entry point: arguments in, exit code out.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cvmmap_streamer::receive::{rtmp, rtp};
use cvmmap_streamer::{control, discover, doctor, exit::Failure, inspect, run, sim, smoke, suite, svo, tell};

/// cv-mmap video for GStreamer: stream it, receive and check streams, simulate and inspect producers; ZED recordings to MP4 and MCAP.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(Box<run::Args>),
    Sim(sim::Args),
    Inspect(inspect::Args),
    Discover(discover::Args),
    Control(Box<control::Args>),
    SvoToMp4(svo::to_mp4::Args),
    SvoGridToMp4(svo::grid::Args),
    SvoToMcap(Box<svo::to_mcap::Args>),
    Batch(svo::batch::Args),
    Timeline(svo::timeline::Args),
    Doctor(doctor::Args),
    RtpReceive(rtp::Args),
    RtmpReceive(rtmp::Args),
    Smoke(smoke::Args),
    Acceptance(suite::AcceptanceArgs),
    Faults(suite::FaultsArgs),
    #[command(name = suite::process::BECOME, hide = true)]
    Become(suite::process::BecomeArgs),
}

fn main() -> ExitCode {
    if let Err(failure) = suite::process::die_with_suite() {
        return report(&failure);
    }
    // clap ends the process with 2 for arguments that it refuses.
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(*args),
        Command::Sim(args) => sim::run(args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Discover(args) => discover::run(&args),
        Command::Control(args) => control::run(&args),
        Command::SvoToMp4(args) => svo::to_mp4::run(&args),
        Command::SvoGridToMp4(args) => svo::grid::run(&args),
        Command::SvoToMcap(args) => svo::to_mcap::run(&args),
        Command::Batch(args) => svo::batch::run(&args),
        Command::Timeline(args) => svo::timeline::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::RtpReceive(args) => rtp::run(args),
        Command::RtmpReceive(args) => rtmp::run(args),
        Command::Smoke(args) => smoke::run(&args),
        Command::Acceptance(args) => suite::acceptance(&args),
        Command::Faults(args) => suite::faults(&args),
        Command::Become(args) => suite::process::become_program(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

fn report(failure: &Failure) -> ExitCode {
    tell::talk(format_args!("error: {failure}"));
    failure.exit.into()
}
