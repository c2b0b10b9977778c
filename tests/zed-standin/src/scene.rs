// SPDX-License-Identifier: MPL-2.0

//! What recordings show: pictures, depth, poses and calibration as functions of the frame. `rig.rs` has the same for tests.

/// Where a pixel of a scaled picture is in a whole one.
fn source((x, y): (usize, usize), size: (usize, usize), whole: (usize, usize)) -> (usize, usize) {
    (x * whole.0 / size.0, y * whole.1 / size.1)
}

pub fn bgra(
    view: i32,
    frame: i32,
    at: (usize, usize),
    size: (usize, usize),
    whole: (usize, usize),
) -> [u8; 4] {
    let (x, y) = source(at, size, whole);
    let (view, frame) = (view as usize, frame as usize);
    [(x + frame) as u8, (y * 3 + view * 40) as u8, (frame * 7 + x / 8) as u8, 255]
}

pub fn millimetres(frame: i32, at: (usize, usize), size: (usize, usize), whole: (usize, usize)) -> u16 {
    let (x, y) = source(at, size, whole);
    let frame = frame as usize;
    if (x / 8 + y / 8 + frame).is_multiple_of(5) { 0 } else { (500 + frame * 3 + x * 2 + y) as u16 }
}

/// The 360 bytes of PoseData, field by field from the page's order.
pub fn pose(frame: i32, timestamp: u64, valid: bool) -> [u8; 360] {
    let mut out = [0; 360];
    let f = frame as f32;
    let mut put = |at: usize, value: f32| out[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    let half = f * 0.01;
    for (i, value) in [0.0, 0.0, half.sin(), half.cos()].into_iter().enumerate() {
        put(16 + 4 * i, value);
    }
    for (i, value) in [f * 0.1, f * 0.01, f * -0.2].into_iter().enumerate() {
        put(32 + 4 * i, value);
    }
    for i in 0..36 {
        put(48 + 4 * i, f + i as f32 * 0.001);
        put(216 + 4 * i, f - i as f32 * 0.001);
    }
    for i in 0..6 {
        put(192 + 4 * i, f * 10.0 + i as f32);
    }
    out[0] = valid.into();
    out[8..16].copy_from_slice(&timestamp.to_ne_bytes());
    out[44..48].copy_from_slice(&(100 - frame % 50).to_ne_bytes());
    out
}

/// The 304 bytes of CalibrationParameters; `metres`: how long the recording's unit is.
pub fn calibration(whole: (usize, usize), raw: bool, metres: f32) -> [u8; 304] {
    let mut out = [0; 304];
    let (w, h) = (whole.0 as f32, whole.1 as f32);
    for (eye, more) in [(0, 0.0), (136, 0.125)] {
        let more = more + if raw { 2.0 } else { 0.0 };
        let mut put = |at: usize, bytes: &[u8]| out[eye + at..eye + at + bytes.len()].copy_from_slice(bytes);
        let floats = [w * 0.5 + 0.25, w * 0.5 + 0.75, w * 0.5 + 1.5, h * 0.5 - 1.25];
        for (i, value) in floats.into_iter().enumerate() {
            put(4 * i, &(value + more).to_ne_bytes());
        }
        if raw {
            for i in 0..12 {
                put(16 + 8 * i, &((i + 1) as f64 * 0.001 + f64::from(more)).to_ne_bytes());
            }
        }
        for (i, value) in [59.5f32, 89.25, 97.125].into_iter().enumerate() {
            put(112 + 4 * i, &(value + more).to_ne_bytes());
        }
        put(124, &(whole.0 as i32).to_ne_bytes());
        put(128, &(whole.1 as i32).to_ne_bytes());
        put(132, &(2.1f32 + more).to_ne_bytes());
    }
    let rotation = if raw { [0.01f32, 0.02, 0.03, 0.9993] } else { [0.0, 0.0, 0.0, 1.0] };
    let translation = if raw { [0.12f32, 0.001, 0.002] } else { [0.12, 0.0, 0.0] };
    for (i, value) in rotation.into_iter().chain(translation.map(|part| part / metres)).enumerate() {
        out[272 + 4 * i..276 + 4 * i].copy_from_slice(&value.to_ne_bytes());
    }
    out
}
