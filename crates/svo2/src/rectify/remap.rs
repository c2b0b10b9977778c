// SPDX-License-Identifier: MPL-2.0

//! Bilinear remap in fixed point: positions in 32nds of a pixel, as OpenCV's `INTER_LINEAR` has them, and exact rounding.

use std::ops::Range;

/// Bits of a position's fraction.
const FRACTION_BITS: u32 = 5;
/// Parts of a pixel.
pub const ONE: u16 = 1 << FRACTION_BITS;
const MASK: u16 = ONE - 1;

/// Why a remap did not take place.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RemapError {
    /// Too few or too many channels.
    #[error("{0} channels: there are maps for 1 to 4 channels of 8 bits")]
    Channels(usize),
    /// Rows that overlap.
    #[error("the {which} stride {stride} is smaller than {needed} (columns {columns} x {channels} channels)")]
    Stride {
        /// `source`, `destination`
        which: &'static str,
        /// In bytes.
        stride: usize,
        /// In bytes.
        needed: usize,
        /// Those before the view and those of the view.
        columns: usize,
        /// Bytes of a pixel.
        channels: usize,
    },
    /// Too few bytes.
    #[error("the {which} plane has {found} bytes, fewer than {needed} (stride {stride} x {rows} rows)")]
    Size {
        /// `source`, `destination`
        which: &'static str,
        /// In bytes.
        found: usize,
        /// In bytes.
        needed: usize,
        /// In bytes.
        stride: usize,
        /// Of the view.
        rows: usize,
    },
}

/// A view in a plane of 8-bit samples.
#[derive(Debug, Clone, Copy)]
pub struct Plane<'a> {
    /// The plane from its first row.
    pub data: &'a [u8],
    /// Bytes from row to row.
    pub stride: usize,
    /// Bytes of a pixel: 1 for Y, U and V, 2 for interleaved chroma, 3 or 4 for BGR, BGRA and the like.
    pub channels: usize,
    /// Columns of the plane before the view's first: 0 for the left view, its width for the right one beside it.
    pub x: usize,
}

/// Where a destination pixel lies in the source: the pixel at or before, and 32nds beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Column and row; one before the first where it is outside.
    pub pixel: [i16; 2],
    /// 32nds of a pixel to the right and down.
    pub fraction: [u16; 2],
}

/// For every pixel of a rectified plane, where it lies in the recorded one.
#[derive(Debug, Clone)]
pub struct Remap {
    width: usize,
    height: usize,
    /// Column and row.
    pub(super) pixels: Vec<[i16; 2]>,
    /// 32nds to the right in the lower five bits, 32nds down in the next five.
    pub(super) fractions: Vec<u16>,
    rows: Vec<Row>,
}

/// The run of a row's pixels for which all four neighbours are in the picture; the longest if there are several.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    inside: Range<usize>,
    /// The last source row that the run needs.
    bottom: usize,
}

impl Remap {
    /// From a function that says for column and row of the destination where that is in the source, which has the same
    /// size.
    pub(super) fn new(width: u32, height: u32, source: impl Fn(u32, u32) -> [f64; 2]) -> Self {
        let (columns, lines) = (width as usize, height as usize);
        let mut map = Self {
            width: columns,
            height: lines,
            pixels: Vec::with_capacity(columns * lines),
            fractions: Vec::with_capacity(columns * lines),
            rows: Vec::with_capacity(lines),
        };
        for y in 0..height {
            for x in 0..width {
                let [u, v] = source(x, y);
                let ((column, right), (row, down)) = (fixed(u, width), fixed(v, height));
                map.pixels.push([column, row]);
                map.fractions.push(right | down << FRACTION_BITS);
            }
            let row = map.longest_run(y as usize);
            map.rows.push(row);
        }
        map
    }

    /// Width and height of the plane, source and destination.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// Where the pixel of this column and row lies in the source.
    pub fn position(&self, x: usize, y: usize) -> Position {
        assert!(x < self.width, "column {x} of a map {} wide", self.width);
        let index = y * self.width + x;
        let fraction = self.fractions[index];
        Position { pixel: self.pixels[index], fraction: [fraction & MASK, fraction >> FRACTION_BITS] }
    }

    fn longest_run(&self, y: usize) -> Row {
        let pixels = &self.pixels[y * self.width..][..self.width];
        let (last_column, last_row) = (self.width as i64 - 2, self.height as i64 - 2);
        let inside = |&[x, y]: &[i16; 2]| {
            (0..=last_column).contains(&i64::from(x)) && (0..=last_row).contains(&i64::from(y))
        };
        let (mut best, mut start) = (0..0, 0);
        for end in 0..=self.width {
            if end == self.width || !inside(&pixels[end]) {
                if end - start > best.len() {
                    best = start..end;
                }
                start = end + 1;
            }
        }
        let bottom = pixels[best.clone()].iter().map(|&[_, row]| row as usize + 1).max().unwrap_or(0);
        Row { inside: best, bottom }
    }

    /// Fills `destination`, whose rows are `stride` bytes apart, with what the map finds in `source`. Neighbours outside
    /// of the view, in the other view too, count as `border`: 0 for luma and RGB, 128 for chroma. The rows are shared out
    /// to as many threads.
    pub fn apply(
        &self,
        source: &Plane,
        destination: &mut [u8],
        stride: usize,
        border: u8,
        threads: usize,
    ) -> Result<(), RemapError> {
        self.check(source, destination, stride)?;
        let band = self.height.div_ceil(threads.clamp(1, self.height));
        let mut bands = destination.chunks_mut(band * stride).take(self.height.div_ceil(band)).enumerate();
        let Some((_, first)) = bands.next() else { return Ok(()) };
        std::thread::scope(|scope| {
            for (n, rows) in bands {
                scope.spawn(move || self.apply_band(source, rows, stride, border, n * band));
            }
            self.apply_band(source, first, stride, border, 0);
        });
        Ok(())
    }

    fn check(&self, source: &Plane, destination: &[u8], stride: usize) -> Result<(), RemapError> {
        let channels = source.channels;
        if !(1..=4).contains(&channels) {
            return Err(RemapError::Channels(channels));
        }
        let planes = [
            ("source", source.data.len(), source.stride, source.x + self.width),
            ("destination", destination.len(), stride, self.width),
        ];
        for (which, found, stride, columns) in planes {
            let needed = columns.saturating_mul(channels);
            if stride < needed {
                return Err(RemapError::Stride { which, stride, needed, columns, channels });
            }
            // The last row may end before its padding.
            let needed = stride.saturating_mul(self.height - 1).saturating_add(needed);
            if found < needed {
                return Err(RemapError::Size { which, found, needed, stride, rows: self.height });
            }
        }
        Ok(())
    }

    fn apply_band(&self, source: &Plane, band: &mut [u8], stride: usize, border: u8, first: usize) {
        for (n, row) in band.chunks_mut(stride).take(self.height - first).enumerate() {
            let row = &mut row[..self.width * source.channels];
            match source.channels {
                1 => self.apply_row::<1>(source, row, border, first + n),
                2 => self.apply_row::<2>(source, row, border, first + n),
                3 => self.apply_row::<3>(source, row, border, first + n),
                _ => self.apply_row::<4>(source, row, border, first + n),
            }
        }
    }

    fn apply_row<const CHANNELS: usize>(&self, source: &Plane, row: &mut [u8], border: u8, y: usize) {
        let inside = self.rows[y].inside.clone();
        let start = y * self.width;
        let (pixels, fractions) =
            (&self.pixels[start..][..self.width], &self.fractions[start..][..self.width]);
        self.edge::<CHANNELS>(source, row, border, start, 0..inside.start);
        self.edge::<CHANNELS>(source, row, border, start, inside.end..self.width);
        let row = &mut row[inside.start * CHANNELS..inside.end * CHANNELS];
        let (pixels, fractions) = (&pixels[inside.clone()], &fractions[inside]);
        let view = &source.data[source.x * CHANNELS..];
        run::<CHANNELS>(view, source.stride, pixels, fractions, row);
    }

    /// Pixels of which a neighbour may be outside.
    fn edge<const CHANNELS: usize>(
        &self,
        source: &Plane,
        row: &mut [u8],
        border: u8,
        start: usize,
        columns: Range<usize>,
    ) {
        let sample = |x: i32, y: i32, channel: usize| {
            let inside = (0..self.width as i32).contains(&x) && (0..self.height as i32).contains(&y);
            let index = || y as usize * source.stride + (source.x + x as usize) * CHANNELS + channel;
            u32::from(if inside { source.data[index()] } else { border })
        };
        for column in columns {
            let [x, y] = self.pixels[start + column].map(i32::from);
            let fraction = self.fractions[start + column];
            for channel in 0..CHANNELS {
                let [top, bottom] = [y, y + 1].map(|y| [sample(x, y, channel), sample(x + 1, y, channel)]);
                row[column * CHANNELS + channel] = blend(top, bottom, fraction);
            }
        }
    }
}

/// A run of pixels whose neighbours are all in the view.
pub fn run<const CHANNELS: usize>(
    view: &[u8],
    stride: usize,
    pixels: &[[i16; 2]],
    fractions: &[u16],
    row: &mut [u8],
) {
    let lower = &view[stride.min(view.len())..];
    for ((&[x, y], &fraction), pixel) in pixels.iter().zip(fractions).zip(row.as_chunks_mut::<CHANNELS>().0) {
        let offset = y as usize * stride + x as usize * CHANNELS;
        let (top, bottom) = (&view[offset..][..2 * CHANNELS], &lower[offset..][..2 * CHANNELS]);
        for channel in 0..CHANNELS {
            let [top, bottom] =
                [top, bottom].map(|row| [u32::from(row[channel]), u32::from(row[channel + CHANNELS])]);
            pixel[channel] = blend(top, bottom, fraction);
        }
    }
}

/// Rounds once, at the end; halves go up.
fn blend(top: [u32; 2], bottom: [u32; 2], fraction: u16) -> u8 {
    let one = u32::from(ONE);
    let (right, down) = (u32::from(fraction & MASK), u32::from(fraction >> FRACTION_BITS));
    let [top, bottom] = [top, bottom].map(|[left, next]| left * (one - right) + next * right);
    ((top * (one - down) + bottom * down + one * one / 2) >> (2 * FRACTION_BITS)) as u8
}

/// The pixel at or before a coordinate, and the 32nds beyond it. All that is outside of the picture is one or two pixels
/// outside, also what is no number.
fn fixed(coordinate: f64, length: u32) -> (i16, u16) {
    let parts = (coordinate * f64::from(ONE)).round_ties_even();
    // The other way round, a NaN would pass.
    if !(parts > -f64::from(ONE) && parts < f64::from(length) * f64::from(ONE)) {
        return (-2, 0);
    }
    let parts = parts as i32;
    ((parts >> FRACTION_BITS) as i16, parts as u16 & MASK)
}
