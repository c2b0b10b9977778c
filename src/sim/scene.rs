// SPDX-License-Identifier: MPL-2.0

//! What the simulator's camera sees: all planes of a frame, from its count alone.

use cvmmap_ipc::metadata::{Depth, DepthUnit, PixelFormat};
use cvmmap_ipc::{FrameId, Metadata, Plane, PlaneKind, Version};

use super::Plan;
use super::encoder::{AccessUnit, Encoder, Encoding};
use crate::exit::{Failure, configuration};
use crate::pattern::{Pattern, depth_at};

pub(super) struct Scene {
    version: Version,
    pattern: Pattern,
    left: Plane,
    /// Depth and confidence, each with a row of values that is a period longer than the picture is wide.
    values: Vec<(Plane, Vec<u8>)>,
    unit: DepthUnit,
    encoder: Option<Encoder>,
}

/// Values repeat after this many pixels.
const PERIOD: u32 = 256;

impl Scene {
    pub fn new(plan: &Plan) -> Result<Self, Failure> {
        let (width, height) = plan.size;
        let (format, depth) = plan.format;
        let fits = |plane: Option<Plane>| {
            plane
                .ok_or_else(|| configuration(format!("a picture of {width}x{height} does not fit a segment")))
        };
        let left = fits(Plane::packed(PlaneKind::Left, format, depth, width, height))?;
        let pattern =
            Pattern::new(format, depth, width, height).expect("formats and sizes are checked by clap");
        let unit = plan.depth.unwrap_or(DepthUnit::Unspecified);
        let metres = if unit == DepthUnit::Metre { 0.001 } else { 1.0 };
        let mut values = Vec::new();
        let mut add = |kind, value: fn(u32) -> f32, factor: f32| {
            let ramp = (0..width + PERIOD).flat_map(|x| (value(x) * factor).to_le_bytes()).collect();
            fits(Plane::packed(kind, PixelFormat::Gray, Depth::F32, width, height))
                .map(|plane| values.push((plane, ramp)))
        };
        if plan.depth.is_some() {
            add(PlaneKind::Depth, |x| depth_at(0, x, 0).0, metres)?;
        }
        if plan.confidence {
            add(PlaneKind::Confidence, |x| depth_at(0, x, 0).1, 1.0)?;
        }
        let encoding = |codec| Encoding {
            codec,
            format: plan.format,
            size: plan.size,
            fps: plan.fps,
            gop: plan.gop,
            intra_refresh: false,
        };
        let encoder = plan.encoded.map(|codec| Encoder::start(&encoding(codec))).transpose()?;
        Ok(Self { version: plan.version, pattern, left, values, unit, encoder })
    }

    /// What frame `count` is published with. The stamp, and the access unit's own plane, are the caller's.
    pub fn metadata(&self, count: u32, encoded: Option<&AccessUnit>) -> Metadata {
        let unit = encoded.map(|unit| Plane::access_unit(unit.bytes.len() as u32));
        let planes = [self.left].into_iter().chain(self.values.iter().map(|(plane, _)| *plane)).chain(unit);
        let mut metadata = Metadata::new(self.version, FrameId { count, timestamp_ns: 0 }, planes);
        metadata.depth_unit = self.unit;
        metadata.encoded = encoded.map(|unit| unit.info);
        metadata
    }

    /// Encodes frame `count`, where the plan wants that.
    pub fn encode(&mut self, count: u32) -> Result<Option<AccessUnit>, Failure> {
        let Some(encoder) = &mut self.encoder else { return Ok(None) };
        let mut picture = vec![0; self.left.size as usize];
        self.pattern.render(count, &mut picture, self.left.stride as usize);
        encoder.encode(&picture).map(Some)
    }

    /// Hands the raw planes of frame `count` to `write`, row by row and front to back.
    pub fn fill<E>(&self, count: u32, mut write: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut row = vec![0; self.left.stride as usize];
        for y in 0..self.left.height as usize {
            self.pattern.render_row(count, y, &mut row);
            write(&row)?;
        }
        for (plane, ramp) in &self.values {
            for y in 0..plane.height {
                let shift = count.wrapping_add(y) % PERIOD;
                write(&ramp[shift as usize * 4..][..plane.stride as usize])?;
            }
        }
        Ok(())
    }
}
