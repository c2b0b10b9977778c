// SPDX-License-Identifier: MPL-2.0

//! One recording into one MP4 file, for whoever has one or many: no globals, nothing printed.

use std::fs::{File, Metadata};
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use svo2::{Found, Recording};

use super::options::{Conversion, How};
use super::{copy, encode};
use crate::exit::{Exit, Failure, configuration};
use crate::place::{Place, Unfinished, destination, folder_of, open_folder};

/// What a conversion tells while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// So many frames of all are in the file.
    Progress {
        /// In the file.
        done: u64,
        /// Asked for.
        total: u64,
    },
    /// Something that it goes on in spite of.
    Notice(String),
}

/// The way to whoever asked.
pub struct Control<'a> {
    /// Is told what happens.
    pub events: &'a mut dyn FnMut(Event),
    /// Ends the conversion, and nothing stays behind.
    pub cancelled: &'a AtomicBool,
}

impl Control<'_> {
    pub(super) fn notice(&mut self, text: String) {
        (self.events)(Event::Notice(text));
    }

    pub(super) fn progress(&mut self, done: u64, total: u64) {
        (self.events)(Event::Progress { done, total });
    }

    /// # Errors
    /// A [`Failure`] with [`Exit::Interrupted`] once it is cancelled.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Failure::new(Exit::Interrupted, "interrupted: no file was written"));
        }
        Ok(())
    }
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Done {
    /// The recording.
    pub input: PathBuf,
    /// The file.
    pub output: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// `h264` or `h265`.
    pub codec: &'static str,
    /// Factory of the encoder; `None` where nothing was encoded.
    pub encoder: Option<String>,
    /// Width and height of its pictures.
    pub size: (u32, u32),
    /// First and last frame that was asked for.
    pub asked: RangeInclusive<usize>,
    /// Frames in the file.
    pub frames: u64,
    /// Places where frames are damaged; those that need them are missing as well.
    pub damaged: usize,
    /// When the first and the last frame that was asked for were taken, in ns since 1970.
    pub unix_ns: [u64; 2],
    /// Why the recording was read without its index.
    pub scanned: Option<String>,
    /// How long it took.
    pub elapsed: Duration,
}

impl Done {
    /// Frames that were asked for and are not in the file.
    pub fn missing(&self) -> u64 {
        (self.asked.clone().count() as u64).saturating_sub(self.frames)
    }

    /// For machines.
    pub fn json(&self) -> Value {
        let seconds = self.elapsed.as_secs_f64();
        json!({
            "input": self.input.display().to_string(),
            "output": self.output.display().to_string(),
            "bytes": self.bytes,
            "codec": self.codec,
            "encoder": self.encoder,
            "copy": self.encoder.is_none(),
            "width": self.size.0,
            "height": self.size.1,
            "start_frame": self.asked.start(),
            "end_frame": self.asked.end(),
            "frames": self.frames,
            "missing": self.missing(),
            "damaged": self.damaged,
            "first_unix_ns": self.unix_ns[0],
            "last_unix_ns": self.unix_ns[1],
            "scanned": self.scanned,
            "elapsed_s": seconds,
            "frames_per_s": self.frames as f64 / seconds.max(1e-9),
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        let seconds = self.elapsed.as_secs_f64();
        let missing = match self.missing() {
            0 => String::new(),
            missing => format!(" ({missing} of {} are missing)", self.asked.clone().count()),
        };
        format!(
            "{}: {} frames{missing} of {}x{}, {} by {}, {:.1} MB, in {seconds:.1} s ({:.0} frames/s)",
            self.output.display(),
            self.frames,
            self.size.0,
            self.size.1,
            self.codec,
            self.encoder.as_deref().unwrap_or("copy"),
            self.bytes as f64 / 1e6,
            self.frames as f64 / seconds.max(1e-9),
        )
    }
}

/// What became of the frames, by either way.
pub(super) struct Written {
    pub codec: &'static str,
    pub encoder: Option<String>,
    pub size: (u32, u32),
    pub frames: u64,
    pub damaged: usize,
}

/// `foo.mp4` beside `foo.svo2`.
pub fn default_output(input: &Path) -> PathBuf {
    input.with_extension("mp4")
}

/// Converts a recording. The output gets its name when it is whole; whatever else happens, nothing stays behind.
///
/// # Errors
/// A [`Failure`] that names the flag, the value and the rule.
pub fn convert(
    input: &Path,
    output: &Path,
    conversion: &Conversion,
    control: &mut Control,
) -> Result<Done, Failure> {
    let started = Instant::now();
    let (recording, identity) = open(input)?;
    let asked = conversion.frames.within(recording.frames())?;
    if let How::Copy(codec) = conversion.how {
        copy::check(&recording, codec, conversion.frames)?;
    }
    let mut claimed = Claimed::new(output, &identity, conversion.overwrite)?;
    let scanned = tell_how_it_was_found(&recording, control);
    control.check()?;
    let file = &claimed.file;
    let written = match &conversion.how {
        How::Copy(_) => {
            copy::copy(&recording, asked.clone(), conversion.frames.start.is_some(), file, control)
        }
        How::Encode(encoding) => encode::encode(input, &recording, asked.clone(), encoding, file, control),
    };
    let written = written.map_err(|failure| match failure.exit {
        // What the system says of a file names none.
        Exit::Configuration if !failure.to_string().starts_with("--") => {
            configuration(format!("--output '{}': {failure}", output.display()))
        }
        _ => failure,
    })?;
    control.check()?;
    let bytes = claimed.publish(conversion.overwrite)?;
    let unix_ns = [*asked.start(), *asked.end()].map(|frame| recording.unix_ns(frame));
    let Written { codec, encoder, size, frames, damaged } = written;
    let done = Done {
        input: input.to_owned(),
        output: output.to_owned(),
        bytes,
        codec,
        encoder,
        size,
        asked,
        frames,
        damaged,
        unix_ns,
        scanned,
        elapsed: started.elapsed(),
    };
    if done.missing() > 0 {
        control.notice(format!(
            "warning: {} of {} frames are missing in the file: they are damaged, or cannot be decoded",
            done.missing(),
            done.asked.clone().count()
        ));
    }
    Ok(done)
}

/// Opens a recording; and which file it is.
///
/// # Errors
/// What the file is instead, or what the system says.
pub fn open(input: &Path) -> Result<(Arc<Recording>, Metadata), Failure> {
    let failed = |why: &dyn std::fmt::Display| configuration(format!("--input '{}': {why}", input.display()));
    let identity = input.metadata().map_err(|error| failed(&error))?;
    // Nobody may ever write into a pipe.
    if !identity.is_file() {
        return Err(failed(&if identity.is_dir() { "it is a folder" } else { "it is no regular file" }));
    }
    let recording = Recording::open(input).map_err(|error| failed(&error))?;
    Ok((recording, identity))
}

fn tell_how_it_was_found(recording: &Recording, control: &mut Control) -> Option<String> {
    let Found::Scanned(why) = recording.found() else { return None };
    control.notice(format!(
        "warning: the recording was cut short or is damaged ({why}): {} whole frames were found",
        recording.frames()
    ));
    Some(why.clone())
}

/// The output while it is not whole; goes with it.
struct Claimed {
    place: Place,
    file: File,
    published: bool,
    given: PathBuf,
}

impl Claimed {
    fn new(output: &Path, input: &Metadata, overwrite: bool) -> Result<Self, Failure> {
        let failed =
            |why: &dyn std::fmt::Display| configuration(format!("--output '{}': {why}", output.display()));
        let ends_as_folder = output.as_os_str().to_string_lossy().ends_with('/');
        if ends_as_folder || output.file_name().is_none() {
            return Err(failed(&"it names a folder, not a file"));
        }
        if output.metadata().is_ok_and(|found| (found.dev(), found.ino()) == (input.dev(), input.ino())) {
            return Err(failed(&"it is the recording itself"));
        }
        let no_folder =
            |error: io::Error| failed(&format_args!("the folder '{}': {error}", folder_of(output).display()));
        if !folder_of(output).is_dir() {
            let why = folder_of(output).read_dir().map(drop).err();
            return Err(no_folder(why.unwrap_or_else(|| io::ErrorKind::NotADirectory.into())));
        }
        let path = destination(output).map_err(|error| failed(&error))?;
        let folder = open_folder(folder_of(&path)).map_err(no_folder)?;
        let name = path.file_name().expect("it is no folder").to_owned();
        let place = Place::new(folder, path, name, Unfinished::Useless);
        let file = place.claim(overwrite).map_err(|why| failed(&why))?;
        Ok(Self { place, file, published: false, given: output.to_owned() })
    }

    /// Gives it its name; returns its size.
    fn publish(&mut self, overwrite: bool) -> Result<u64, Failure> {
        let publish = || {
            self.file.sync_all()?;
            let bytes = self.file.metadata()?.len();
            if overwrite { self.place.replace() } else { self.place.publish() }?;
            Ok(bytes)
        };
        let bytes = publish().map_err(|error: io::Error| {
            configuration(format!("--output '{}': {error}", self.given.display()))
        })?;
        self.published = true;
        Ok(bytes)
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if !self.published {
            self.place.discard();
        }
    }
}
