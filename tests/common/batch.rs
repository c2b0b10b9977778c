// SPDX-License-Identifier: MPL-2.0

//! Data sets, and batches over them.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;

use cvmmap_streamer::sim::svo2::Recording;
use serde_json::Value;

use super::{PATIENCE, init, run_within, streamer, text};

pub fn recorded(recording: Recording) -> Vec<u8> {
    init();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.svo2");
    Recording { codec: svo2::Codec::H264, ..recording }.create(&path, &AtomicBool::new(false)).unwrap();
    std::fs::read(path).unwrap()
}

/// A data set, and the command that is run over it.
pub struct Set {
    pub root: tempfile::TempDir,
    pub logs: tempfile::TempDir,
    tool: &'static str,
}

impl Set {
    pub fn new(tool: &'static str, files: &[(&str, &[u8])]) -> Self {
        let set = Self { root: tempfile::tempdir().unwrap(), logs: tempfile::tempdir().unwrap(), tool };
        for (name, bytes) in files {
            set.write(name, bytes);
        }
        set
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// As it is called in the folder of the data set.
    pub fn dress<'a>(&self, command: &'a mut Command, line: &str) -> &'a mut Command {
        command.args(["batch", self.tool]).args(line.split_whitespace());
        command.current_dir(self.root.path()).env("XDG_STATE_HOME", self.logs.path())
    }

    pub fn command(&self, line: &str) -> Command {
        let mut command = streamer();
        self.dress(&mut command, line);
        command
    }

    pub fn run(&self, line: &str) -> Output {
        run_within(10 * PATIENCE, &mut self.command(line))
    }

    /// Runs a batch that ends with a code; returns its summary.
    pub fn summary(&self, line: &str, code: i32) -> Value {
        json(&self.run(&format!("{line} --json")), code)
    }

    /// All files below the root, hidden ones too, with where they lie on the disk: a new file is another one.
    pub fn files(&self) -> BTreeMap<String, u64> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.root.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in folder.read_dir().unwrap() {
                let path = entry.unwrap().path();
                let found = path.symlink_metadata().unwrap();
                match found.is_dir() {
                    true => folders.push(path),
                    false => {
                        let name = path.strip_prefix(self.root.path()).unwrap().display().to_string();
                        files.insert(name, found.ino());
                    }
                }
            }
        }
        files
    }

    pub fn names(&self) -> Vec<String> {
        self.files().into_keys().collect()
    }
}

pub fn json(output: &Output, code: i32) -> Value {
    let (said, talk) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{said}\n{talk}");
    assert_eq!(said.lines().count(), 1, "{said}\n{talk}");
    serde_json::from_str(&said).unwrap()
}

/// What each input came to, by its name in the set.
pub fn statuses(summary: &Value) -> Vec<(&str, &str)> {
    let results = summary["results"].as_array().unwrap().iter();
    results.map(|row| (row["what"].as_str().unwrap(), row["status"].as_str().unwrap())).collect()
}

pub fn reason<'a>(summary: &'a Value, what: &str) -> &'a str {
    let rows = summary["results"].as_array().unwrap();
    let row = rows.iter().find(|row| row["what"].as_str().unwrap().contains(what)).expect(what);
    row["reason"].as_str().unwrap_or_default()
}

pub fn counts(summary: &Value) -> BTreeMap<&str, u64> {
    let told = ["converted", "skipped", "busy", "failed", "interrupted", "not_started", "to_convert"];
    let count = |status| summary[status].as_u64().unwrap();
    told.into_iter().map(|status| (status, count(status))).filter(|(_, count)| *count > 0).collect()
}
