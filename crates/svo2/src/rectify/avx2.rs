// SPDX-License-Identifier: MPL-2.0

//! The inner loop of the remap for x86 with AVX2: the compiler does not gather, and one pixel after the other takes 1.1
//! times as long as OpenCV for grey, and twice as long for BGRA.
//!
//! Arithmetic is that of `remap::run`, to the last bit: each row is blended to 13 bits, then the two of them to 18, and
//! rounded once.

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::remap::{FRACTION_BITS, ONE};

/// Pixels of a step.
const STEP: usize = 16;

/// What a run of pixels needs of its source.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// From the view's first pixel on.
    pub data: &'a [u8],
    /// Bytes from row to row.
    pub stride: usize,
    /// The greatest column and row of the run; the next ones are in the view, too.
    pub last: [usize; 2],
}

/// Remaps as many pixels from the start of the run as it can, and says how many; none on a machine without AVX2.
pub fn run<const CHANNELS: usize>(
    view: View,
    pixels: &[[i16; 2]],
    fractions: &[u16],
    row: &mut [u8],
) -> usize {
    // A pixel and the next one are loaded at once, in 4 or 8 bytes.
    let load = if CHANNELS <= 2 { 4 } else { 8 };
    let end = (view.last[1] + 1) * view.stride + view.last[0] * CHANNELS + load;
    let [Ok(column), Ok(line), Ok(stride)] = [view.last[0], view.last[1], view.stride].map(i16::try_from)
    else {
        return 0;
    };
    if end > view.data.len() || !is_x86_feature_detected!("avx2") {
        return 0;
    }
    // Three channels are stored in 16 bytes of which 12 count.
    let room = if CHANNELS == 3 { row.len().saturating_sub(4) } else { row.len() } / CHANNELS;
    let steps = pixels.len().min(fractions.len()).min(room) / STEP;
    // SAFETY: the CPU has AVX2. `data` has the bytes up to `end`, beyond which nothing is loaded from row `line + 1` and
    // column `column` on, and `steps` steps have their pixels, fractions and place in `row`.
    unsafe { run_steps::<CHANNELS>(view.data, [column, line], stride, pixels, fractions, row, steps) };
    steps * STEP
}

/// # Safety
///
/// The CPU must have AVX2. A load of 4 bytes (8 with more than 2 channels) must be in `data` at every column up to
/// `last[0]` of every row up to `last[1] + 1`. There must be 16 pixels and fractions for each step, and room for them in
/// `row`, with 4 bytes more for 3 channels.
#[target_feature(enable = "avx2")]
unsafe fn run_steps<const CHANNELS: usize>(
    data: &[u8],
    last: [i16; 2],
    stride: i16,
    pixels: &[[i16; 2]],
    fractions: &[u16],
    row: &mut [u8],
    steps: usize,
) {
    let top = data.as_ptr();
    let bottom = top.wrapping_add(stride as usize);
    let pairs = |[low, high]: [i16; 2]| _mm256_set1_epi32(i32::from(high) << 16 | i32::from(low));
    let (limit, scale) = (pairs(last), pairs([CHANNELS as i16, stride]));
    for step in 0..steps {
        let first = step * STEP;
        // SAFETY: the caller has 16 of them for each step.
        let (low, high, fraction) = unsafe {
            let pixels = pixels.as_ptr().add(first).cast();
            let fraction = _mm256_loadu_si256(fractions.as_ptr().add(first).cast());
            (_mm256_loadu_si256(pixels), _mm256_loadu_si256(pixels.add(1)), fraction)
        };
        // Nothing is loaded from outside, whatever the map says.
        let offsets = [low, high].map(|pixels| {
            let pixels = _mm256_max_epi16(_mm256_min_epi16(pixels, limit), _mm256_setzero_si256());
            _mm256_madd_epi16(pixels, scale)
        });
        let weights = Weights::new(fraction);
        // SAFETY: offsets are those of columns and rows within `last`, for which the caller has `data`, and one row lower
        // from `bottom`; and the caller has room for 16 pixels.
        unsafe {
            let out = row.as_mut_ptr().add(first * CHANNELS);
            match CHANNELS {
                1 => step_1(top, bottom, offsets, weights, out),
                2 => step_2(top, bottom, offsets, weights, out),
                _ => step_4::<CHANNELS>(top, bottom, offsets, weights, out),
            }
        }
    }
}

/// Of 16 pixels, in the order in which two 256-bit vectors are packed and unpacked: 0 to 3 and 8 to 11 first, then 4 to 7
/// and 12 to 15.
#[derive(Clone, Copy)]
struct Weights {
    /// Of the left and the right pixel, as bytes, in 16 bits for each pixel in its order.
    across: __m256i,
    /// Of the upper and the lower row, 16 bits each.
    down: [__m256i; 2],
}

impl Weights {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(fraction: __m256i) -> Self {
        let one = _mm256_set1_epi16(ONE as i16);
        let right = _mm256_and_si256(fraction, _mm256_set1_epi16(ONE as i16 - 1));
        let down = _mm256_srli_epi16::<{ FRACTION_BITS as i32 }>(fraction);
        let (left, up) = (_mm256_sub_epi16(one, right), _mm256_sub_epi16(one, down));
        Self {
            across: _mm256_or_si256(left, _mm256_slli_epi16::<8>(right)),
            down: [_mm256_unpacklo_epi16(up, down), _mm256_unpackhi_epi16(up, down)],
        }
    }
}

/// Blends pairs of 16 bits, one from each row, and rounds.
#[inline]
#[target_feature(enable = "avx2")]
fn finish(rows: __m256i, weights: __m256i) -> __m256i {
    let half = _mm256_set1_epi32(i32::from(ONE) * i32::from(ONE) / 2);
    _mm256_srli_epi32::<{ 2 * FRACTION_BITS as i32 }>(_mm256_add_epi32(
        _mm256_madd_epi16(rows, weights),
        half,
    ))
}

/// Pixels 0 to 3 and 8 to 11, and 4 to 7 and 12 to 15, of 0 to 7 and 8 to 15.
#[inline]
#[target_feature(enable = "avx2")]
fn interleave([low, high]: [__m256i; 2]) -> [__m256i; 2] {
    [_mm256_permute2x128_si256::<0x20>(low, high), _mm256_permute2x128_si256::<0x31>(low, high)]
}

/// # Safety
///
/// 4 bytes must be readable at each offset from `top` and `bottom`, 16 writable at `out`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn step_1(top: *const u8, bottom: *const u8, offsets: [__m256i; 2], weights: Weights, out: *mut u8) {
    let across = [
        _mm256_unpacklo_epi16(weights.across, weights.across),
        _mm256_unpackhi_epi16(weights.across, weights.across),
    ];
    let [offset_a, offset_b] = interleave(offsets);
    let blend = |offset, across, down| {
        // SAFETY: the caller has 4 bytes at each offset.
        let (top, bottom) = unsafe {
            (
                _mm256_i32gather_epi32::<1>(top.cast(), offset),
                _mm256_i32gather_epi32::<1>(bottom.cast(), offset),
            )
        };
        // Two pixels of the upper row, then two of the lower one.
        let four = _mm256_blend_epi16::<0b1010_1010>(top, _mm256_slli_epi32::<16>(bottom));
        finish(_mm256_maddubs_epi16(four, across), down)
    };
    let words = _mm256_packus_epi32(
        blend(offset_a, across[0], weights.down[0]),
        blend(offset_b, across[1], weights.down[1]),
    );
    let bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
    // SAFETY: the caller has room for 16 bytes.
    unsafe { _mm_storeu_si128(out.cast(), bytes) };
}

/// # Safety
///
/// 4 bytes must be readable at each offset from `top` and `bottom`, 32 writable at `out`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn step_2(top: *const u8, bottom: *const u8, offsets: [__m256i; 2], weights: Weights, out: *mut u8) {
    let across = [
        _mm256_unpacklo_epi16(weights.across, weights.across),
        _mm256_unpackhi_epi16(weights.across, weights.across),
    ];
    // u v u v to u u v v
    let order =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15));
    let [offset_a, offset_b] = interleave(offsets);
    let blend = |offset, across, down| {
        // SAFETY: the caller has 4 bytes at each offset.
        let (top, bottom) = unsafe {
            (
                _mm256_i32gather_epi32::<1>(top.cast(), offset),
                _mm256_i32gather_epi32::<1>(bottom.cast(), offset),
            )
        };
        let [top, bottom] =
            [top, bottom].map(|row| _mm256_maddubs_epi16(_mm256_shuffle_epi8(row, order), across));
        _mm256_packus_epi32(
            finish(_mm256_unpacklo_epi16(top, bottom), _mm256_unpacklo_epi32(down, down)),
            finish(_mm256_unpackhi_epi16(top, bottom), _mm256_unpackhi_epi32(down, down)),
        )
    };
    let bytes = _mm256_packus_epi16(
        blend(offset_a, across[0], weights.down[0]),
        blend(offset_b, across[1], weights.down[1]),
    );
    // SAFETY: the caller has room for 32 bytes.
    unsafe { _mm256_storeu_si256(out.cast(), bytes) };
}

/// Three or four channels.
///
/// # Safety
///
/// 8 bytes must be readable at each offset from `top` and `bottom`, 64 writable at `out`, 52 with three channels.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn step_4<const CHANNELS: usize>(
    top: *const u8,
    bottom: *const u8,
    offsets: [__m256i; 2],
    weights: Weights,
    out: *mut u8,
) {
    // b g r a b g r a to b b g g r r a a
    let order = match CHANNELS {
        3 => _mm_setr_epi8(0, 3, 1, 4, 2, 5, -1, -1, 8, 11, 9, 12, 10, 13, -1, -1),
        _ => _mm_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15),
    };
    let order = _mm256_broadcastsi128_si256(order);
    // The weights of each pixel for four channels of it.
    let spread = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 0, 1, 0, 1, 0, 1, 8, 9, 8, 9, 8, 9, 8, 9));
    let blend = |offset: __m128i, across: __m128i, down: __m256i, pixel: i32| {
        // SAFETY: the caller has 8 bytes at each offset.
        let (top, bottom) = unsafe {
            (
                _mm256_i32gather_epi64::<1>(top.cast(), offset),
                _mm256_i32gather_epi64::<1>(bottom.cast(), offset),
            )
        };
        let across = _mm256_shuffle_epi8(_mm256_cvtepu16_epi64(across), spread);
        let [top, bottom] =
            [top, bottom].map(|row| _mm256_maddubs_epi16(_mm256_shuffle_epi8(row, order), across));
        let of = |a, b| _mm256_permutevar8x32_epi32(down, _mm256_setr_epi32(a, a, a, a, b, b, b, b));
        _mm256_packus_epi32(
            finish(_mm256_unpacklo_epi16(top, bottom), of(pixel, pixel + 2)),
            finish(_mm256_unpackhi_epi16(top, bottom), of(pixel + 1, pixel + 3)),
        )
    };
    let halves = [
        (_mm256_castsi256_si128(weights.across), offsets[0], 0),
        (_mm256_extracti128_si256::<1>(weights.across), offsets[1], 4),
    ];
    for (half, (across, offset, pixel)) in halves.into_iter().enumerate() {
        let bytes = _mm256_packus_epi16(
            blend(_mm256_castsi256_si128(offset), across, weights.down[0], pixel),
            blend(_mm256_extracti128_si256::<1>(offset), _mm_srli_si128::<8>(across), weights.down[1], pixel),
        );
        let bytes = _mm256_permute4x64_epi64::<0b11_01_10_00>(bytes);
        // SAFETY: the caller has room for 64 or 52 bytes, 32 or 24 of which were written by the first half.
        unsafe {
            let out = out.add(half * 8 * CHANNELS);
            if CHANNELS == 3 {
                let three = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
                let bytes = _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(three));
                _mm_storeu_si128(out.cast(), _mm256_castsi256_si128(bytes));
                _mm_storeu_si128(out.add(12).cast(), _mm256_extracti128_si256::<1>(bytes));
            } else {
                _mm256_storeu_si256(out.cast(), bytes);
            }
        }
    }
}
