// SPDX-License-Identifier: MPL-2.0

//! `cvmmap-streamer timeline SEGMENT_DIR`: a segment as a picture, so that a bad one is seen at a glance.

mod picture;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use svo2::group::{self, Groups, Member, Track};
use svo2::{Recording, words};

use self::picture::{Lane, Picture, Span, State};
use super::convert::{self, Control};
use super::health::{self, Looked};
use super::segment::Segment;
use super::{options, output, progress, utc};
use crate::exit::Failure;
use crate::place::Disk;
use crate::{show, tell};

const NS: f64 = 1e9;
/// Frames from one look at the flag, and one word about progress, to the next.
const STEP: usize = 256;

/// Draw a segment: each camera's frames, gaps and damage, and the groups that they form
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder with SEGMENT_zed1.svo2, SEGMENT_zed2.svo2, ...
    #[arg(value_name = "SEGMENT_DIR")]
    segment_dir: PathBuf,
    /// The picture, SVG [default: SEGMENT_timeline.svg in the folder]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// A frame is no further than this from the time of its group, in ms [default: one interval of the slowest camera]
    #[arg(long, value_name = "MS", allow_negative_numbers = true)]
    sync_tolerance_ms: Option<f64>,
    /// Replace a file that has the output's name
    #[arg(long)]
    overwrite: bool,
    /// Print what is drawn as one JSON line on stdout
    #[arg(long)]
    json: bool,
}

/// Draws the picture, and tells what is in it.
///
/// # Errors
/// A [`Failure`] where the segment has no recording that can be opened, or the picture cannot be written.
pub fn run(args: &Args) -> Result<(), Failure> {
    let segment = Segment::read(&args.segment_dir)?;
    let output = args.output.clone().unwrap_or_else(|| segment.output("_timeline.svg"));
    let report = progress::told(&output, |control| draw(args, &segment, &output, control))?;
    match args.json {
        true => _ = tell::result(&report),
        false => show::result(false, &report),
    }
    Ok(())
}

fn draw(args: &Args, segment: &Segment, output: &Path, control: &mut Control) -> Result<Value, Failure> {
    let tolerance = options::tolerance_ns(args.sync_tolerance_ms)?.unwrap_or(u64::MAX);
    let recordings: Vec<_> =
        segment.cameras.iter().filter_map(|camera| camera.path.metadata().ok()).collect();
    let claimed = output::claim(output, &recordings, args.overwrite)?;
    let cameras = look(segment, control)?;
    let tracks: Vec<Track<'_>> = cameras.iter().flat_map(Camera::track).collect();
    let groups = if tracks.len() < 2 { None } else { group::nearest(&tracks, tolerance) };
    let labels: Vec<&str> =
        cameras.iter().filter(|camera| camera.seen.is_ok()).map(|camera| camera.label.as_str()).collect();
    let picture = compose(segment, &cameras, groups.as_ref(), &labels, &tracks);
    picture.write(claimed.file()).map_err(|error| output::failed(output, error))?;
    control.check()?;
    claimed.publish(Disk::Waited).map_err(|error| output::failed(output, error))?;
    let groups = groups.map(|groups| {
        let counts = |wanted: fn(&Member) -> bool| {
            let of = |track: usize| groups.groups.iter().filter(|group| wanted(&group.members[track])).count();
            labels.iter().enumerate().map(|(track, label)| (label.to_string(), json!(of(track)))).collect::<Value>()
        };
        json!({
            "count": groups.groups.len(),
            "complete": groups.groups.iter().filter(|group| group.members.iter().all(Member::is_present)).count(),
            "no_frame": counts(|member| *member == Member::Unknown),
            "damaged": counts(|member| matches!(member, Member::CorruptedGap { .. })),
            "first_utc": utc(groups.window.first_ns),
            "last_utc": utc(groups.window.last_ns),
        })
    });
    let cameras = cameras.iter().map(Camera::report).collect::<Vec<_>>();
    Ok(json!({
        "segment": segment.name,
        "output": output.display().to_string(),
        "cameras": cameras,
        "groups": groups,
    }))
}

/// One camera, as far as its recording can be opened.
struct Camera {
    label: String,
    path: PathBuf,
    seen: Result<Seen, String>,
}

struct Seen {
    recording: Arc<Recording>,
    times: Vec<u64>,
    looked: Looked,
    undecodable: Vec<Range<usize>>,
    gaps: Vec<health::Gap>,
}

/// Opens all recordings and looks at each frame's head. One that cannot be opened is drawn as such.
fn look(segment: &Segment, control: &mut Control) -> Result<Vec<Camera>, Failure> {
    let opened = |path: &Path| convert::open(path).map(|(recording, _)| recording);
    let opened: Vec<_> = segment.cameras.iter().map(|camera| opened(&camera.path)).collect();
    if let [Err(_), others @ ..] = opened.as_slice()
        && others.iter().all(Result::is_err)
    {
        return Err(opened.into_iter().find_map(Result::err).expect("the first is one"));
    }
    let total: usize = opened.iter().flatten().map(|recording| recording.frames()).sum();
    let mut before = 0;
    let mut cameras = Vec::new();
    for (camera, opened) in segment.cameras.iter().zip(opened) {
        let seen = match opened {
            Err(failure) => Err(failure.to_string()),
            Ok(recording) => {
                convert::tell_how_it_was_found(&recording, &format!("{}: ", camera.label), control);
                let looked = Looked::at(&recording, false, |frame| {
                    if frame.is_multiple_of(STEP) {
                        control.progress((before + frame) as u64, total as u64);
                        control.check()?;
                    }
                    Ok::<_, Failure>(())
                })?;
                convert::check_read(&camera.path, &recording)?;
                before += recording.frames();
                let (undecodable, gaps) = (looked.undecodable(), health::gaps(&recording));
                Ok(Seen { times: recording.times(), recording, looked, undecodable, gaps })
            }
        };
        cameras.push(Camera { label: camera.label.clone(), path: camera.path.clone(), seen });
    }
    Ok(cameras)
}

impl Camera {
    fn track(&self) -> Option<Track<'_>> {
        let seen = self.seen.as_ref().ok()?;
        Some(Track { times: &seen.times, damaged: &seen.undecodable })
    }

    fn report(&self) -> Value {
        let path = self.path.display().to_string();
        match &self.seen {
            Err(why) => json!({ "label": self.label, "file": path, "error": why }),
            Ok(seen) => json!({
                "label": self.label,
                "file": path,
                "frames": seen.recording.frames(),
                "duration_s": seen.seconds(),
                "gaps": seen.gaps.len(),
                "lost_frames": seen.lost(),
                "damaged_places": seen.undecodable.len(),
                "undecodable_frames": seen.undecodable.iter().map(|run| run.len()).sum::<usize>(),
            }),
        }
    }

    fn lane(&self) -> Lane {
        match &self.seen {
            Err(why) => {
                Lane { label: self.label.clone(), told: why.clone(), spans: Vec::new(), ticks: Vec::new() }
            }
            Ok(seen) => Lane {
                label: self.label.clone(),
                told: seen.told(),
                spans: seen.spans(),
                ticks: seen.times.clone(),
            },
        }
    }
}

impl Seen {
    fn seconds(&self) -> f64 {
        let last = self.recording.frames() - 1;
        (self.recording.running_ns(last) + self.recording.nominal_ns()) as f64 / NS
    }

    fn lost(&self) -> u64 {
        self.gaps.iter().map(|gap| gap.lost).sum()
    }

    /// When a frame is no longer shown, wherever the next one is.
    fn until(&self, frame: usize) -> u64 {
        self.times[frame].saturating_add(self.recording.nominal_ns())
    }

    fn told(&self) -> String {
        let undecodable: usize = self.undecodable.iter().map(|run| run.len()).sum();
        let mut told = format!(
            "{} frames of {}x{}, {:.2} s",
            self.recording.frames(),
            self.recording.size().0 / 2,
            self.recording.size().1,
            self.seconds()
        );
        if !self.gaps.is_empty() {
            told.push_str(&format!("; {} lost in {}", self.lost(), words::counted(self.gaps.len(), "gap")));
        }
        if undecodable > 0 {
            told.push_str(&format!(
                "; {undecodable} cannot be decoded, in {} places",
                self.undecodable.len()
            ));
        }
        if let Some(remark) = self.recording.remarks(0).first() {
            told.push_str(&format!("; {remark}"));
        }
        told
    }

    fn spans(&self) -> Vec<Span> {
        let last = self.recording.frames() - 1;
        let all = Span {
            from_ns: self.times[0],
            until_ns: self.until(last),
            state: State::Good,
            what: String::new(),
        };
        let gap = |gap: &health::Gap| Span {
            from_ns: self.until(gap.after),
            until_ns: self.times[gap.after + 1],
            state: State::Missing,
            what: format!("{} lost behind frame {}", gap.lost, gap.after),
        };
        let damage = |run: &Range<usize>| {
            let why = self.looked.damaged.iter().find(|(damaged, _)| run.contains(&damaged.start));
            let why = why.map_or("no key frame in front of them", |(_, why)| why);
            let last = run.end - 1;
            Span {
                from_ns: self.times[run.start],
                until_ns: self.until(last),
                state: State::Damaged,
                what: format!("frames {} to {last} cannot be decoded: {why}", run.start),
            }
        };
        let (gaps, damage) = (self.gaps.iter().map(gap), self.undecodable.iter().map(damage));
        std::iter::once(all).chain(gaps).chain(damage).collect()
    }
}

fn compose(
    segment: &Segment,
    cameras: &[Camera],
    groups: Option<&Groups>,
    labels: &[&str],
    tracks: &[Track<'_>],
) -> Picture {
    let lanes =
        cameras.iter().map(Camera::lane).chain(groups.map(|groups| group_lane(groups, labels))).collect();
    let (told, window) = match groups {
        Some(groups) => {
            let window = groups.window;
            let seconds = (window.last_ns - window.first_ns) as f64 / NS;
            (
                format!("common from {}, {seconds:.2} s", utc(window.first_ns)),
                Some((window.first_ns, window.last_ns)),
            )
        }
        None if tracks.len() > 1 => ("the cameras never overlap".to_owned(), None),
        None => ("one camera: no groups".to_owned(), None),
    };
    let spread = groups.map_or_else(Vec::new, |groups| spreads(groups, tracks));
    Picture { title: format!("segment {}", segment.name), told, window, lanes, spread }
}

fn group_lane(groups: &Groups, labels: &[&str]) -> Lane {
    let complete = groups.groups.iter().filter(|group| group.members.iter().all(Member::is_present)).count();
    let times: Vec<u64> = groups.groups.iter().map(|group| group.time_ns).collect();
    let typical = times.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap_or(0);
    let span = |(n, group): (usize, &group::Group)| {
        let next = times.get(n + 1).copied().unwrap_or(u64::MAX);
        // A pause of the slowest camera has no groups.
        let until_ns = if next - group.time_ns < typical.saturating_mul(2) {
            next
        } else {
            group.time_ns.saturating_add(typical)
        };
        let missing = group.members.iter().zip(labels).filter_map(|(member, label)| match member {
            Member::Present { .. } => None,
            Member::CorruptedGap { frame, .. } => Some(format!("{label} is damaged (frame {frame})")),
            Member::Unknown => Some(format!("{label} has no frame")),
        });
        let missing = missing.collect::<Vec<_>>().join(", ");
        let damaged = group.members.iter().any(|member| matches!(member, Member::CorruptedGap { .. }));
        let state = match (missing.is_empty(), damaged) {
            (true, _) => State::Good,
            (false, false) => State::Missing,
            (false, true) => State::Damaged,
        };
        let what = if missing.is_empty() { missing } else { format!("group {n}: {missing}") };
        Span { from_ns: group.time_ns, until_ns, state, what }
    };
    Lane {
        label: "groups".to_owned(),
        told: format!("{} groups by {}, {complete} of them complete", times.len(), labels[groups.slowest]),
        spans: groups.groups.iter().enumerate().map(span).collect(),
        ticks: times,
    }
}

/// How far apart the frames of each group are: its time and that, in ns.
fn spreads(groups: &Groups, tracks: &[Track<'_>]) -> Vec<(u64, u64)> {
    let spread = |group: &group::Group| {
        let times =
            group.members.iter().zip(tracks).filter_map(|(member, track)| Some(track.times[member.frame()?]));
        let (first, last) =
            times.fold((u64::MAX, 0), |(first, last), time| (time.min(first), time.max(last)));
        (group.time_ns, last.saturating_sub(first))
    };
    groups.groups.iter().map(spread).collect()
}
