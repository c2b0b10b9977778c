// SPDX-License-Identifier: MPL-2.0

//! Where a recording may lie; never over another file.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use super::request::Refusal;
use crate::place::{Place, Unfinished, open_folder};

/// Where recordings may lie.
#[derive(Debug)]
pub enum Root {
    /// Anywhere; relative paths are against this folder.
    Anywhere(PathBuf),
    /// In this folder or below it.
    Below(PathBuf),
}

impl Root {
    /// Anywhere that the process may write; relative paths are against its working directory.
    ///
    /// # Errors
    /// Where there is no working directory.
    pub fn anywhere() -> io::Result<Self> {
        std::env::current_dir().map(Self::Anywhere)
    }

    /// Only in `folder` and below it.
    ///
    /// # Errors
    /// Where it is no folder, or not ours to see.
    pub fn below(folder: &Path) -> io::Result<Self> {
        real_path(&open_folder(folder)?).map(Self::Below)
    }

    /// The place that `path` names.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] where it names no file or lies outside, [`Refusal::Failed`] where its folder cannot be opened.
    pub fn place(&self, path: &str) -> Result<Place, Refusal> {
        let invalid = |rule: &str| Refusal::Invalid(format!("output_path '{path}': {rule}"));
        let (Self::Anywhere(base) | Self::Below(base)) = self;
        let full = base.join(path);
        let name = file_name(path).ok_or_else(|| invalid("it names a folder, not a file"))?.to_owned();
        let parent = full.parent().expect("a path with a name has a parent");
        let outside = || invalid(&format!("it lies outside of --record-dir '{}'", base.display()));
        let confined = matches!(self, Self::Below(_));
        let opened = open_folder(parent).and_then(|folder| Ok((real_path(&folder)?, folder)));
        let folder = match opened {
            Ok((real, _)) if confined && !real.starts_with(base) => return Err(outside()),
            Ok((_, folder)) => folder,
            // Nobody is told what there is elsewhere.
            Err(_) if confined && !stays_below(base, parent) => return Err(outside()),
            Err(error) => {
                let folder = parent.display();
                return Err(Refusal::Failed(format!("output_path '{path}': the folder '{folder}': {error}")));
            }
        };
        Ok(Place::new(folder, full, name, Unfinished::Kept))
    }
}

/// Creates the file beside its final name.
///
/// # Errors
/// [`Refusal::Failed`] where either name is taken, or the system says no.
pub fn create(place: &Place) -> Result<File, Refusal> {
    place.create().map_err(|why| Refusal::Failed(format!("output_path '{}': {why}", place.path())))
}

/// The last part of a path, if it may name a file: not of `a/`, `a/.` or `..`.
fn file_name(path: &str) -> Option<&OsStr> {
    Path::new(path).file_name().filter(|name| path.ends_with(name.to_str().unwrap_or_default()))
}

/// Where an open folder lies, without links.
fn real_path(folder: &OwnedFd) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

/// Whether a path stays below `base` by its letters.
fn stays_below(base: &Path, path: &Path) -> bool {
    let Ok(rest) = path.strip_prefix(base) else { return false };
    let mut depth = 0;
    rest.components().all(|component| {
        depth += match component {
            Component::Normal(_) => 1,
            Component::ParentDir => -1,
            _ => 0,
        };
        depth >= 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    fn refused(root: &Root, path: &str) -> Refusal {
        root.place(path).and_then(|place| create(&place).map(drop)).unwrap_err()
    }

    #[test]
    fn a_file_gets_its_name_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::below(folder.path()).unwrap();
        let place = root.place("a.mp4").unwrap();
        assert_eq!(place.path(), folder.path().join("a.mp4").display().to_string());
        place.create().unwrap().write_all(b"whole").unwrap();
        assert!(folder.path().join("a.mp4.part").exists() && !folder.path().join("a.mp4").exists());
        place.publish().unwrap();
        assert_eq!(std::fs::read(folder.path().join("a.mp4")).unwrap(), b"whole");
        assert!(!folder.path().join("a.mp4.part").exists());
    }

    #[test]
    fn nothing_is_overwritten_neither_at_the_start_nor_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::below(folder.path()).unwrap();
        let (file, part) = (folder.path().join("a.mp4"), folder.path().join("b.mp4.part"));
        std::fs::write(&file, "mine").unwrap();
        std::fs::write(&part, "mine").unwrap();
        symlink("nowhere", folder.path().join("c.mp4")).unwrap();
        for (path, parts) in [
            ("a.mp4", ["a.mp4': it exists", "nothing is overwritten"]),
            ("b.mp4", ["b.mp4.part' exists", "cut short"]),
            ("c.mp4", ["c.mp4': it exists", "nothing is overwritten"]),
        ] {
            let refusal = refused(&root, path);
            assert!(matches!(refusal, Refusal::Failed(_)), "{refusal:?}");
            assert!(parts.iter().all(|part| refusal.to_string().contains(part)), "{refusal}");
        }
        let place = root.place("d.mp4").unwrap();
        place.create().unwrap();
        std::fs::write(folder.path().join("d.mp4"), "mine").unwrap();
        assert_eq!(place.publish().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        for path in [file, part, folder.path().join("d.mp4")] {
            assert_eq!(std::fs::read(path).unwrap(), b"mine");
        }
        assert!(folder.path().join("d.mp4.part").exists(), "what was recorded stays");
    }

    #[test]
    fn a_folder_is_left_by_no_way() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("in");
        std::fs::create_dir_all(inner.join("sub")).unwrap();
        symlink(outer.path(), inner.join("out")).unwrap();
        symlink(inner.join("sub"), inner.join("stays")).unwrap();
        let root = Root::below(&inner).unwrap();
        let absolute = outer.path().join("a.mp4").display().to_string();
        for path in [
            "../a.mp4",
            "sub/../../a.mp4",
            "out/a.mp4",
            "/etc/a.mp4",
            "../nosuch/a.mp4",
            "/nosuch/a.mp4",
            &absolute,
        ] {
            let refusal = refused(&root, path);
            assert!(matches!(refusal, Refusal::Invalid(_)), "{path}: {refusal:?}");
            assert!(refusal.to_string().contains("outside of --record-dir"), "{refusal}");
        }
        let absolute = inner.join("b.mp4").display().to_string();
        for path in ["a.mp4", "sub/../c.mp4", "stays/a.mp4", "sub/b.mp4", &absolute] {
            root.place(path).unwrap().create().unwrap();
        }
    }

    #[test]
    fn what_names_no_file_or_no_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let root = Root::below(folder.path()).unwrap();
        let long = "x".repeat(300);
        for (path, invalid, part) in [
            ("sub/", true, "it names a folder"),
            ("sub/.", true, "it names a folder"),
            ("..", true, "it names a folder"),
            ("/", true, "it names a folder"),
            ("sub", false, "it is a folder"),
            ("nosuch/a.mp4", false, "No such file"),
            ("file/a.mp4", false, "Not a directory"),
            (long.as_str(), false, "name too long"),
        ] {
            let refusal = refused(&root, path);
            assert_eq!(matches!(refusal, Refusal::Invalid(_)), invalid, "{path}: {refusal:?}");
            assert!(refusal.to_string().contains(part), "{path}: {refusal}");
        }
        assert!(Root::below(&folder.path().join("file")).is_err());
    }

    #[test]
    fn the_file_that_goes_on_has_the_next_free_number() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::below(folder.path()).unwrap();
        std::fs::write(folder.path().join("a.b-2.mp4.part"), "").unwrap();
        std::fs::write(folder.path().join("a.b-3.mp4"), "").unwrap();
        let next = root.place("a.b.mp4").unwrap().next().unwrap();
        assert_eq!(next.path(), folder.path().join("a.b-4.mp4").display().to_string());
        assert!(root.place("bare").unwrap().next().unwrap().path().ends_with("/bare-2"));
    }
}
