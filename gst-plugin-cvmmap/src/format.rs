// SPDX-License-Identifier: MPL-2.0

//! Which caps a cv-mmap plane has, and the other way round.

use cvmmap_ipc::metadata::{Codec, Depth, DepthUnit, PixelFormat};
use cvmmap_ipc::{Metadata, Plane, PlaneKind};
use gst_video::VideoFormat;

/// Pixel formats that exist on both sides.
const RAW: [(PixelFormat, Depth, VideoFormat); 8] = [
    (PixelFormat::Bgr, Depth::U8, VideoFormat::Bgr),
    (PixelFormat::Rgb, Depth::U8, VideoFormat::Rgb),
    (PixelFormat::Bgra, Depth::U8, VideoFormat::Bgra),
    (PixelFormat::Rgba, Depth::U8, VideoFormat::Rgba),
    (PixelFormat::Gray, Depth::U8, VideoFormat::Gray8),
    (PixelFormat::Gray, Depth::U16, VideoFormat::Gray16Le),
    (PixelFormat::Yuyv, Depth::U8, VideoFormat::Yuy2),
    (PixelFormat::Yuv, Depth::U8, VideoFormat::V308),
];

/// All raw formats that can be read as a left plane, and published.
pub(crate) fn raw_caps() -> gst::Caps {
    gst_video::VideoCapsBuilder::new().format_list(RAW.map(|(.., format)| format)).build()
}

/// All that a plane can be.
pub(crate) fn plane_caps(kind: PlaneKind) -> gst::Caps {
    let of = |format| gst_video::VideoCapsBuilder::new().format(format).build();
    match kind {
        PlaneKind::Left => raw_caps(),
        PlaneKind::Depth => of(VideoFormat::Gray16Le),
        PlaneKind::Confidence => of(VideoFormat::Gray8),
        PlaneKind::Encoded => {
            [Codec::H264, Codec::H265].map(|codec| encoded_caps(codec).build()).into_iter().collect()
        }
    }
}

fn encoded_caps(codec: Codec) -> gst::caps::Builder<gst::caps::NoFeature> {
    let name = if codec == Codec::H264 { "video/x-h264" } else { "video/x-h265" };
    gst::Caps::builder(name).field("stream-format", "byte-stream").field("alignment", "au")
}

/// The cv-mmap format of a raw format; `None` where it has none.
pub fn wire_format(format: VideoFormat) -> Option<(PixelFormat, Depth)> {
    RAW.into_iter().find(|(.., raw)| *raw == format).map(|(pixel, depth, _)| (pixel, depth))
}

/// The raw format of a cv-mmap left plane; `None` where GStreamer has none that corresponds.
pub fn raw_format(format: PixelFormat, depth: Depth) -> Option<VideoFormat> {
    RAW.into_iter().find(|(pixel, of, _)| (*pixel, *of) == (format, depth)).map(|(.., raw)| raw)
}

/// What is done to a plane's values on their way into a buffer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Conversion {
    /// Rows are copied as they are.
    None,
    /// f32 times this factor, to u16; what is no positive number becomes 0, what is too large 65535.
    ScaleToU16(f32),
    /// f32 to u8 likewise.
    ToU8,
}

/// What a plane looks like in GStreamer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Output {
    Raw { format: VideoFormat, width: u32, height: u32, conversion: Conversion },
    Encoded { codec: Codec, width: u32, height: u32, framerate: (u16, u16) },
}

impl Output {
    /// The caps of this very output; a raw one may have any frame rate, since the wire does not tell it.
    pub(crate) fn caps(&self) -> gst::Caps {
        match *self {
            Self::Raw { format, width, height, .. } => gst_video::VideoCapsBuilder::new()
                .format(format)
                .width(width as i32)
                .height(height as i32)
                .pixel_aspect_ratio(gst::Fraction::new(1, 1))
                .build(),
            Self::Encoded { codec, width, height, framerate: (num, den) } => {
                let caps = encoded_caps(codec).field("width", width as i32).field("height", height as i32);
                let rate = gst::Fraction::new(num.into(), den.max(1).into());
                caps.field_if("framerate", rate, num > 0 && den > 0).build()
            }
        }
    }
}

/// Why a plane has no place in GStreamer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unmapped {
    /// The frame does not carry the plane.
    Missing { plane: PlaneKind, published: String, version: cvmmap_ipc::Version },
    /// It does, in a form that nothing in GStreamer corresponds to.
    Unsupported(String),
}

/// Describes a plane of a frame; `unit` overrides the header's depth unit.
pub(crate) fn output(
    metadata: &Metadata,
    kind: PlaneKind,
    unit: Option<DepthUnit>,
) -> Result<Output, Unmapped> {
    let Some(plane) = metadata.plane(kind) else {
        let published: Vec<_> = metadata.planes.iter().flatten().map(|plane| plane.kind.name()).collect();
        return Err(Unmapped::Missing {
            plane: kind,
            published: published.join(", "),
            version: metadata.version,
        });
    };
    let left = metadata.plane(PlaneKind::Left).expect("every frame has a left plane");
    if left.width.max(left.height).max(plane.width) > i32::MAX as u32 {
        return Err(Unmapped::Unsupported(format!("a picture of {}x{}", plane.width, plane.height)));
    }
    let raw =
        |format, conversion| Output::Raw { format, width: plane.width, height: plane.height, conversion };
    match kind {
        PlaneKind::Left => left_format(plane).map(|format| raw(format, Conversion::None)),
        PlaneKind::Depth => {
            let factor = match unit.unwrap_or(metadata.depth_unit) {
                DepthUnit::Millimetre => 1.0,
                DepthUnit::Metre => 1000.0,
                other => {
                    return Err(Unmapped::Unsupported(format!(
                        "a depth plane in {other} unit (set the property depth-unit to say which it is)"
                    )));
                }
            };
            Ok(raw(VideoFormat::Gray16Le, Conversion::ScaleToU16(factor)))
        }
        PlaneKind::Confidence => Ok(raw(VideoFormat::Gray8, Conversion::ToU8)),
        PlaneKind::Encoded => {
            let info = metadata.encoded.expect("a frame with an encoded plane says how it is encoded");
            Ok(Output::Encoded {
                codec: info.codec,
                width: left.width,
                height: left.height,
                framerate: info.frame_rate,
            })
        }
    }
}

fn left_format(plane: &Plane) -> Result<VideoFormat, Unmapped> {
    let Plane { pixel_format, depth, channels, .. } = plane;
    // Version 1 says the number of channels besides the format.
    if pixel_format.channels().is_some_and(|own| own != *channels) {
        return Err(Unmapped::Unsupported(format!("pixel format {pixel_format} of {channels} channels")));
    }
    let unsupported = || Unmapped::Unsupported(format!("pixel format {pixel_format} with depth {depth}"));
    raw_format(*pixel_format, *depth).ok_or_else(unsupported)
}

/// Converts a row of little-endian f32 into `to`; both hold the same number of pixels.
pub(crate) fn convert_row(conversion: Conversion, from: &[u8], to: &mut [u8]) {
    // `as` saturates, and makes 0 of NaN and of what is negative; infinities mean 'nothing seen'.
    let value = |bytes: &[u8; 4], factor: f32| {
        let value = f32::from_le_bytes(*bytes);
        if value.is_finite() { value * factor + 0.5 } else { 0.0 }
    };
    let (pixels, _) = from.as_chunks::<4>();
    match conversion {
        Conversion::None => to[..from.len()].copy_from_slice(from),
        Conversion::ToU8 => {
            for (to, from) in to.iter_mut().zip(pixels) {
                *to = value(from, 1.0) as u8;
            }
        }
        Conversion::ScaleToU16(factor) => {
            let (to, _) = to.as_chunks_mut::<2>();
            for (to, from) in to.iter_mut().zip(pixels) {
                *to = (value(from, factor) as u16).to_le_bytes();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cvmmap_ipc::{FrameId, Version};

    fn of(plane: Plane) -> Metadata {
        Metadata::new(Version::V2, FrameId { count: 1, timestamp_ns: 1 }, [plane])
    }

    #[test]
    fn every_documented_format_maps_and_the_others_are_named() {
        let mut mapped = 0;
        for format in 0..8 {
            for depth in 0..8 {
                let (format, depth) = (PixelFormat::from(format), Depth::from(depth));
                let Some(plane) = Plane::packed(PlaneKind::Left, format, depth, 4, 2) else { continue };
                match output(&of(plane), PlaneKind::Left, None) {
                    Ok(Output::Raw { format: raw, .. }) => {
                        assert_eq!(wire_format(raw), Some((format, depth)));
                        mapped += 1;
                    }
                    Err(Unmapped::Unsupported(why)) => {
                        assert!(
                            why.contains(&format.to_string()) && why.contains(&depth.to_string()),
                            "{why}"
                        );
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(mapped, 8);
        let mut plane = Plane::packed(PlaneKind::Left, PixelFormat::Bgr, Depth::U8, 4, 2).unwrap();
        plane.channels = 4;
        let why = output(&of(plane), PlaneKind::Left, None).unwrap_err();
        assert!(matches!(why, Unmapped::Unsupported(why) if why == "pixel format BGR of 4 channels"));
    }

    #[test]
    fn depth_needs_a_unit_from_the_header_or_the_user() {
        let left = Plane::packed(PlaneKind::Left, PixelFormat::Bgr, Depth::U8, 4, 2).unwrap();
        let depth = Plane::packed(PlaneKind::Depth, PixelFormat::Gray, Depth::F32, 4, 2).unwrap();
        let mut metadata = Metadata::new(Version::V2, FrameId { count: 1, timestamp_ns: 1 }, [left, depth]);
        let why = output(&metadata, PlaneKind::Depth, None).unwrap_err();
        assert!(matches!(why, Unmapped::Unsupported(why) if why.contains("depth-unit")));
        let factor = |metadata: &Metadata, unit| match output(metadata, PlaneKind::Depth, unit) {
            Ok(Output::Raw { conversion: Conversion::ScaleToU16(factor), .. }) => factor,
            other => panic!("{other:?}"),
        };
        assert_eq!(factor(&metadata, Some(DepthUnit::Metre)), 1000.0);
        metadata.depth_unit = DepthUnit::Millimetre;
        assert_eq!(factor(&metadata, None), 1.0);
        let missing = output(&metadata, PlaneKind::Confidence, None).unwrap_err();
        assert!(matches!(missing, Unmapped::Missing { published, .. } if published == "left, depth"));
    }

    #[test]
    fn depth_values_round_saturate_and_lose_what_is_invalid() {
        let metres = [1.0f32, 0.0004, 0.0006, 65.535, 70.0, -1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        let from: Vec<u8> = metres.iter().flat_map(|v| v.to_le_bytes()).collect();
        let mut to = vec![0xEE; metres.len() * 2];
        convert_row(Conversion::ScaleToU16(1000.0), &from, &mut to);
        let values: Vec<u16> = to.chunks(2).map(|v| u16::from_le_bytes([v[0], v[1]])).collect();
        assert_eq!(values, [1000, 0, 1, 65535, 65535, 0, 0, 0, 0]);
        let confidence: Vec<u8> =
            [0.0f32, 99.6, 300.0, f32::NAN].iter().flat_map(|v| v.to_le_bytes()).collect();
        let mut to = [0xEE; 4];
        convert_row(Conversion::ToU8, &confidence, &mut to);
        assert_eq!(to, [0, 100, 255, 0]);
    }
}
