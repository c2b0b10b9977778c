// SPDX-License-Identifier: MPL-2.0

//! `doctor` on machines that have an SDK and a GPU, by stand-ins, and on those that have a part of it; and that nothing is
//! linked with either.

mod common;
#[path = "zed-standin/rig.rs"]
mod rig;

use std::process::Command;

use common::{run, streamer, text};
use rig::Standin;
use serde_json::{Value, json};

/// The program, for which the loader finds the stand-in as CUDA's driver before any other, and as the SDK only where told so.
fn doctor(cuda: &Standin) -> Command {
    let libraries = cuda.folder().join("lib");
    std::fs::create_dir_all(&libraries).unwrap();
    std::fs::copy(cuda.library(), libraries.join("libcuda.so.1")).unwrap();
    std::fs::copy(cuda.folder().join("standin.txt"), libraries.join("standin.txt")).unwrap();
    let mut command = streamer();
    command.arg("doctor").env("LD_LIBRARY_PATH", &libraries).env_remove("ZED_SDK_LIB");
    command
}

/// Exit code 0, and one JSON object.
fn report(command: &mut Command) -> Value {
    let output = run(command.arg("--json"));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn possible(report: &Value) -> Vec<bool> {
    let commands = report["commands"].as_array().unwrap().iter();
    commands.map(|command| command["possible"].as_bool().unwrap()).collect()
}

#[test]
fn an_sdk_and_a_gpu_are_told_of() {
    let machine = Standin::told("version=5.0.7\ncuda.version=12040\ncuda.gpus=Stand-in RTX,Stand-in L4");
    let sdk = |command: &mut Command| {
        // In the loader's search path, which is before all else.
        let _ = std::fs::copy(machine.library(), machine.folder().join("lib/libsl_zed_c.so")).unwrap();
        run(command)
    };
    let output = sdk(doctor(&machine).arg("--json"));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let sdk_found = json!({ "usable": true, "version": "5.0.7", "problem": null, "remark": null });
    assert_eq!(report["zed_sdk"], sdk_found);
    assert_eq!(report["cuda"], json!({ "usable": true, "version": "12.4", "problem": null }));
    assert_eq!(report["gpu"]["usable"], true);
    assert_eq!(report["gpu"]["names"], json!(["Stand-in RTX", "Stand-in L4"]));
    assert_eq!(possible(&report), [true, true, false, false]);
    let shown = text(&sdk(&mut doctor(&machine)).stdout);
    let parts =
        ["zed_sdk:\n  usable: true\n  version: 5.0.7\n", "names: Stand-in RTX, Stand-in L4\n", "COMMANDS"];
    assert!(parts.iter().all(|part| shown.contains(part)), "{shown}");
}

#[test]
fn what_is_missing_is_named_and_ends_nothing() {
    // CUDA, and no GPU that it could use.
    let machine = Standin::told("cuda.init=100\nversion=5.3.0");
    let found = report(&mut doctor(&machine));
    assert_eq!(found["cuda"]["problem"], "libcuda.so.1: cuInit: error 100, no GPU");
    assert_eq!((&found["gpu"]["usable"], &found["gpu"]["names"]), (&json!(false), &json!([])));
    assert_eq!(possible(&found), [true, false, false, false]);
    // An SDK of which not all is known, and nothing to compute on.
    let found = report(doctor(&machine).env("ZED_SDK_LIB", machine.folder()));
    assert_eq!(found["zed_sdk"]["usable"], false);
    assert_eq!(found["zed_sdk"]["problem"], "it is installed, and there is no GPU for it");
    let remark = found["zed_sdk"]["remark"].as_str().unwrap();
    assert!(remark.starts_with("the ZED SDK is 5.3.0, and its interface is known of 5.0"), "{remark}");
    // A GPU, and an SDK that is too old.
    let machine = Standin::told("version=4.1.0");
    std::fs::create_dir(machine.folder().join("lib")).unwrap();
    std::fs::copy(machine.library(), machine.folder().join("lib/libsl_zed_c.so")).unwrap();
    let found = report(&mut doctor(&machine));
    let problem = found["zed_sdk"]["problem"].as_str().unwrap();
    assert!(
        problem.contains("the loader's search path: it is version 4.1.0, and 5.x is needed"),
        "{problem}"
    );
    assert_eq!(found["gpu"]["usable"], true);
    assert_eq!(possible(&found), [true, true, false, false]);
}

/// Whatever this machine has: the answer is 0 and consistent in itself.
#[test]
fn this_machine_is_told_of() {
    let found = report(streamer().arg("doctor"));
    for what in ["zed_sdk", "cuda", "gpu"] {
        assert_eq!(found[what]["usable"] == true, found[what]["problem"].is_null(), "{found}");
    }
    assert!(possible(&found)[0]);
}

#[test]
fn neither_the_sdk_nor_cuda_is_linked() {
    let output = run(Command::new("ldd").arg(env!("CARGO_BIN_EXE_cvmmap-streamer")));
    let needed = text(&output.stdout);
    assert!(needed.contains("libgstreamer-1.0"), "{needed}");
    assert!(!["libsl_zed", "libcuda"].iter().any(|name| needed.contains(name)), "{needed}");
}
