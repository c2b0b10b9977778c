// SPDX-License-Identifier: MPL-2.0

//! The picture of a grid: dark areas, and letters where people read them.

use gst_video::prelude::*;

use super::layout::{Layout, Rect};

/// I420, one picture.
pub type Canvas<'a> = gst_video::VideoFrameRef<&'a mut gst::BufferRef>;

/// Luma of what is not there, and of letters that say so: both are seen to be no part of any camera's picture.
const DARK: u8 = 24;
const GREY: u8 = 180;
/// Luma of the letters over a picture, and of what is behind them.
const WHITE: u8 = 235;
const BLACK: u8 = 16;
const NEUTRAL: u8 = 128;
/// Side of a letter in its own pixels.
const GLYPH: u32 = 8;
/// The letters over a picture are so small a part of its height and width.
const STAMP_OF_HEIGHT: u32 = 300;
const STAMP_OF_WIDTH: u32 = 320;

/// Makes all of a picture dark.
pub fn clear(canvas: &mut Canvas, layout: &Layout) {
    let (width, height) = layout.size();
    fill(canvas, Rect { x: 0, y: 0, width, height }, DARK);
}

/// Shows that a camera has no picture, in the place of it.
pub fn tell_missing(canvas: &mut Canvas, rect: Rect, text: &str) {
    fill(canvas, rect, DARK);
    let letters = text.len() as u32;
    let scale = (rect.width / (letters * GLYPH * 2)).clamp(1, 8);
    let place = |side: u32, text: u32| side.saturating_sub(text) / 2;
    let x = rect.x + place(rect.width, letters * GLYPH * scale);
    let y = rect.y + place(rect.height, GLYPH * scale);
    write(canvas, rect, (x, y), scale, text, GREY);
}

/// Writes over the top left of a picture of this size.
pub fn stamp(canvas: &mut Canvas, (width, height): (u32, u32), text: &str) {
    let scale = (height / STAMP_OF_HEIGHT).min(width / STAMP_OF_WIDTH).max(1);
    let side = |letters: u32, of: u32| ((letters * GLYPH + 2) * scale).next_multiple_of(2).min(of);
    let box_ = Rect { x: 0, y: 0, width: side(text.len() as u32, width), height: side(1, height) };
    fill(canvas, box_, BLACK);
    write(canvas, box_, (scale, scale), scale, text, WHITE);
}

/// Fills an area with a grey.
fn fill(canvas: &mut Canvas, rect: Rect, luma: u8) {
    for (plane, shift, value) in [(0, 0, luma), (1, 1, NEUTRAL), (2, 1, NEUTRAL)] {
        let stride = canvas.plane_stride()[plane] as usize;
        let [x, y, width, height] =
            [rect.x, rect.y, rect.width, rect.height].map(|side| (side >> shift) as usize);
        let rows = canvas.plane_data_mut(plane as u32).expect("I420 has three planes");
        for row in rows.chunks_mut(stride).skip(y).take(height) {
            row[x..x + width].fill(value);
        }
    }
}

/// Writes a line, as far as it is within an area.
fn write(canvas: &mut Canvas, within: Rect, (left, top): (u32, u32), scale: u32, text: &str, luma: u8) {
    let stride = canvas.plane_stride()[0] as usize;
    let right = within.x + within.width;
    let rows = canvas.plane_data_mut(0).expect("I420 has three planes").chunks_mut(stride);
    let bottom = (top + GLYPH * scale).min(within.y + within.height);
    for (row, y) in rows.skip(top as usize).zip(top..bottom) {
        let line = ((y - top) / scale) as usize;
        for (n, letter) in text.bytes().enumerate() {
            let glyph = font8x8::legacy::BASIC_LEGACY[usize::from(letter) % 128][line];
            for bit in (0..GLYPH).filter(|bit| glyph >> bit & 1 != 0) {
                let x = left + (n as u32 * GLYPH + bit) * scale;
                row[x.min(right) as usize..(x + scale).min(right) as usize].fill(luma);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_stay_within() {
        gst::init().unwrap();
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, 64, 32).build().unwrap();
        let mut buffer = gst::Buffer::from_mut_slice(vec![77; info.size()]);
        let rect = Rect { x: 32, y: 16, width: 32, height: 16 };
        let long = "a text that is longer than any tile";
        let mut canvas = Canvas::from_buffer_ref_writable(buffer.get_mut().unwrap(), &info).unwrap();
        tell_missing(&mut canvas, rect, long);
        let stride = canvas.plane_stride()[0] as usize;
        let inside = |x: usize, y: usize| (32..64).contains(&x) && (16..32).contains(&y);
        for (at, luma) in canvas.plane_data(0).unwrap().iter().enumerate() {
            let (x, y) = (at % stride, at / stride);
            assert_eq!(inside(x, y), *luma != 77, "{x} {y}");
        }
        stamp(&mut canvas, (64, 32), long);
        let luma = canvas.plane_data(0).unwrap();
        assert!(luma[..stride].iter().all(|&luma| luma == BLACK), "above the letters");
        assert!(luma[stride..9 * stride].contains(&WHITE));
    }
}
