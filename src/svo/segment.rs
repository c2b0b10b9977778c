// SPDX-License-Identifier: MPL-2.0

//! Segments of a data set: the recordings that several cameras made of the same time.
//!
//! `<root>/.../<segment>/<segment>_zedN.svo2`: one folder each, and `zedN` is what a camera is called.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use svo2::Recording;
use svo2::group::{self, Track, Window};

use super::convert;
use super::utc;
use crate::exit::{Failure, configuration};

/// One camera's recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Camera {
    /// What it is called: `zed1`.
    pub label: String,
    /// The file.
    pub path: PathBuf,
}

/// The recordings of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Where what is made of it lies.
    pub folder: PathBuf,
    /// What that is called by.
    pub name: String,
    /// By their numbers, or in the order in which they were given; one or more.
    pub cameras: Vec<Camera>,
}

impl Segment {
    /// The recordings of a folder, of which there may be others beside those of the segment.
    ///
    /// # Errors
    /// A [`Failure`] where the folder cannot be read, has none, or two of one number.
    pub fn read(folder: &Path) -> Result<Self, Failure> {
        let failed = |why: &dyn std::fmt::Display| {
            configuration(format!("--segment-dir '{}': {why}", folder.display()))
        };
        let name = folder.canonicalize().map_err(|error| failed(&error))?;
        let name = name.file_name().unwrap_or(OsStr::new("segment")).to_string_lossy().into_owned();
        let mut found = Vec::new();
        for entry in folder.read_dir().map_err(|error| failed(&error))? {
            let path = entry.map_err(|error| failed(&error))?.path();
            if let Some((_, number)) = numbered(&path) {
                found.push((number, path));
            }
        }
        found.sort_unstable();
        let same = found.windows(2).find(|pair| pair[0].0 == pair[1].0);
        if let Some([(number, one), (_, other)]) = same {
            let [one, other] = [one, other].map(|path| path.file_name().unwrap_or_default().display());
            return Err(failed(&format!(
                "'{one}' and '{other}' are both zed{number}; each camera has one recording"
            )));
        }
        if found.is_empty() {
            return Err(failed(
                &"it has no recordings; they are called SEGMENT_zed1.svo2, SEGMENT_zed2.svo2, ...",
            ));
        }
        let camera = |(number, path)| Camera { label: format!("zed{number}"), path };
        Ok(Self { folder: folder.to_owned(), name, cameras: found.into_iter().map(camera).collect() })
    }

    /// Recordings that are given one by one. They keep their labels where all have different ones, and are counted
    /// otherwise.
    ///
    /// # Errors
    /// A [`Failure`] where there is none, or one is given twice.
    pub fn of_inputs(inputs: &[PathBuf]) -> Result<Self, Failure> {
        let Some(first) = inputs.first() else {
            return Err(Failure::usage("--input: no recording is given"));
        };
        for (n, input) in inputs.iter().enumerate() {
            if inputs[..n].contains(input) {
                return Err(Failure::usage(format!("--input '{}': it is given twice", input.display())));
            }
        }
        let mut numbers: Vec<u32> = inputs.iter().filter_map(|input| Some(numbered(input)?.1)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let labelled = numbers.len() == inputs.len();
        let camera = |(n, path): (usize, &PathBuf)| {
            let number = numbered(path).filter(|_| labelled).map_or(n as u32 + 1, |(_, number)| number);
            Camera { label: format!("zed{number}"), path: path.clone() }
        };
        let folder = first.parent().unwrap_or(Path::new("")).to_owned();
        let stem = || first.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let name = numbered(first).map_or_else(stem, |(name, _)| name);
        Ok(Self { folder, name, cameras: inputs.iter().enumerate().map(camera).collect() })
    }

    /// `<segment>/<segment>SUFFIX`.
    pub fn output(&self, suffix: &str) -> PathBuf {
        self.folder.join(format!("{}{suffix}", self.name))
    }

    /// # Errors
    /// A [`Failure`] where there is only one camera for `what`: "a grid".
    pub fn needs_two(&self, what: &str) -> Result<(), Failure> {
        if let [camera] = self.cameras.as_slice() {
            let (name, label, path) = (&self.name, &camera.label, camera.path.display());
            return Err(configuration(format!(
                "segment '{name}': {what} needs two cameras or more, and there is only {label}, '{path}'"
            )));
        }
        Ok(())
    }

    /// What to tell where cameras are called other than their recordings say.
    pub fn renamed(&self) -> Option<String> {
        let own = |camera: &Camera| Some(format!("zed{}", numbered(&camera.path)?.1));
        if self.cameras.iter().all(|camera| own(camera).is_none_or(|own| own == camera.label)) {
            return None;
        }
        let why = match self.cameras.iter().all(|camera| own(camera).is_some()) {
            true => "labels clash",
            false => "not all recordings have labels",
        };
        let told = |camera: &Camera| {
            let (label, path) = (&camera.label, camera.path.display());
            let own = own(camera).map(|own| format!(" ({own} by its name)")).unwrap_or_default();
            format!("'{path}'{own} is {label}")
        };
        let told: Vec<String> = self.cameras.iter().map(told).collect();
        Some(format!("--input: {why}; cameras are counted in the order given: {}", told.join(", ")))
    }

    /// Opens all of them.
    ///
    /// # Errors
    /// What one of the files is instead, or what the system says.
    pub fn open(&self) -> Result<Opened, Failure> {
        let (mut recordings, mut identities) = (Vec::new(), Vec::new());
        for camera in &self.cameras {
            let (recording, identity) =
                convert::open(&camera.path).map_err(|failure| self.without(camera, failure))?;
            recordings.push(recording);
            identities.push(identity);
        }
        let times = recordings.iter().map(|recording| recording.times()).collect();
        Ok(Opened { recordings, identities, times })
    }

    /// One of several recordings cannot be opened: the rule, and the way out.
    fn without(&self, camera: &Camera, failure: Failure) -> Failure {
        if self.cameras.len() == 1 {
            return failure;
        }
        Failure::new(
            failure.exit,
            format!(
                "{failure}; a segment is converted with all its cameras, or not: to leave {} out, give each of the \
                 others by --input",
                camera.label
            ),
        )
    }
}

/// A camera has no frame in the common window of a segment of that name, and so there are no groups.
pub fn no_frame_in_common(segment: &str, label: &str) -> Failure {
    configuration(format!("segment '{segment}': {label} has no frame in the time in which all cameras run"))
}

/// A segment's recordings, open, in the order of its cameras.
pub struct Opened {
    /// Their frames.
    pub recordings: Vec<Arc<Recording>>,
    /// Which files they are: none of them is to be written.
    pub identities: Vec<Metadata>,
    times: Vec<Vec<u64>>,
}

impl Opened {
    /// For groups to be made of.
    pub fn tracks(&self) -> Vec<Track<'_>> {
        self.times.iter().map(|times| Track { times, damaged: &[] }).collect()
    }

    /// The time in which all cameras have frames.
    ///
    /// # Errors
    /// A [`Failure`] that says when each of them has, where they never overlap.
    pub fn window(&self, segment: &Segment) -> Result<Window, Failure> {
        group::common_window(&self.tracks()).ok_or_else(|| {
            let told = |(camera, times): (&Camera, &Vec<u64>)| {
                let [first, last] = [times.first(), times.last()].map(|ns| utc(*ns.unwrap_or(&0)));
                format!("{} from {first} to {last}", camera.label)
            };
            let told: Vec<_> = segment.cameras.iter().zip(&self.times).map(told).collect();
            configuration(format!(
                "segment '{}': its cameras never overlap: {}",
                segment.name,
                told.join("; ")
            ))
        })
    }
}

/// The segment and the number in `SEGMENT_zedN.svo2` (or `.svo`), if a file is called so.
pub fn numbered(path: &Path) -> Option<(String, u32)> {
    let is_recording = |extension: &&OsStr| *extension == "svo2" || *extension == "svo";
    path.extension().filter(is_recording)?;
    let (segment, number) = path.file_stem()?.to_str()?.rsplit_once("_zed")?;
    // Not +1, and not 01 beside 1.
    let plain = number.starts_with(|first: char| ('1'..='9').contains(&first));
    let number = number.parse().ok().filter(|_| plain && !segment.is_empty())?;
    Some((segment.to_owned(), number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_segment_and_a_number() {
        let found = |name: &str| numbered(Path::new(name));
        assert_eq!(found("a/2026-03-18T11-59-41_zed2.svo2"), Some(("2026-03-18T11-59-41".into(), 2)));
        assert_eq!(found("x_zed1_zed12.svo"), Some(("x_zed1".into(), 12)));
        for name in
            ["x_zed.svo2", "x_zed01.svo2", "x_zed+1.svo2", "_zed1.svo2", "x_zed1.mp4", "x.svo2", "x_zed1"]
        {
            assert_eq!(found(name), None, "{name}");
        }
    }

    #[test]
    fn folders_are_read_by_number() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("run");
        std::fs::create_dir(&folder).unwrap();
        let error = || Segment::read(&folder).unwrap_err().to_string();
        assert!(error().contains("no recordings") && error().contains("run'"), "{}", error());
        for name in ["run_zed10.svo2", "run_zed2.svo2", "run_grid.mp4", "notes.txt"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        let segment = Segment::read(&folder).unwrap();
        let labels: Vec<_> = segment.cameras.iter().map(|camera| camera.label.as_str()).collect();
        assert_eq!((segment.name.as_str(), labels), ("run", vec!["zed2", "zed10"]));
        assert_eq!(segment.output("_grid.mp4"), folder.join("run_grid.mp4"));
        std::fs::write(folder.join("run_zed2.svo"), "").unwrap();
        let told = ["'run_zed2.svo'", "'run_zed2.svo2'", "both zed2"];
        assert!(told.iter().all(|part| error().contains(part)), "{}", error());
        let gone = Segment::read(&root.path().join("gone")).unwrap_err().to_string();
        assert!(gone.contains("gone'") && gone.contains("No such file"), "{gone}");
    }

    #[test]
    fn inputs_keep_their_labels_or_are_counted() {
        let read =
            |inputs: &[&str]| Segment::of_inputs(&inputs.iter().map(PathBuf::from).collect::<Vec<_>>());
        let labels = |inputs: &[&str]| {
            let segment = read(inputs).unwrap();
            segment.cameras.into_iter().map(|camera| camera.label).collect::<Vec<_>>()
        };
        assert_eq!(labels(&["d/s_zed4.svo2", "d/s_zed2.svo2"]), ["zed4", "zed2"]);
        assert_eq!(labels(&["d/s_zed4.svo2", "e/s_zed4.svo2"]), ["zed1", "zed2"]);
        assert_eq!(labels(&["front.svo2", "s_zed1.svo2"]), ["zed1", "zed2"]);
        assert_eq!(read(&["d/s_zed4.svo2", "e/x.svo2"]).unwrap().output(".mcap"), Path::new("d/s.mcap"));
        let renamed = |inputs: &[&str]| read(inputs).unwrap().renamed();
        for kept in
            [&["d/s_zed4.svo2", "d/s_zed2.svo2"][..], &["s_zed1.svo2", "b.svo2"], &["a.svo2", "b.svo2"]]
        {
            assert_eq!(renamed(kept), None, "{kept:?}");
        }
        let told = renamed(&["d/s_zed4.svo2", "e/s_zed4.svo2"]).unwrap();
        let parts = [
            "clash",
            "'d/s_zed4.svo2' (zed4 by its name) is zed1",
            "'e/s_zed4.svo2' (zed4 by its name) is zed2",
        ];
        assert!(parts.iter().all(|part| told.contains(part)), "{told}");
        let told = renamed(&["front.svo2", "s_zed1.svo2"]).unwrap();
        let parts = ["not all", "'front.svo2' is zed1", "'s_zed1.svo2' (zed1 by its name) is zed2"];
        assert!(parts.iter().all(|part| told.contains(part)), "{told}");
        let twice = read(&["a.svo2", "a.svo2"]).unwrap_err().to_string();
        assert!(twice.contains("'a.svo2'") && twice.contains("twice"), "{twice}");
        let alone = read(&["d/s_zed4.svo2"]).unwrap().needs_two("a grid").unwrap_err().to_string();
        assert!(alone.contains("a grid needs two") && alone.contains("zed4"), "{alone}");
    }
}
