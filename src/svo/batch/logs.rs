// SPDX-License-Identifier: MPL-2.0

//! One log a conversion.

use std::fs::{File, OpenOptions, create_dir_all};
use std::io;
use std::path::{Path, PathBuf};

use cvmmap_ipc::clock::unix_now_ns;

use crate::exit::{Failure, configuration};
use crate::suite::evidence;

/// Where the logs are.
#[derive(Debug, Clone)]
pub struct Logs {
    folder: PathBuf,
}

impl Logs {
    /// Makes the folder: the one that was asked for, or a new one where this user's logs belong.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(asked: Option<&Path>) -> Result<Self, Failure> {
        let failed = |folder: &Path, error: io::Error| {
            configuration(format!(
                "--log-dir '{}': {error}; give a folder that can be written",
                folder.display()
            ))
        };
        if let Some(folder) = asked {
            create_dir_all(folder).map_err(|error| failed(folder, error))?;
            return Ok(Self { folder: folder.to_owned() });
        }
        let second = evidence::utc(unix_now_ns() / 1_000_000_000).replace(':', "-");
        let below = format!("cvmmap-streamer/batch/{second}-{}", std::process::id());
        let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let state = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")));
        let mut made = Err((PathBuf::new(), io::ErrorKind::NotFound.into()));
        // Where all users' files are, each has a folder of his own.
        let user = rustix::process::getuid().as_raw();
        let temporary = std::env::temp_dir().join(format!("cvmmap-streamer-{user}"));
        for above in state.into_iter().chain([temporary]) {
            let folder = above.join(&below);
            made = create_dir_all(&folder).map_err(|error| (folder.clone(), error)).map(|()| Self { folder });
            if made.is_ok() {
                break;
            }
        }
        made.map_err(|(folder, error)| failed(&folder, error))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The log of the conversion with a number, which makes a file of that name.
    pub fn path(&self, number: usize, name: &str) -> PathBuf {
        self.folder.join(format!("{number:04}-{name}.log"))
    }

    /// Opens a log; what is in it already stays.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path) -> io::Result<File> {
        OpenOptions::new().append(true).create(true).open(path)
    }
}
