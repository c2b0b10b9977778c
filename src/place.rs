// SPDX-License-Identifier: MPL-2.0

//! Where a file lies that takes a while to be written: beside its name while it grows, under it when it is whole.
//!
//! The folder is opened first and then looked at, and everything happens in the folder that was opened: a link that is
//! changed meanwhile leads nowhere else.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::tell;

/// What a file is called until it is whole: behind its name.
const PART: &str = ".part";
/// What a file is called that was ended before it was whole, and can be read all the same. Only who has, or had, claimed
/// the name makes one, or removes it; a `NAME.part` may be a recording of somebody else, who writes it right now.
const INTERRUPTED: &str = ".interrupted";

/// What becomes of a file that was not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfinished {
    /// It stays, as `NAME.part`: somebody may want what is in it.
    Kept,
    /// It is of no use, and hidden as `.NAME.part`; whoever writes that file next takes it over.
    Useless,
}

impl Unfinished {
    fn name(self, name: &OsStr) -> OsString {
        let mut part = OsString::from(if self == Self::Useless { "." } else { "" });
        part.push(name);
        part.push(PART);
        part
    }
}

/// What becomes of a file that has the name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the new one is refused in these words.
    Kept(&'static str),
    /// It goes once the new one is whole.
    Replaced,
}

/// Why there can be no such file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is one that stays.
    #[error("{0}")]
    Exists(&'static str),
    /// Somebody else writes it right now, under this name.
    #[error("it is being written right now, as '{0}'")]
    Busy(String),
    /// What is wrong with the name or the folder, or what the system says.
    #[error("{0}")]
    Wrong(String),
}

impl From<&str> for Refused {
    fn from(why: &str) -> Self {
        Self::Wrong(why.to_owned())
    }
}

impl From<String> for Refused {
    fn from(why: String) -> Self {
        Self::Wrong(why)
    }
}

/// Whether a file gets its name before the disk has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// The disk is waited for: what took long to make outlives a power cut.
    Waited,
    /// The system writes it in its own time, as of `cp`: a copy is made again as quickly.
    Left,
}

/// Where one file will lie.
#[derive(Debug, Clone)]
pub struct Place {
    folder: Arc<OwnedFd>,
    path: PathBuf,
    name: OsString,
    unfinished: Unfinished,
}

impl Place {
    /// The file `name` of an open folder, which is `path` for people.
    pub(crate) fn new(folder: OwnedFd, path: PathBuf, name: OsString, unfinished: Unfinished) -> Self {
        Self { folder: Arc::new(folder), path, name, unfinished }
    }

    /// The final path, absolute where the place was made of an absolute one.
    pub fn path(&self) -> String {
        self.path.display().to_string()
    }

    /// The path while the file grows, and after it failed.
    pub fn part_path(&self) -> String {
        self.path.with_file_name(self.part()).display().to_string()
    }

    fn part(&self) -> OsString {
        self.unfinished.name(&self.name)
    }

    /// Creates the file beside the final name.
    ///
    /// # Errors
    /// Says that either name is taken, or what the system says.
    pub fn create(&self) -> Result<File, String> {
        let taken = || Err(Refused::Exists("it exists, and nothing is overwritten"));
        self.check_name(taken).map_err(|refused| refused.to_string())?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.folder, self.part(), flags, Mode::from_raw_mode(0o666)) {
            Ok(file) => Ok(file.into()),
            Err(Errno::EXIST) => {
                Err(format!("'{}' exists: a recording that was cut short, or still grows", self.part_path()))
            }
            Err(error) => Err(io::Error::from(error).to_string()),
        }
    }

    /// Creates the file beside the final name, or takes over what somebody left there who is gone. It is ours, and
    /// nobody else's to claim, until it is closed.
    ///
    /// # Errors
    /// Says that the name is taken by what is to be kept; that somebody else writes the file right now; or what the
    /// system says.
    pub fn claim(&self, existing: Existing) -> Result<File, Refused> {
        let taken = || match existing {
            Existing::Kept(refusal) => Err(Refused::Exists(refusal)),
            Existing::Replaced => Ok(()),
        };
        self.check_name(taken)?;
        let system =
            |error: Errno| Refused::Wrong(format!("'{}': {}", self.part_path(), io::Error::from(error)));
        // A pipe of that name must not be waited for.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        loop {
            let file = rustix::fs::openat(&self.folder, self.part(), flags, Mode::from_raw_mode(0o666))
                .map_err(system)?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // Some file systems have no locks.
                Ok(()) | Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) => (),
                Err(Errno::WOULDBLOCK) => return Err(Refused::Busy(self.part_path())),
                Err(error) => return Err(system(error)),
            }
            let opened = rustix::fs::fstat(&file).map_err(system)?;
            if FileType::from_raw_mode(opened.st_mode) != FileType::RegularFile {
                return Err(format!("'{}' is in the way: it is no regular file", self.part_path()).into());
            }
            // Whoever had the lock may have finished meanwhile, and it is his file that we opened.
            match rustix::fs::statat(&self.folder, self.part(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(named) if (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino) => (),
                Ok(_) | Err(Errno::NOENT) => continue,
                Err(error) => return Err(system(error)),
            }
            // He may also have finished before we looked at the name.
            if let Err(reason) = self.check_name(taken) {
                self.discard();
                return Err(reason);
            }
            let file = File::from(file);
            empty(&file).map_err(|error| format!("'{}': {error}", self.part_path()))?;
            return Ok(file);
        }
    }

    /// Whether the final name can be had; `taken` decides about files.
    fn check_name(&self, taken: impl Fn() -> Result<(), Refused>) -> Result<(), Refused> {
        match self.find(&self.name) {
            Ok(None) => Ok(()),
            Ok(Some(FileType::Directory)) => Err("it is a folder, not a file".into()),
            Ok(Some(_)) => taken(),
            Err(error) => Err(error.to_string().into()),
        }
    }

    /// Gives the file that is whole its name, which then outlives a power cut.
    ///
    /// # Errors
    /// What the system says, and where somebody else has taken the name meanwhile: nothing is overwritten.
    pub fn publish(&self) -> io::Result<()> {
        self.take_name()?;
        self.keep_name();
        Ok(())
    }

    fn take_name(&self) -> io::Result<()> {
        let (part, folder) = (self.part(), self.folder.as_fd());
        match rustix::fs::renameat_with(folder, &part, folder, &self.name, RenameFlags::NOREPLACE) {
            // A file system that does not know the flag. Who takes the name in this moment loses.
            Err(Errno::INVAL) if self.find(&self.name)?.is_none() => {
                Ok(rustix::fs::renameat(folder, &part, folder, &self.name)?)
            }
            Err(Errno::INVAL) => Err(io::ErrorKind::AlreadyExists.into()),
            other => Ok(other?),
        }
    }

    fn replace_name(&self) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.folder, self.part(), &self.folder, &self.name)?)
    }

    /// The file has its name, so nothing fails any more.
    fn keep_name(&self) {
        if let Err(error) = self.sync_folder() {
            tell::talk(format_args!("'{}' may lose its name in a power cut: {error}", self.path()));
        }
    }

    /// So that the name outlives a power cut, as the file does. Not all file systems can.
    fn sync_folder(&self) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.folder, ".", flags, Mode::empty()) {
            Ok(folder) => Ok(rustix::fs::fsync(folder)?),
            // A folder in which one may write, but not look.
            Err(Errno::ACCESS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the file that has not got its name.
    pub fn discard(&self) {
        let _ = rustix::fs::unlinkat(&self.folder, self.part(), AtFlags::empty());
    }

    /// The place of the file that goes on where this one ends: the first of `NAME-2`, `NAME-3`, ... that is free.
    ///
    /// # Errors
    /// Where the folder cannot be looked into.
    pub fn next(&self) -> io::Result<Self> {
        let (stem, extension) = (Path::new(&self.name).file_stem(), Path::new(&self.name).extension());
        for number in 2u32.. {
            let mut name = stem.unwrap_or(&self.name).to_owned();
            name.push(format!("-{number}"));
            if let Some(extension) = extension {
                name.push(".");
                name.push(extension);
            }
            let place = Self { path: self.path.with_file_name(&name), name, ..self.clone() };
            if place.find(&place.name)?.is_none() && place.find(&place.part())?.is_none() {
                return Ok(place);
            }
        }
        unreachable!("a folder has fewer files")
    }

    /// What a name in the folder stands for; links are not followed.
    fn find(&self, name: &OsStr) -> io::Result<Option<FileType>> {
        match rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(FileType::from_raw_mode(found.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// A file that is of no use until it is whole, and goes with this unless it is published.
pub(crate) struct Claimed {
    place: Place,
    file: File,
    existing: Existing,
    published: bool,
}

impl Claimed {
    /// Claims what a path means, links followed, but for recordings that must not be written: `never`.
    ///
    /// # Errors
    /// Says why there can be no such file.
    pub fn new(path: &Path, never: &[Metadata], existing: Existing) -> Result<Self, Refused> {
        let ends_as_folder = path.as_os_str().to_string_lossy().ends_with('/');
        if ends_as_folder || path.file_name().is_none() {
            return Err("it names a folder, not a file".into());
        }
        let is_never = |found: Metadata| {
            never.iter().any(|never| (found.dev(), found.ino()) == (never.dev(), never.ino()))
        };
        if path.metadata().is_ok_and(is_never) {
            return Err("it is the recording itself".into());
        }
        let is_recording = |extension: &OsStr| {
            extension.eq_ignore_ascii_case("svo2") || extension.eq_ignore_ascii_case("svo")
        };
        // Who makes something of recordings replaces none.
        if !never.is_empty() && path.extension().is_some_and(is_recording) {
            return Err("recordings are called so, and this makes none; give it another ending".into());
        }
        let no_folder =
            |error: io::Error| Refused::Wrong(format!("the folder '{}': {error}", folder_of(path).display()));
        if !folder_of(path).is_dir() {
            let why = folder_of(path).read_dir().map(drop).err();
            return Err(no_folder(why.unwrap_or_else(|| io::ErrorKind::NotADirectory.into())));
        }
        let path = destination(path).map_err(|error| error.to_string())?;
        let folder = open_folder(folder_of(&path)).map_err(no_folder)?;
        let name = path.file_name().expect("it is no folder").to_owned();
        let place = Place::new(folder, path, name, Unfinished::Useless);
        let file = place.claim(existing)?;
        Ok(Self { place, file, existing, published: false })
    }

    /// The file that grows.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives it its name; returns its size.
    ///
    /// # Errors
    /// What the system says.
    pub fn publish(mut self, disk: Disk) -> io::Result<u64> {
        if disk == Disk::Waited {
            self.file.sync_all()?;
        }
        let bytes = self.file.metadata()?.len();
        match self.existing {
            Existing::Kept(_) => self.place.take_name(),
            Existing::Replaced => self.place.replace_name(),
        }?;
        self.published = true;
        if disk == Disk::Waited {
            self.place.keep_name();
        }
        Ok(bytes)
    }

    /// As [`publish`](Self::publish); what an earlier one [left](Self::leave) goes, which nobody wants any more.
    ///
    /// # Errors
    /// What the system says.
    pub fn publish_for_interrupted(self, disk: Disk) -> io::Result<u64> {
        let (place, left) = (self.place.clone(), self.interrupted());
        let bytes = self.publish(disk)?;
        let _ = rustix::fs::unlinkat(&place.folder, left, AtFlags::empty());
        Ok(bytes)
    }

    /// What the file is called where it is left.
    fn interrupted(&self) -> OsString {
        let mut name = self.place.name.clone();
        name.push(INTERRUPTED);
        name
    }

    /// Leaves it visibly unfinished, as `NAME.interrupted`, for somebody who may want what is in it; a former one of that
    /// name goes. Where it cannot be called so, it stays as it is called. Returns its path and its size.
    ///
    /// # Errors
    /// What the system says.
    pub fn leave(mut self) -> io::Result<(PathBuf, u64)> {
        self.file.sync_all()?;
        let bytes = self.file.metadata()?.len();
        self.published = true;
        let Place { folder, path, .. } = &self.place;
        let (part, mut kept) = (self.place.part(), self.interrupted());
        if rustix::fs::renameat(folder, &part, folder, &kept).is_err() {
            kept = part;
        }
        Ok((path.with_file_name(kept), bytes))
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if !self.published {
            self.place.discard();
        }
    }
}

/// Empties a file, for what is written anew.
///
/// One that is empty is not cut short: of a file that was, ext4 waits for the disk when it is closed.
///
/// # Errors
/// What the system says.
pub fn empty(mut file: &File) -> io::Result<()> {
    if file.metadata()?.len() > 0 {
        file.set_len(0)?;
    }
    file.rewind()
}

/// Opens a folder to look at, and to make files in.
pub(crate) fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

/// The file that a path means, links followed, if it can be replaced as a whole.
///
/// # Errors
/// Says what else is there: a device or a pipe would become a file, and nobody who holds it would read a thing.
pub(crate) fn destination(path: &Path) -> io::Result<PathBuf> {
    const LINKS: usize = 40;
    let refused = |what: &str| Err(io::Error::other(what));
    let no_file = "it is no regular file, and what is written here replaces a file as a whole";
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        if path.file_name().is_none() || path.is_dir() {
            return refused("it is a folder, not a file");
        }
        let folder = folder_of(&path).canonicalize()?;
        // /dev/stdout leads here: an open file, whatever its kind.
        if folder.starts_with("/proc") || path.metadata().is_ok_and(|found| !found.is_file()) {
            return refused(no_file);
        }
        match path.read_link() {
            Ok(target) => path = folder.join(target),
            Err(_) => return Ok(path),
        }
    }
    refused("too many symbolic links")
}

/// The folder that a file lies in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(".".as_ref())
}
