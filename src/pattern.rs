// SPDX-License-Identifier: MPL-2.0

//! The simulator's test picture: what it shows of its frame count, to people and to programs.
//!
//! Diagonal colours move by a step per frame, so that nearly every byte differs from the frame before and a torn
//! picture is seen at its seam. The count stands as digits at the top left, and as 32 bits and a check byte in black
//! and white blocks at the top right and the bottom left, which survive a lossy codec.

use cvmmap_ipc::metadata::{Depth, PixelFormat};
use gst_video::prelude::*;

/// Smallest width and height at which the two markers do not touch.
pub const MIN_SIDE: u32 = 16;
/// Pixels after which the colours repeat; the shift per frame divides it.
const PERIOD: usize = 256;
const SHIFT_PER_FRAME: u32 = 4;
const MARKER: (usize, usize) = (8, 5);
const DIGITS: usize = 7;
const CHECK: u8 = 0xA5;

/// Why a picture is not one whole frame of the pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum PatternError {
    #[error("the {0} marker holds no frame count")]
    NoCount(&'static str),
    #[error("the top says frame {top}, the bottom {bottom}")]
    Markers { top: u32, bottom: u32 },
    #[error("row {row} is not of frame {count}")]
    Row { row: usize, count: u32 },
}

/// Renders and reads the pattern in one format and size.
pub struct Pattern {
    format: PixelFormat,
    depth: Depth,
    width: usize,
    height: usize,
    /// One row of colours, a period longer than the picture is wide.
    ramp: Vec<u8>,
    /// A black and a white pixel.
    levels: [Vec<u8>; 2],
}

impl Pattern {
    /// `None` where the format is none of those that GStreamer knows too, or a side is shorter than [`MIN_SIDE`].
    pub fn new(format: PixelFormat, depth: Depth, width: u32, height: u32) -> Option<Self> {
        if width.min(height) < MIN_SIDE {
            return None;
        }
        let levels = [pixel(format, depth, [0; 3], 0)?, pixel(format, depth, [255; 3], 0)?];
        let (width, height) = (width as usize, height as usize);
        let ramp = (0..width + PERIOD).flat_map(|x| pixel(format, depth, colour(x), x).expect("just tried"));
        Some(Self { format, depth, width, height, ramp: ramp.collect(), levels })
    }

    /// Bytes of a packed row.
    pub fn row_bytes(&self) -> usize {
        self.width * self.pixel_bytes()
    }

    fn pixel_bytes(&self) -> usize {
        self.levels[0].len()
    }

    /// Renders frame `count` with rows `stride` bytes apart.
    pub fn render(&self, count: u32, to: &mut [u8], stride: usize) {
        for (y, row) in to.chunks_mut(stride).take(self.height).enumerate() {
            self.render_row(count, y, &mut row[..self.row_bytes()]);
        }
    }

    /// Renders row `y` of frame `count`.
    pub fn render_row(&self, count: u32, y: usize, row: &mut [u8]) {
        // Even, so that pairs of YUYV pixels stay together.
        let shift = ((y + count.wrapping_mul(SHIFT_PER_FRAME) as usize) % PERIOD) & !1;
        row.copy_from_slice(&self.ramp[shift * self.pixel_bytes()..][..row.len()]);
        self.draw_digits(count, y, row);
        let block = self.block();
        for (left, top) in self.markers() {
            let Some(line) = y.checked_sub(top).map(|y| y / block).filter(|line| *line < MARKER.1) else {
                continue;
            };
            for column in 0..MARKER.0 {
                self.fill(row, left + column * block, block, bits(count)[line * MARKER.0 + column]);
            }
        }
    }

    /// The frame count in the markers.
    ///
    /// # Errors
    /// [`PatternError`] where one is not to be read, or they differ.
    pub fn read_count(&self, picture: &[u8], stride: usize) -> Result<u32, PatternError> {
        let [top, bottom] = self.markers().map(|(left, top)| {
            let block = self.block();
            let mut read = [0u8; MARKER.1];
            for bit in 0..MARKER.0 * MARKER.1 {
                let (x, y) =
                    (left + bit % MARKER.0 * block + block / 2, top + bit / MARKER.0 * block + block / 2);
                read[bit / 8] = read[bit / 8] << 1 | u8::from(self.luma(picture, stride, x, y) >= 128);
            }
            let [a, b, c, d, check] = read;
            (a ^ b ^ c ^ d ^ CHECK == check).then(|| u32::from_be_bytes([a, b, c, d]))
        });
        let top = top.ok_or(PatternError::NoCount("top"))?;
        let bottom = bottom.ok_or(PatternError::NoCount("bottom"))?;
        if top == bottom { Ok(top) } else { Err(PatternError::Markers { top, bottom }) }
    }

    /// Reads the frame count of a picture whose first plane is luma; `None` where it shows none.
    pub fn read_luma(&self, picture: &gst::BufferRef, info: &gst_video::VideoInfo) -> Option<u32> {
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(picture, info).ok()?;
        self.read_count(frame.plane_data(0).ok()?, frame.plane_stride()[0] as usize).ok()
    }

    /// Checks that the picture is one whole frame, to the byte; returns its count.
    ///
    /// # Errors
    /// [`PatternError`] names the first row that is of another frame.
    pub fn check(&self, picture: &[u8], stride: usize) -> Result<u32, PatternError> {
        let count = self.read_count(picture, stride)?;
        let bytes = self.row_bytes();
        let mut whole = vec![0; bytes * self.height];
        self.render(count, &mut whole, bytes);
        let differs = whole.chunks(bytes).zip(picture.chunks(stride)).position(|(w, p)| *w != p[..bytes]);
        differs.map_or(Ok(count), |row| Err(PatternError::Row { row, count }))
    }

    /// Side of a marker's blocks in pixels: 8 of them are a fifth of the width at most, 5 a fifth of the height.
    fn block(&self) -> usize {
        let side = (self.width / 40).min(self.height / 25).max(1);
        if side > 1 { side & !1 } else { side }
    }

    /// Left and top of the markers.
    fn markers(&self) -> [(usize, usize); 2] {
        let block = self.block();
        // An even column, where a pair of YUYV pixels begins.
        [((self.width - MARKER.0 * block) & !1, 0), (0, self.height - MARKER.1 * block)]
    }

    fn draw_digits(&self, count: u32, y: usize, row: &mut [u8]) {
        let scale = ((self.width / 2) / (DIGITS * 8)).min(self.height / 32) & !1;
        let Some(line) = y.checked_div(scale).filter(|line| *line < 8) else { return };
        let text = format!("{count:0DIGITS$}");
        // The last digits are those that change.
        for (i, digit) in text.bytes().skip(text.len() - DIGITS).enumerate() {
            let glyph = font8x8::legacy::BASIC_LEGACY[usize::from(digit)];
            for x in 0..8 {
                self.fill(row, (i * 8 + x) * scale, scale, glyph[line] >> x & 1 != 0);
            }
        }
    }

    /// Fills `width` pixels of a row with white or black.
    fn fill(&self, row: &mut [u8], left: usize, width: usize, white: bool) {
        let level = &self.levels[usize::from(white)];
        for pixel in row[left * level.len()..].chunks_exact_mut(level.len()).take(width) {
            pixel.copy_from_slice(level);
        }
    }

    fn luma(&self, picture: &[u8], stride: usize, x: usize, y: usize) -> u8 {
        let at = y * stride + x * self.pixel_bytes();
        match self.format {
            PixelFormat::Gray if self.depth == Depth::U16 => picture[at + 1],
            // Green stands for the brightness of what is black or white.
            PixelFormat::Rgb | PixelFormat::Bgr | PixelFormat::Rgba | PixelFormat::Bgra => picture[at + 1],
            _ => picture[at],
        }
    }
}

fn bits(count: u32) -> [bool; MARKER.0 * MARKER.1] {
    let [a, b, c, d] = count.to_be_bytes();
    let bytes = [a, b, c, d, a ^ b ^ c ^ d ^ CHECK];
    std::array::from_fn(|bit| bytes[bit / 8] >> (7 - bit % 8) & 1 != 0)
}

/// A colour of the ramp: three triangle waves, a third of a period apart, between 40 and 200.
fn colour(x: usize) -> [u8; 3] {
    [0, PERIOD / 3, 2 * PERIOD / 3].map(|phase| {
        let at = (x + phase) % PERIOD;
        (40 + at.min(PERIOD - at) * 160 / (PERIOD / 2)) as u8
    })
}

/// A colour in a format's bytes; `x` tells which chroma sample a YUYV pixel carries.
fn pixel(format: PixelFormat, depth: Depth, [r, g, b]: [u8; 3], x: usize) -> Option<Vec<u8>> {
    let [rf, gf, bf] = [r, g, b].map(f32::from);
    let y = (0.299 * rf + 0.587 * gf + 0.114 * bf).round() as u8;
    let u = (128.0 - 0.169 * rf - 0.331 * gf + 0.5 * bf).round() as u8;
    let v = (128.0 + 0.5 * rf - 0.419 * gf - 0.081 * bf).round() as u8;
    Some(match (format, depth) {
        (PixelFormat::Rgb, Depth::U8) => vec![r, g, b],
        (PixelFormat::Bgr, Depth::U8) => vec![b, g, r],
        (PixelFormat::Rgba, Depth::U8) => vec![r, g, b, 255],
        (PixelFormat::Bgra, Depth::U8) => vec![b, g, r, 255],
        (PixelFormat::Gray, Depth::U8) => vec![y],
        (PixelFormat::Gray, Depth::U16) => vec![y, y],
        (PixelFormat::Yuv, Depth::U8) => vec![y, u, v],
        (PixelFormat::Yuyv, Depth::U8) => vec![y, if x.is_multiple_of(2) { u } else { v }],
        _ => return None,
    })
}

/// Depth in mm and confidence at a pixel of frame `count`: a ramp that moves with the frames, invalid at its start.
pub fn depth_at(count: u32, x: u32, y: u32) -> (f32, f32) {
    let at = count.wrapping_add(x).wrapping_add(y) % PERIOD as u32;
    let depth = if at == 0 { f32::NAN } else { 500.0 + 10.0 * at as f32 };
    (depth, (at % 101) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FORMATS: [(PixelFormat, Depth); 8] = [
        (PixelFormat::Rgb, Depth::U8),
        (PixelFormat::Bgr, Depth::U8),
        (PixelFormat::Rgba, Depth::U8),
        (PixelFormat::Bgra, Depth::U8),
        (PixelFormat::Gray, Depth::U8),
        (PixelFormat::Gray, Depth::U16),
        (PixelFormat::Yuv, Depth::U8),
        (PixelFormat::Yuyv, Depth::U8),
    ];

    proptest! {
        #[test]
        fn what_is_rendered_is_read(count: u32, format in 0..8usize, w in 16u32..200, h in 16u32..120, pad in 0usize..9) {
            let (format, depth) = FORMATS[format];
            let pattern = Pattern::new(format, depth, w, h).unwrap();
            let stride = pattern.row_bytes() + pad;
            let mut picture = vec![0; stride * h as usize];
            pattern.render(count, &mut picture, stride);
            prop_assert_eq!(pattern.check(&picture, stride), Ok(count));
        }

        #[test]
        fn a_seam_anywhere_is_found(count in 0u32..1_000_000, seam in 0usize..64, next in 1u32..50) {
            let pattern = Pattern::new(PixelFormat::Bgr, Depth::U8, 64, 64).unwrap();
            let stride = pattern.row_bytes();
            let [mut a, mut b] = [vec![0; stride * 64], vec![0; stride * 64]];
            pattern.render(count, &mut a, stride);
            pattern.render(count + next, &mut b, stride);
            b[..seam * stride].copy_from_slice(&a[..seam * stride]);
            prop_assert_eq!(pattern.check(&b, stride).is_ok(), seam == 0);
        }
    }

    #[test]
    fn unknown_formats_and_small_pictures_have_no_pattern() {
        assert!(Pattern::new(PixelFormat::Bgr, Depth::F32, 64, 64).is_none());
        assert!(Pattern::new(PixelFormat::Bgr, Depth::U8, 15, 64).is_none());
    }
}
