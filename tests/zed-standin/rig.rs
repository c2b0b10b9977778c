// SPDX-License-Identifier: MPL-2.0

//! Compiles the stand-in for the ZED SDK and puts copies of it up for tests: each copy is a library of its own, with cameras,
//! mats and violations of its own. What recordings show is here once more, for tests to compare with.
//!
//! Included by `#[path]`, in tests of the workspace and of `crates/zed-sdk`.

#![allow(dead_code, missing_docs)]

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// The stand-in, compiled once for each state of its source, by the compiler beside cargo. No Cargo: nothing is locked,
/// and nothing that could be taken for the SDK lies where Cargo has the loader look.
pub fn library() -> &'static Path {
    static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| {
        let source = [
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests"),
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests"),
        ]
        .map(|tests| Path::new(tests).join("zed-standin/src"))
        .into_iter()
        .find(|source| source.exists())
        .expect("the stand-in's source");
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(&source).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        let mut hash = DefaultHasher::new();
        files.iter().for_each(|file| std::fs::read(file).unwrap().hash(&mut hash));
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        std::fs::create_dir_all(target).unwrap();
        let library = target.join(format!("zed-standin-{:016x}.so", hash.finish()));
        if !library.exists() {
            let beside = Path::new(env!("CARGO")).with_file_name("rustc");
            let beside = if beside.exists() { beside } else { "rustc".into() };
            let rustc = std::env::var_os("RUSTC").map_or(beside, PathBuf::from);
            // Renamed into place, since tests of several binaries may do this.
            let temporary = target.join(format!(".zed-standin-{}.so", std::process::id()));
            let output = Command::new(rustc)
                .args(["--edition", "2024", "--crate-type", "cdylib", "--crate-name", "zed_standin"])
                .args(["-C", "opt-level=2", "-C", "panic=abort", "-C", "strip=symbols", "-o"])
                .args([&temporary, &source.join("lib.rs")])
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            std::fs::rename(temporary, &library).unwrap();
        }
        library
    });
    &LIBRARY
}

/// A copy in a folder of its own. Dropped, it demands that no call was other than the page has it.
pub struct Standin {
    folder: tempfile::TempDir,
}

impl Standin {
    /// SDK 5.0.1 that does what it is asked.
    pub fn new() -> Self {
        Self::told("")
    }

    /// Lines for `standin.txt`.
    pub fn told(lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("standin.txt"), lines).unwrap();
        let standin = Self { folder };
        std::fs::copy(library(), standin.library()).unwrap();
        standin
    }

    /// A copy in which a function has another name.
    pub fn without(symbol: &str) -> Self {
        let standin = Self::new();
        let mut bytes = std::fs::read(library()).unwrap();
        let name = format!("\0{symbol}\0").into_bytes();
        let places: Vec<usize> =
            (0..bytes.len() - name.len()).filter(|at| bytes[*at..].starts_with(&name)).collect();
        assert!(!places.is_empty(), "{symbol} is no function of the stand-in");
        places.into_iter().for_each(|at| bytes[at + 1] = b'x');
        std::fs::write(standin.library(), bytes).unwrap();
        standin
    }

    pub fn library(&self) -> PathBuf {
        self.folder.path().join("libsl_zed_c.so")
    }

    /// For `ZED_SDK_LIB`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A recording; lines as `crates` of the stand-in read them: `frames=30`, `size=320x180`, `corrupted=3,10-12`, ...
    pub fn recording(&self, name: &str, lines: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, format!("zed-standin recording\n{lines}\n")).unwrap();
        path
    }

    /// What was not as the page has it.
    pub fn violations(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("violations.txt")).unwrap_or_default()
    }

    /// For tests that break a rule on purpose.
    pub fn forgive(&self) -> String {
        let violations = self.violations();
        let _ = std::fs::remove_file(self.folder.path().join("violations.txt"));
        violations
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        let violations = self.violations();
        if !std::thread::panicking() {
            assert_eq!(violations, "", "calls that are not as the page has them");
        }
    }
}

/// Time of a frame of a recording that does not say otherwise, in ns.
pub fn timestamp(frame: usize) -> u64 {
    1_700_000_000_000_000_000 + (frame as f64 * 1e9 / 15.0).round() as u64
}

/// A pixel of a picture of a size, of a recording of a whole size: B, G, R, A. `view`: 0 left, 1 right, 4 and 5 unrectified.
pub fn pixel(
    view: usize,
    frame: usize,
    (x, y): (usize, usize),
    size: (usize, usize),
    whole: (usize, usize),
) -> [u8; 4] {
    let (x, y) = (x * whole.0 / size.0, y * whole.1 / size.1);
    [(x + frame) as u8, (y * 3 + view * 40) as u8, (frame * 7 + x / 8) as u8, 255]
}

/// Depth in mm, 0 where there is none.
pub fn depth(frame: usize, (x, y): (usize, usize), size: (usize, usize), whole: (usize, usize)) -> u16 {
    let (x, y) = (x * whole.0 / size.0, y * whole.1 / size.1);
    if (x / 8 + y / 8 + frame).is_multiple_of(5) { 0 } else { (500 + frame * 3 + x * 2 + y) as u16 }
}
