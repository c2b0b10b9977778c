// SPDX-License-Identifier: MPL-2.0

//! Frames of several recordings into pictures, each of which is what the plan says.
//!
//! `compositor` picks what it shows by the time, a picture per tick of a fixed rate. Here the groups are known, so each
//! camera is asked for the frame of the next group by its index, and GStreamer's converter scales it into its place in
//! the picture. No frame is shown twice, whichever decoder is late.

use std::cmp::Ordering::{Equal, Greater, Less};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gst_video::prelude::*;
use svo2::group::Member;

use super::canvas::{self, Canvas};
use super::layout::{Layout, Rect};
use super::plan::Plan;

/// How often it is asked whether a frame is still waited for.
const TICK: gst::ClockTime = gst::ClockTime::from_mseconds(100);

/// What came of a camera's frames.
#[derive(Debug, Default)]
pub struct Tally {
    /// Groups that show one.
    pub shown: AtomicU64,
    /// Groups near which the camera has none.
    pub none: AtomicU64,
    /// Groups of which the frame cannot be decoded.
    pub damaged: AtomicU64,
}

/// One camera's frames, as they are decoded.
pub struct Branch {
    sink: gst_app::AppSink,
    /// Came too early for its group.
    held: Option<gst::Sample>,
    scaler: Option<Scaler>,
}

/// From pictures of some caps into a place of the grid's.
struct Scaler {
    caps: gst::Caps,
    info: gst_video::VideoInfo,
    converter: gst_video::VideoConverter,
}

impl Branch {
    pub fn new(sink: gst_app::AppSink) -> Self {
        Self { sink, held: None, scaler: None }
    }

    /// The next frame there is; waits for it.
    fn peek(&mut self) -> Option<&gst::Sample> {
        // A wait without end would not wake when the pipeline is stopped: the sink is only on its way to READY then.
        while self.held.is_none() {
            self.held = self.sink.try_pull_sample(TICK);
            if self.held.is_none() && (self.sink.is_eos() || self.sink.current_state() < gst::State::Paused) {
                break;
            }
        }
        self.held.as_ref()
    }

    /// A frame, if it can be decoded; those before it are not wanted any more.
    fn frame(&mut self, wanted: usize) -> Option<gst::Sample> {
        loop {
            let index = self.peek()?.buffer().map(|buffer| buffer.offset());
            match index?.cmp(&(wanted as u64)) {
                Less => self.held = None,
                Equal => return self.held.take(),
                Greater => return None,
            }
        }
    }

    /// Whether it could be shown.
    fn show(
        &mut self,
        sample: &gst::Sample,
        canvas: &mut Canvas,
        info: &gst_video::VideoInfo,
        rect: Rect,
    ) -> Result<(), gst::glib::BoolError> {
        let error = || gst::glib::bool_error!("a picture without caps");
        let (buffer, caps) = sample.buffer().zip(sample.caps()).ok_or_else(error)?;
        let scaler = match self.scaler.take().filter(|scaler| scaler.caps.as_ptr() == caps.as_ptr()) {
            Some(scaler) => self.scaler.insert(scaler),
            None => self.scaler.insert(Scaler::new(caps, info, rect)?),
        };
        let picture = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &scaler.info)?;
        scaler.converter.frame_ref(&picture, canvas);
        Ok(())
    }
}

impl Scaler {
    fn new(
        caps: &gst::CapsRef,
        into: &gst_video::VideoInfo,
        rect: Rect,
    ) -> Result<Self, gst::glib::BoolError> {
        let found = gst_video::VideoInfo::from_caps(caps)?;
        // Rates do not matter here.
        let info = gst_video::VideoInfo::builder(found.format(), found.width(), found.height())
            .colorimetry(&found.colorimetry())
            .chroma_site(found.chroma_site())
            .build()?;
        let mut config = gst_video::VideoConverterConfig::new();
        config.set_dest_x(rect.x as i32);
        config.set_dest_y(rect.y as i32);
        config.set_dest_width(Some(rect.width as i32));
        config.set_dest_height(Some(rect.height as i32));
        config.set_fill_border(false);
        config.set_resampler_method(gst_video::VideoResamplerMethod::Linear);
        if (2 * rect.width, 2 * rect.height) == (info.width(), info.height()) {
            // The mean of the two pixels that become one, in both directions.
            config.set_resampler_taps(2);
        }
        let converter = gst_video::VideoConverter::new(&info, into, Some(config))?;
        Ok(Self { caps: caps.to_owned(), info, converter })
    }
}

/// Puts the pictures together, one after the other.
pub struct Composer {
    plan: Arc<Plan>,
    layout: Arc<Layout>,
    tallies: Arc<Vec<Tally>>,
    fps: gst::Fraction,
    /// `None`: the camera is in none of the pictures.
    branches: Vec<Option<Branch>>,
    /// Since the first frame came, which says how colours are meant.
    paper: Option<Paper>,
    next: usize,
}

/// Where pictures are made.
struct Paper {
    info: gst_video::VideoInfo,
    pool: gst::BufferPool,
}

impl Composer {
    pub fn new(
        plan: Arc<Plan>,
        layout: Arc<Layout>,
        tallies: Arc<Vec<Tally>>,
        fps: gst::Fraction,
        branches: Vec<Option<Branch>>,
    ) -> Self {
        Self { plan, layout, tallies, fps, branches, paper: None, next: 0 }
    }

    /// Puts the next picture into the source, or ends it.
    pub fn feed(&mut self, source: &gst_app::AppSrc) {
        if self.next == self.plan.groups.len() || !self.has_begun(source) {
            // The cameras' ends are waited for, so that the pipeline knows of its own.
            for branch in self.branches.iter_mut().flatten() {
                while branch.peek().is_some() {
                    branch.held = None;
                }
            }
            let _ = source.end_of_stream();
            return;
        }
        match self.picture() {
            // Whoever refuses it has said why.
            Ok(buffer) => drop(source.push_buffer(buffer)),
            Err(error) => {
                gst::element_error!(source, gst::ResourceError::Failed, ("the grid: {error}"));
                let _ = source.end_of_stream();
            }
        }
    }

    /// Looks for the first frame of all; none will come where there is none.
    fn has_begun(&mut self, source: &gst_app::AppSrc) -> bool {
        if self.paper.is_some() {
            return true;
        }
        let caps = |branch: &mut Branch| branch.peek()?.caps().map(gst::CapsRef::to_owned);
        let Some(caps) = self.branches.iter_mut().flatten().find_map(caps) else { return false };
        match Paper::new(&caps, self.layout.size()) {
            Ok(paper) => {
                let mut caps = paper.info.to_caps().expect("they were made of caps");
                caps.make_mut().set("framerate", self.fps);
                source.set_caps(Some(&caps));
                self.paper = Some(paper);
                true
            }
            Err(error) => {
                gst::element_error!(source, gst::ResourceError::Failed, ("the grid: {error}"));
                false
            }
        }
    }

    fn picture(&mut self) -> Result<gst::Buffer, gst::glib::BoolError> {
        let paper = self.paper.as_ref().expect("it has begun");
        let mut buffer =
            paper.pool.acquire_buffer(None).map_err(|error| gst::glib::bool_error!("{error}"))?;
        let (group, n) = (&self.plan.groups[self.next], self.next);
        let writable = buffer.get_mut().expect("nobody else has it");
        let (pts, duration) = self.plan.shown(n);
        writable.set_pts(gst::ClockTime::from_nseconds(pts));
        writable.set_duration(gst::ClockTime::from_nseconds(duration));
        let mut canvas = Canvas::from_buffer_ref_writable(writable, &paper.info)?;
        if self.layout.has_gaps() {
            canvas::clear(&mut canvas, &self.layout);
        }
        for (camera, member) in group.members.iter().enumerate() {
            let (rect, tally) = (self.layout.pictures[camera], &self.tallies[camera]);
            let branch = self.branches[camera].as_mut();
            let shown = match (member, branch) {
                (Member::Unknown, _) | (_, None) => None,
                (Member::Present { frame, .. } | Member::CorruptedGap { frame, .. }, Some(branch)) => {
                    branch.frame(*frame).map(|sample| branch.show(&sample, &mut canvas, &paper.info, rect))
                }
            };
            let (count, why) = match (shown.transpose()?, member) {
                (Some(()), _) => (&tally.shown, None),
                (None, Member::Unknown) => (&tally.none, Some("no frame")),
                (None, _) => (&tally.damaged, Some("damaged frame")),
            };
            count.fetch_add(1, Ordering::Relaxed);
            if let Some(why) = why {
                canvas::tell_missing(&mut canvas, rect, &format!("{}: {why}", self.plan.labels[camera]));
            }
        }
        canvas::stamp(&mut canvas, self.layout.size(), &self.plan.text(n));
        drop(canvas);
        self.next += 1;
        Ok(buffer)
    }
}

impl Paper {
    fn new(caps: &gst::CapsRef, (width, height): (u32, u32)) -> Result<Self, gst::glib::BoolError> {
        let first = gst_video::VideoInfo::from_caps(caps)?;
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, width, height)
            .colorimetry(&first.colorimetry())
            .chroma_site(first.chroma_site())
            .build()?;
        let pool = gst::BufferPool::new();
        let mut config = pool.config();
        config.set_params(Some(&info.to_caps()?), info.size() as u32, 0, 0);
        pool.set_config(config)?;
        pool.set_active(true)?;
        Ok(Self { info, pool })
    }
}

impl Drop for Paper {
    fn drop(&mut self) {
        let _ = self.pool.set_active(false);
    }
}
