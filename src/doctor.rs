// SPDX-License-Identifier: MPL-2.0

//! `cvmmap-streamer doctor`: what of this machine is usable, and what that means for which command.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use zed_sdk::{Cuda, CudaError, Sdk, Search};

use crate::exit::Failure;
use crate::{show, tell};

/// Say whether ZED SDK, CUDA and GPU are usable here, and what that means for which command.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print one JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// Where to look.
#[derive(Debug, Clone)]
struct Places {
    /// CUDA's driver library.
    cuda: PathBuf,
    /// What the kernel's driver says of itself.
    driver: PathBuf,
    /// Where GPUs are devices.
    devices: PathBuf,
    sdk: Search,
}

impl Places {
    fn of_this_machine() -> Self {
        Self {
            cuda: "libcuda.so.1".into(),
            driver: "/proc/driver/nvidia/version".into(),
            devices: "/dev".into(),
            sdk: Search::standard(),
        }
    }
}

/// What was found.
struct Found {
    sdk: Result<Sdk, String>,
    cuda: Result<Cuda, CudaError>,
    /// Version of the kernel's driver.
    driver: Option<String>,
    /// `/dev/nvidia0`, ...
    devices: Vec<String>,
}

/// Something that one may want, and what it takes.
struct Want {
    commands: &'static str,
    what: &'static str,
    needs: Needs,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Gpu,
    Sdk,
}

const WANTS: [Want; 4] = [
    Want {
        commands: "zedsvosrc, and all that read recordings",
        what: ".svo2 in H.264 or H.265, rectification, IMU",
        needs: Needs::Nothing,
    },
    Want { commands: "run, svo-to-mp4, svo-grid-to-mp4, batch", what: "NVENC", needs: Needs::Gpu },
    Want { commands: "zedsvosrc", what: "SVO version 1, lossless, JPEG; depth, pose", needs: Needs::Sdk },
    Want { commands: "svo-to-mcap", what: "--with-pose, --with-depth", needs: Needs::Sdk },
];

/// Looks at this machine and prints what it is good for.
///
/// # Errors
/// None: a machine without a GPU is no failure.
pub fn run(args: &Args) -> Result<(), Failure> {
    let report = Found::on(&Places::of_this_machine()).report();
    if args.json {
        tell::result(&report);
    } else {
        tell::result(text(&report).trim_end());
    }
    Ok(())
}

impl Found {
    fn on(places: &Places) -> Self {
        Self {
            sdk: Sdk::find(&places.sdk).map_err(|error| error.to_string()),
            cuda: Cuda::load(&places.cuda),
            driver: driver_version(&places.driver),
            devices: gpu_devices(&places.devices),
        }
    }

    fn gpus(&self) -> &[String] {
        self.cuda.as_ref().map_or(&[], |cuda| &cuda.gpus)
    }

    /// What keeps CUDA from computing; `None`: nothing.
    fn gpu_problem(&self) -> Option<String> {
        if !self.gpus().is_empty() {
            return None;
        }
        Some(match (&self.driver, self.devices.is_empty()) {
            (None, true) => "there is no NVIDIA GPU, or its driver is not loaded".into(),
            (Some(_), true) => {
                "the driver is loaded, and no GPU is a device here: a container has to be given it".into()
            }
            (_, false) => "there is a GPU, and CUDA does not reach it".into(),
        })
    }

    /// What keeps the SDK from working; `None`: nothing that could be seen without a recording.
    fn sdk_problem(&self) -> Option<String> {
        match &self.sdk {
            Err(error) => Some(error.clone()),
            Ok(_) if self.gpus().is_empty() => Some("it is installed, and there is no GPU for it".into()),
            Ok(_) => None,
        }
    }

    fn report(&self) -> Value {
        let cuda = self.cuda.as_ref();
        let (sdk_problem, gpu_problem) = (self.sdk_problem(), self.gpu_problem());
        json!({
            "zed_sdk": {
                "usable": sdk_problem.is_none(),
                "version": self.sdk.as_ref().ok().map(Sdk::version),
                "problem": sdk_problem,
                "remark": self.sdk.as_ref().ok().and_then(Sdk::remark),
            },
            "cuda": {
                "usable": cuda.is_ok(),
                "version": cuda.ok().map(|cuda| &cuda.version),
                "problem": cuda.err().map(|error| named("libcuda.so.1", error)),
            },
            "gpu": {
                "usable": gpu_problem.is_none(),
                "names": self.gpus(),
                "devices": self.devices,
                "driver": self.driver,
                "problem": gpu_problem,
            },
            "commands": WANTS.iter().map(|want| self.advise(want)).collect::<Vec<_>>(),
        })
    }

    fn advise(&self, want: &Want) -> Value {
        let (possible, because) = match want.needs {
            Needs::Nothing => (true, "needs neither GPU nor SDK"),
            Needs::Gpu if self.gpus().is_empty() => (false, "no GPU: software encodes"),
            Needs::Gpu => (true, "if GStreamer has nvh264enc, nvh265enc"),
            Needs::Sdk if self.sdk_problem().is_some() => (false, "no ZED SDK that is usable"),
            Needs::Sdk => (false, "the ZED SDK is usable, and this version does not use it yet"),
        };
        json!({ "commands": want.commands, "what": want.what, "possible": possible, "because": because })
    }
}

/// What a library says, behind its name; the loader begins with that by itself.
fn named(library: &str, error: &CudaError) -> String {
    match error {
        CudaError::Unloadable(why) => why.clone(),
        other => format!("{library}: {other}"),
    }
}

/// Facts line by line, and what they mean as a table.
fn text(report: &Value) -> String {
    let mut facts = report.clone();
    let commands = facts.as_object_mut().and_then(|facts| facts.remove("commands")).unwrap_or_default();
    let row = |command: &Value| {
        let possible = if command["possible"] == true { "yes" } else { "no" };
        let cells = [show::cell(&command["what"]), possible.to_owned(), show::cell(&command["because"])];
        [cells.to_vec(), vec![show::cell(&command["commands"])]].concat()
    };
    let heading = ["WHAT", "HERE", "BECAUSE", "COMMANDS"].map(str::to_owned).to_vec();
    let rows = commands.as_array().into_iter().flatten().map(row);
    let table = show::table(&[heading].into_iter().chain(rows).collect::<Vec<_>>());
    format!("{}\n{table}\n", show::text(&facts))
}

/// `550.54.14` of `NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 ...`.
fn driver_version(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let is_version = |word: &&str| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit());
    text.lines().next()?.split_whitespace().find(is_version).map(str::to_owned)
}

/// `/dev/nvidia0`, ...; not `nvidiactl`, which every driver has.
fn gpu_devices(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let number = |name: &str| name.strip_prefix("nvidia")?.parse::<u32>().ok();
    let mut gpus: Vec<(u32, String)> = names.filter_map(|name| Some((number(&name)?, name))).collect();
    gpus.sort();
    gpus.into_iter().map(|(_, name)| folder.join(name).display().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nowhere(folder: &Path) -> Places {
        Places {
            cuda: folder.join("libcuda.so.1"),
            driver: folder.join("version"),
            devices: folder.join("dev"),
            sdk: Search::only(folder),
        }
    }

    #[test]
    fn a_machine_with_nothing_is_told_what_it_can_do_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let report = Found::on(&nowhere(folder.path())).report();
        for what in ["zed_sdk", "cuda", "gpu"] {
            assert_eq!(report[what]["usable"], false, "{report}");
            assert!(report[what]["problem"].is_string(), "{report}");
        }
        let problem = report["zed_sdk"]["problem"].as_str().unwrap();
        let said = format!("no ZED SDK: libsl_zed_c.so is not in ZED_SDK_LIB={}", folder.path().display());
        assert_eq!(problem, said);
        assert_eq!(report["gpu"]["problem"], "there is no NVIDIA GPU, or its driver is not loaded");
        let possible: Vec<&Value> =
            report["commands"].as_array().unwrap().iter().map(|command| &command["possible"]).collect();
        assert_eq!(possible, [true, false, false, false]);
        let shown = text(&report);
        assert!(shown.contains("zed_sdk:\n  usable: false\n  version: -\n  problem: no ZED SDK"), "{shown}");
        assert!(shown.contains("NVENC") && shown.contains("  no    no GPU: software encodes"), "{shown}");
    }

    #[test]
    fn a_gpu_that_cuda_does_not_reach_is_told_from_none() {
        let folder = tempfile::tempdir().unwrap();
        let places = nowhere(folder.path());
        let line = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\nGCC version: 12.2.0\n";
        fs::write(&places.driver, line).unwrap();
        let found = Found::on(&places);
        assert_eq!(found.driver.as_deref(), Some("570.86.15"));
        assert!(found.gpu_problem().unwrap().contains("a container has to be given it"));
        fs::create_dir(&places.devices).unwrap();
        for name in ["nvidia10", "nvidia0", "nvidiactl", "nvidia-uvm", "null"] {
            fs::write(places.devices.join(name), "").unwrap();
        }
        let found = Found::on(&places);
        let at = |name: &str| places.devices.join(name).display().to_string();
        assert_eq!(found.devices, [at("nvidia0"), at("nvidia10")]);
        assert_eq!(found.gpu_problem().unwrap(), "there is a GPU, and CUDA does not reach it");
        fs::write(&places.driver, "no version\n").unwrap();
        assert_eq!(Found::on(&places).driver, None);
    }
}
