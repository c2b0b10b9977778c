// SPDX-License-Identifier: MPL-2.0

//! When each frame was published, for those who join it with what receivers log.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::exit::{Failure, configuration};

/// Who is killed loses no more than this; who publishes flat out does not write a line at a time.
const FLUSH_EVERY: Duration = Duration::from_millis(100);

pub(super) struct FramesLog {
    path: PathBuf,
    file: BufWriter<File>,
    flushed: Instant,
}

impl FramesLog {
    pub fn create(path: &Path) -> Result<Self, Failure> {
        let file = File::create(path).map_err(|error| failed(path, &error))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file), flushed: Instant::now() })
    }

    /// Frame `n` of the run, published with `count` at `unix_ns`.
    pub fn frame(&mut self, n: u64, count: u32, unix_ns: u64) -> Result<(), Failure> {
        let line = json!({"count": count, "unix_ns": unix_ns, "n": n});
        writeln!(self.file, "{line}").map_err(|error| failed(&self.path, &error))?;
        if self.flushed.elapsed() >= FLUSH_EVERY { self.flush() } else { Ok(()) }
    }

    pub fn flush(&mut self) -> Result<(), Failure> {
        self.flushed = Instant::now();
        self.file.flush().map_err(|error| failed(&self.path, &error))
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    configuration(format!("--frames-log {}: {error}", path.display()))
}
