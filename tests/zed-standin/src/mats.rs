// SPDX-License-Identifier: MPL-2.0

//! Mats, and what is retrieved into them.

use std::ffi::{c_int, c_void};

use crate::{INVALID_CALL, Open, World, call, config, scene, world};

/// MAT_TYPE, counted in the page's order: F32_C1 F32_C2 F32_C3 F32_C4 U8_C1 U8_C2 U8_C3 U8_C4 U16_C1 S8_C4.
const U8_C4: c_int = 7;
const U16_C1: c_int = 8;
/// VIEW: LEFT, RIGHT, LEFT_GRAY, RIGHT_GRAY, LEFT_UNRECTIFIED, RIGHT_UNRECTIFIED.
const VIEWS: [c_int; 4] = [0, 1, 4, 5];
const DEPTH_U16_MM: c_int = 17;
/// Fills what is no pixel.
const FILL: u8 = 0xEE;

pub struct Mat {
    size: (usize, usize),
    kind: c_int,
    stride: usize,
    data: Vec<u8>,
}

fn pixel(kind: c_int) -> usize {
    if kind == U8_C4 { 4 } else { 2 }
}

impl World {
    fn mat(&mut self, call: &str, mat: *const c_void, mem: c_int) -> Option<&mut Mat> {
        self.demand(call, mem == 0, &format!("the memory is {mem}, not 0 (CPU)"));
        let at = self.mats.iter().position(|(known, _)| *known == mat.addr());
        self.demand(call, at.is_some(), "there is no such mat");
        self.mats.get_mut(at?).map(|(_, mat)| mat)
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn sl_mat_create_new(width: c_int, height: c_int, kind: c_int, mem: c_int) -> *mut c_void {
    const NAME: &str = "sl_mat_create_new";
    let mut world = world();
    world.demand(NAME, width > 0 && height > 0, &format!("{width}x{height}"));
    world.demand(NAME, [U8_C4, U16_C1].contains(&kind), &format!("mat type {kind}"));
    world.demand(NAME, mem == 0, &format!("the memory is {mem}, not 0 (CPU)"));
    if world.violated || config().text("mats") == Some("none") {
        return std::ptr::null_mut();
    }
    let (width, height) = (width as usize, height as usize);
    let stride = width * pixel(kind) + config().number("padding").unwrap_or(32usize);
    let data = vec![FILL; stride * height];
    world.made += 1;
    let handle = 16 * world.made;
    world.mats.push((handle, Mat { size: (width, height), kind, stride, data }));
    std::ptr::without_provenance_mut(handle)
}

#[unsafe(no_mangle)]
pub extern "C" fn sl_mat_free(mat: *mut c_void, mem: c_int) {
    let mut world = world();
    if world.mat("sl_mat_free", mat, mem).is_some() {
        world.mats.retain(|(known, _)| *known != mat.addr());
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn sl_mat_get_ptr(mat: *mut c_void, mem: c_int) -> *mut c_int {
    let mut world = world();
    world.mat("sl_mat_get_ptr", mat, mem).map_or(std::ptr::null_mut(), |mat| mat.data.as_mut_ptr().cast())
}

#[unsafe(no_mangle)]
pub extern "C" fn sl_mat_get_step_bytes(mat: *mut c_void, mem: c_int) -> c_int {
    let mut world = world();
    let step = world.mat("sl_mat_get_step_bytes", mat, mem).map_or(-1, |mat| mat.stride as c_int);
    config().number("step").unwrap_or(step)
}

/// What both retrievals want: a mat of the type and of the size that is asked for, not above the recording's, no stream, and a
/// frame that was grabbed.
fn check(
    world: &mut World,
    name: &str,
    id: c_int,
    (mat, mem, stream): (*mut c_void, c_int, *mut c_void),
    size: (c_int, c_int),
    kind: c_int,
) -> Result<(), c_int> {
    world.demand(name, stream.is_null(), "the CUDA stream is not null");
    let whole = world.open(name, id)?.size();
    if let Some(mat) = world.mat(name, mat, mem) {
        let (made, is) = (mat.size, mat.kind);
        world.demand(name, is == kind, &format!("the mat's type is {is}, not {kind}"));
        let same = made == (size.0 as usize, size.1 as usize);
        world.demand(name, same, &format!("{}x{} into a mat of {}x{}", size.0, size.1, made.0, made.1));
        if made.0 > whole.0 || made.1 > whole.1 {
            return Err(7);
        }
    }
    world.verdict()
}

fn draw(world: &mut World, name: &str, id: c_int, mat: *mut c_void, paint: impl Fn(&Open, &mut Mat)) {
    let mut mats = std::mem::take(&mut world.mats);
    let at = mats.iter_mut().find(|(known, _)| *known == mat.addr());
    if let (Some((_, mat)), Ok(open)) = (at, world.open(name, id)) {
        paint(open, mat);
    }
    world.mats = mats;
}

impl Mat {
    fn fill<const N: usize>(&mut self, pixel: impl Fn((usize, usize)) -> [u8; N]) {
        let (width, height) = self.size;
        for y in 0..height {
            let row = &mut self.data[y * self.stride..][..self.stride];
            row.fill(FILL);
            for (x, bytes) in row[..width * N].chunks_exact_mut(N).enumerate() {
                bytes.copy_from_slice(&pixel((x, y)));
            }
        }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn sl_retrieve_image(
    id: c_int,
    mat: *mut c_void,
    view: c_int,
    mem: c_int,
    width: c_int,
    height: c_int,
    stream: *mut c_void,
) -> c_int {
    const NAME: &str = "sl_retrieve_image";
    call(NAME, id, |world| {
        world.demand(NAME, VIEWS.contains(&view), &format!("view {view} is not BGRA of one eye's size"));
        check(world, NAME, id, (mat, mem, stream), (width, height), U8_C4)?;
        let open = world.open(NAME, id)?;
        let grabbed = open.grabbed.ok_or(INVALID_CALL)?;
        if let Some(code) = open.script.at("image_error_at", grabbed.frame) {
            return Err(code);
        }
        draw(world, NAME, id, mat, |open, mat| {
            let (size, whole) = (mat.size, open.size());
            mat.fill(|at| match grabbed.corrupted {
                true => [0, 255, 0, 255],
                false => scene::bgra(view, grabbed.frame, at, size, whole),
            });
        });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn sl_retrieve_measure(
    id: c_int,
    mat: *mut c_void,
    measure: c_int,
    mem: c_int,
    width: c_int,
    height: c_int,
    stream: *mut c_void,
) -> c_int {
    const NAME: &str = "sl_retrieve_measure";
    call(NAME, id, |world| {
        world.demand(NAME, measure == DEPTH_U16_MM, &format!("measure {measure} is not DEPTH_U16_MM"));
        check(world, NAME, id, (mat, mem, stream), (width, height), U16_C1)?;
        let open = world.open(NAME, id)?;
        let grabbed = open.grabbed.ok_or(INVALID_CALL)?;
        if !grabbed.depth {
            return Err(INVALID_CALL);
        }
        if let Some(code) = open.script.at("depth_error_at", grabbed.frame) {
            return Err(code);
        }
        draw(world, NAME, id, mat, |open, mat| {
            let (size, whole) = (mat.size, open.size());
            mat.fill(|at| scene::millimetres(grabbed.frame, at, size, whole).to_ne_bytes());
        });
        Ok(())
    })
}
