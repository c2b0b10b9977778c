// SPDX-License-Identifier: MPL-2.0

//! What the simulator's camera sees: all planes of a frame, from its count alone.

use cvmmap_ipc::metadata::{Depth, DepthUnit, PixelFormat};
use cvmmap_ipc::{FrameId, Metadata, Plane, PlaneKind, Version};

use super::Plan;
use super::encoder::Encoder;
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
        let encoder = plan.encoded.map(|codec| Encoder::start(codec, plan)).transpose()?;
        Ok(Self { version: plan.version, pattern, left, values, unit, encoder })
    }

    /// Renders frame `count` into `payload`; the stamp is left to the caller.
    pub fn render(&mut self, count: u32, payload: &mut Vec<u8>) -> Result<Metadata, Failure> {
        let stride = self.left.stride as usize;
        let size =
            self.left.size as usize + self.values.iter().map(|(plane, _)| plane.size as usize).sum::<usize>();
        payload.resize(size, 0);
        let (left, mut rest) = payload.split_at_mut(self.left.size as usize);
        self.pattern.render(count, left, stride);
        for (plane, ramp) in &self.values {
            let (values, others) = rest.split_at_mut(plane.size as usize);
            rest = others;
            for (y, row) in values.chunks_exact_mut(plane.stride as usize).enumerate() {
                let shift = count.wrapping_add(y as u32) % PERIOD;
                row.copy_from_slice(&ramp[shift as usize * 4..][..row.len()]);
            }
        }
        let encoded = match &mut self.encoder {
            Some(encoder) => Some(encoder.encode(&payload[..self.left.size as usize])?),
            None => None,
        };
        let unit = encoded.as_ref().map(|(unit, _)| Plane::access_unit(unit.len() as u32));
        let planes = [self.left].into_iter().chain(self.values.iter().map(|(plane, _)| *plane)).chain(unit);
        let mut metadata = Metadata::new(self.version, FrameId { count, timestamp_ns: 0 }, planes);
        metadata.depth_unit = self.unit;
        if let Some((unit, info)) = encoded {
            payload.extend_from_slice(&unit);
            metadata.encoded = Some(info);
        }
        Ok(metadata)
    }
}
