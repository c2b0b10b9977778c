// SPDX-License-Identifier: MPL-2.0

//! Recordings into one MCAP file, for whoever has one segment or many: no globals, nothing printed.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use svo2::Recording;

use super::calibration::{self, Views};
use super::copied::{self, Copied};
use super::encoded::Encoded;
use super::feed::{Feed, Shot};
use super::lane::{Lane, Samples};
use super::merge::Merge;
use super::options::{Conversion, View};
use super::plan::{Plan, Share};
use super::report::{Bundled, Done, Exported};
use crate::exit::{Exit, Failure, configuration};
use crate::place::{self, Disk};
use crate::svo::chain::{Ended, Source, first_that_works};
use crate::svo::convert::{Control, Damages, check_read, tell_how_it_was_found};
use crate::svo::encode;
use crate::svo::output::{self, Wrong};
use crate::svo::segment::{Camera, Opened, Segment};

/// What becomes of a camera's pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    Copied,
    /// With the reason, where a copy was asked for.
    Encoded(Option<String>),
}

impl Way {
    /// # Errors
    /// A [`Failure`] where the recording cannot be decoded either, or it is cancelled.
    fn of(
        camera: &Camera,
        recording: &Arc<Recording>,
        conversion: &Conversion,
        control: &Control,
    ) -> Result<Self, Failure> {
        let (found, wanted) = (recording.codec().name(), conversion.encoding.codec.name());
        let obstacle = match conversion.view {
            View::Left => None,
            View::SideBySide if conversion.codec_is_given && found != wanted => {
                Some(format!("it is {found}, and --codec asks for {wanted}"))
            }
            View::SideBySide => match copied::obstacle(recording, control)? {
                None => return Ok(Self::Copied),
                obstacle => obstacle,
            },
        };
        encode::check(&camera.path)?;
        Ok(Self::Encoded(obstacle))
    }

    fn encodes(&self) -> bool {
        *self != Self::Copied
    }
}

/// Converts a segment. The output gets its name when it is whole. Where the conversion is interrupted, what was written is
/// made readable and stays as `NAME.interrupted`; whatever else happens, nothing stays behind.
///
/// # Errors
/// A [`Failure`] that names the flag, the value and the rule.
pub fn convert(
    segment: &Segment,
    output: &Path,
    conversion: &Conversion,
    control: &mut Control,
) -> Result<Done, Failure> {
    let started = Instant::now();
    let opened = segment.open()?;
    let plan = Plan::new(segment, &opened, conversion)?;
    let recordings: Vec<_> = opened.recordings.iter().map(|recording| recording.as_ref()).collect();
    let calibrations = calibration::find(&conversion.calibrations, &recordings)?;
    let cameras = segment.cameras.iter().zip(&opened.recordings);
    let ways: Result<Vec<Way>, Failure> =
        cameras.map(|(camera, recording)| Way::of(camera, recording, conversion, control)).collect();
    let ways = ways?;
    let encodes = ways.iter().any(Way::encodes);
    let claimed = output::claim(output, &opened.identities, conversion.overwrite)?;
    let job =
        Job { segment, opened: &opened, conversion, plan: &plan, calibrations, ways, file: claimed.file() };
    let scanned = job.tell(control);
    control.check()?;
    let written = job.run(control).map_err(|why| why.of(output));
    // Whatever comes of a file that cannot be read, that it cannot be is what counts.
    for (camera, recording) in segment.cameras.iter().zip(&opened.recordings) {
        check_read(&camera.path, recording)?;
    }
    let written = written?;
    if written.interrupted {
        let (path, _) = claimed.leave().map_err(|error| output::failed(output, error))?;
        return Err(Failure::new(
            Exit::Interrupted,
            format!("interrupted: '{}' can be read, and has what was written by then", path.display()),
        ));
    }
    let disk = if encodes { Disk::Waited } else { Disk::Left };
    let bytes = claimed.publish_for_interrupted(disk).map_err(|error| output::failed(output, error))?;
    let elapsed = started.elapsed();
    let Written { cameras, bundled, .. } = written;
    let done = Done { output: output.to_owned(), bytes, cameras, bundled, scanned, elapsed };
    done.tell(control);
    Ok(done)
}

/// What came of a conversion that was not ended by an error.
struct Written {
    cameras: Vec<Exported>,
    bundled: Option<Bundled>,
    interrupted: bool,
}

struct Job<'a> {
    segment: &'a Segment,
    opened: &'a Opened,
    conversion: &'a Conversion,
    plan: &'a Plan,
    calibrations: Vec<Option<Views>>,
    ways: Vec<Way>,
    file: &'a File,
}

impl Job<'_> {
    /// Tells what is out of the ordinary; returns why each recording was read without its index.
    fn tell(&self, control: &mut Control) -> Vec<Option<String>> {
        self.segment.renamed().into_iter().for_each(|told| control.notice(told));
        let mut scanned = Vec::new();
        for ((camera, recording), way) in
            self.segment.cameras.iter().zip(&self.opened.recordings).zip(&self.ways)
        {
            let label = &camera.label;
            scanned.push(tell_how_it_was_found(recording, &format!("{label}: "), control));
            if let Way::Encoded(Some(why)) = way {
                control.notice(format!(
                    "{label}: both views are encoded, since the recording cannot be copied into \
                     foxglove.CompressedVideo: {why}"
                ));
            }
        }
        scanned
    }

    fn run(&self, control: &mut Control) -> Result<Written, Wrong> {
        let cameras = &self.segment.cameras;
        let recordings = &self.opened.recordings;
        let damages = cameras.iter().zip(recordings);
        let mut damages: Vec<Damages> =
            damages.map(|(camera, recording)| Damages::of(&camera.label, recording)).collect();
        let (mut written, encoder) = if self.ways.iter().any(Way::encodes) {
            let encoding = &self.conversion.encoding;
            let (written, factory) = first_that_works(encoding, control, |factory, last, control| {
                self.attempt(Some((factory, last)), control, &mut damages)
            })?;
            (written, Some(factory))
        } else {
            let written = self.attempt(None, control, &mut damages).map_err(|ended| match ended {
                Ended::Wrong(wrong) => wrong,
                Ended::Encoder(why) => Failure::new(Exit::Pipeline, why).into(),
            })?;
            (written, None)
        };
        let read = damages.into_iter().zip(recordings);
        for ((camera, (mut damages, recording)), way) in written.cameras.iter_mut().zip(read).zip(&self.ways)
        {
            // What the pipelines came across was told; this was read here.
            damages.remarks.tell_all(control, recording);
            camera.damaged = damages.close(control);
            camera.encoder = encoder.clone().filter(|_| way.encodes());
        }
        Ok(written)
    }

    /// Writes the file, from its beginning.
    fn attempt(
        &self,
        encoder: Option<(&str, bool)>,
        control: &mut Control,
        damages: &mut [Damages],
    ) -> Result<Written, Ended> {
        place::empty(self.file).map_err(Wrong::output)?;
        let tracks = self.opened.tracks();
        let (mut lanes, mut expected) = (Vec::new(), Vec::new());
        for (camera, track) in tracks.iter().enumerate() {
            let (lane, frames) = self.lane(camera, track.times, encoder, control)?;
            lanes.push(lane);
            expected.push(frames);
        }
        let bundles = self.plan.bundles.as_ref();
        let mut merge = Merge::new(self.file, self.conversion.compression, lanes, bundles)?;
        let interrupted = match merge.run(expected.iter().sum(), control, damages) {
            Ok(()) => false,
            Err(Ended::Wrong(Wrong::Failed(failure)))
                if failure.exit == Exit::Interrupted && merge.messages() > 0 =>
            {
                merge.flush()?;
                true
            }
            Err(ended) => return Err(ended),
        };
        if !interrupted && merge.is_empty() {
            let name = &self.segment.name;
            return Err(configuration(format!("'{name}': none of the frames can be decoded")).into());
        }
        let bundled = bundles.map(|bundles| Bundled::new(bundles, merge.incomplete));
        let lanes = merge.finish()?;
        let cameras = lanes.iter().zip(expected).enumerate();
        let cameras = cameras.map(|(camera, (lane, expected))| self.report(camera, lane, expected)).collect();
        Ok(Written { cameras, bundled, interrupted })
    }

    /// All that a camera has, and how many pictures that are.
    fn lane<'a>(
        &'a self,
        camera: usize,
        times: &'a [u64],
        encoder: Option<(&str, bool)>,
        control: &mut Control,
    ) -> Result<(Lane<'a>, u64), Ended> {
        let (share, recording) = (&self.plan.cameras[camera], &self.opened.recordings[camera]);
        let label = &self.segment.cameras[camera].label;
        let samples = Samples::of(recording, share);
        let mut expected = share.count();
        let shot = |format| Shot { label: label.clone(), recording: recording.clone(), format };
        let feed: Option<Box<dyn Feed>> = match (&share.frames, &self.ways[camera], encoder) {
            (Some(frames), Way::Copied, _) => {
                let copied = Copied::new(shot(recording.codec().name()), frames, control)?;
                expected = (copied.first()..=*frames.end()).count() as u64;
                tell_what_comes_before(label, &copied, share, control);
                Some(Box::new(copied))
            }
            (Some(frames), Way::Encoded(_), Some((factory, last))) => {
                let view = self.conversion.view.name();
                let source = Source {
                    input: &self.segment.cameras[camera].path,
                    recording,
                    view,
                    frames: frames.clone(),
                };
                let (members, encoding) = (share.members.clone(), &self.conversion.encoding);
                Some(Box::new(Encoded::new(
                    &source,
                    shot(encoding.codec.name()),
                    members,
                    encoding,
                    factory,
                    last,
                )?))
            }
            _ => None,
        };
        let mut lane = Lane::new(label, times, feed, samples);
        if let Some(views) = &self.calibrations[camera] {
            lane.calibrate(views, self.conversion.view);
        }
        Ok((lane, expected))
    }

    fn report(&self, camera: usize, lane: &Lane, expected: u64) -> Exported {
        let (share, recording) = (&self.plan.cameras[camera], &self.opened.recordings[camera]);
        let Some(frames) = share.frames.clone() else {
            return Exported::empty(&self.segment.cameras[camera]);
        };
        let view = self.conversion.view.name();
        let path = &self.segment.cameras[camera].path;
        let (codec, size) = match &self.ways[camera] {
            Way::Copied => (recording.codec().name(), recording.size()),
            Way::Encoded(_) => {
                let source = Source { input: path, recording, view, frames: frames.clone() };
                (self.conversion.encoding.codec.name(), source.size())
            }
        };
        Exported {
            codec,
            size,
            written: lane.written(),
            expected,
            unix_ns: Some([*frames.start(), *frames.end()].map(|frame| lane.time_ns(frame))),
            frames: Some(frames),
            samples: lane.samples().iter().map(|samples| (samples.name(), samples.written())).collect(),
            unreadable: lane
                .samples()
                .iter()
                .map(Samples::unreadable)
                .find(|(count, _)| *count > 0)
                .map(|(count, why)| (count, why.to_owned())),
            ..Exported::empty(&self.segment.cameras[camera])
        }
    }
}

/// Of copies, the key frame that the first frame needs is in the file, and what lies between.
fn tell_what_comes_before(label: &str, copied: &Copied, share: &Share, control: &mut Control) {
    let Some(start) = share.frames.as_ref().map(|frames| *frames.start()) else { return };
    if copied.first() < start {
        control.notice(format!(
            "{label}: frames {} to {} are in the file besides: {start} cannot be decoded without them",
            copied.first(),
            start - 1
        ));
    }
}
