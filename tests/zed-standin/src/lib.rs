// SPDX-License-Identifier: MPL-2.0

//! A stand-in for `libsl_zed_c.so`, for machines without the ZED SDK: the functions of `zed-sdk-c-api.md`, which check every
//! argument and every field of every struct that they are handed.
//!
//! **What it can prove**: that our side of the interface follows the page: names, types and order of arguments, the layout of
//! structs (worked out here once more, by offsets), the numbers of enums, the order of calls, one owner per camera, memory
//! that is given back, and what we do with each answer and each error.
//!
//! **What it cannot prove**: that the SDK follows the page; that its pictures, depth and poses are what we take them for; how
//! long it takes, how much memory it needs, and what it does where the page says nothing. Only the SDK and a GPU tell that.
//!
//! A recording is a text file (see `script.rs`; other bytes may stand in front) with what it shows and when it fails; what the
//! library itself is told stands in `standin.txt` beside it. Whatever is not as the page has it is written to
//! `violations.txt` there, and from then on every call fails with error 9999.

// What the functions want is said by the page, and pointers are what is tested.
#![allow(missing_docs, clippy::missing_safety_doc)]

mod cuda;
mod fields;
mod mats;
mod scene;
mod script;

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard};

use fields::{INIT, Layout, RUNTIME, TRACKING, int};
use mats::Mat;
use script::Script;

/// As many as the interface has by default.
const CAMERAS: usize = 4;
/// What every call returns once something was wrong.
const POISON: c_int = 9999;
const END_OF_SVO: c_int = 14;
const NOT_INITIALIZED: c_int = 19;
const INVALID_CALL: c_int = 21;

#[derive(Default)]
struct Camera {
    created: bool,
    open: Option<Open>,
}

/// An open recording.
struct Open {
    script: Script,
    depth_mode: c_int,
    unit: c_int,
    /// The next grab's frame.
    next: c_int,
    grabbed: Option<Grabbed>,
    tracking: bool,
}

#[derive(Clone, Copy)]
struct Grabbed {
    frame: c_int,
    depth: bool,
    corrupted: bool,
}

#[derive(Default)]
struct World {
    cameras: [Camera; CAMERAS],
    /// By the address that each is handed out as, where nothing is: nobody but us has to read a mat.
    mats: Vec<(usize, Mat)>,
    /// So many were made.
    made: usize,
    violated: bool,
}

static WORLD: LazyLock<Mutex<World>> = LazyLock::new(Mutex::default);

/// Who is within a call with this id.
static BUSY: [AtomicBool; CAMERAS] = [const { AtomicBool::new(false) }; CAMERAS];

/// The folder that this very library lies in.
fn folder() -> &'static Path {
    #[repr(C)]
    struct Info {
        file: *const c_char,
        rest: [*const c_void; 3],
    }
    unsafe extern "C" {
        fn dladdr(address: *const c_void, info: *mut Info) -> c_int;
    }
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let mut info = Info { file: c"".as_ptr(), rest: [std::ptr::null(); 3] };
        // SAFETY: the loader fills in the name of the file that has the static, which stays as long as the file is loaded.
        let file = unsafe {
            dladdr((&raw const WORLD).cast(), &raw mut info);
            CStr::from_ptr(info.file)
        };
        Path::new(file.to_str().unwrap()).parent().unwrap().to_owned()
    });
    &FOLDER
}

/// What the library is told to be.
fn config() -> &'static Script {
    static CONFIG: LazyLock<Script> = LazyLock::new(|| {
        Script::parse(&std::fs::read_to_string(folder().join("standin.txt")).unwrap_or_default())
    });
    &CONFIG
}

fn world() -> MutexGuard<'static, World> {
    WORLD.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl World {
    /// Something is not as the page has it.
    fn violate(&mut self, call: &str, what: &str) {
        self.violated = true;
        eprintln!("zed-standin: {call}: {what}");
        let file = std::fs::File::options().append(true).create(true).open(folder().join("violations.txt"));
        let _ = file.and_then(|mut file| writeln!(file, "{call}: {what}"));
    }

    fn demand(&mut self, call: &str, holds: bool, what: &str) {
        if !holds {
            self.violate(call, what);
        }
    }

    /// The error that a call ends with, if something was wrong up to now.
    fn verdict(&self) -> Result<(), c_int> {
        if self.violated { Err(POISON) } else { Ok(()) }
    }

    /// An open camera.
    fn open(&mut self, call: &str, id: c_int) -> Result<&mut Open, c_int> {
        self.demand(
            call,
            self.camera(id).is_some_and(|camera| camera.open.is_some()),
            &format!("id {id} is not open"),
        );
        self.verdict()?;
        self.cameras[id as usize].open.as_mut().ok_or(NOT_INITIALIZED)
    }

    fn camera(&self, id: c_int) -> Option<&Camera> {
        self.cameras.get(usize::try_from(id).ok()?)
    }
}

/// A camera is of one thread at a time.
struct Within(usize);

impl Within {
    fn new(call: &str, id: c_int) -> Option<Self> {
        let known = usize::try_from(id).ok().filter(|id| *id < CAMERAS);
        let Some(id) = known else {
            world().violate(call, &format!("id {id} is not 0 to {}", CAMERAS - 1));
            return None;
        };
        if BUSY[id].swap(true, Ordering::AcqRel) {
            world().violate(call, &format!("two calls at once with id {id}"));
            return None;
        }
        Some(Self(id))
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        BUSY[self.0].store(false, Ordering::Release);
    }
}

/// A call with a camera that ends with an error's number.
fn call(name: &str, id: c_int, body: impl FnOnce(&mut World) -> Result<(), c_int>) -> c_int {
    let Some(_within) = Within::new(name, id) else { return POISON };
    let mut world = world();
    if let Err(code) = world.verdict() {
        return code;
    }
    let ended = body(&mut world);
    match world.verdict().and(ended) {
        Ok(()) => 0,
        Err(code) => code,
    }
}

/// A question about an open camera.
fn ask<T>(name: &str, id: c_int, otherwise: T, body: impl FnOnce(&Open) -> T) -> T {
    let Some(_within) = Within::new(name, id) else { return otherwise };
    world().open(name, id).map_or(otherwise, |open| body(open))
}

/// The bytes of a struct.
fn bytes<T>(world: &mut World, call: &str, layout: &Layout, at: *const T) -> Vec<u8> {
    world.demand(call, !at.is_null(), "a struct is at address 0");
    world.demand(call, at.addr().is_multiple_of(4), "a struct is not at a multiple of 4");
    if world.violated {
        return vec![0; layout.size];
    }
    // SAFETY: the caller says that such a struct is there.
    unsafe { std::slice::from_raw_parts(at.cast::<u8>(), layout.size) }.to_owned()
}

fn checked<T>(world: &mut World, call: &str, layout: &Layout, at: *const T, script: &Script) -> Vec<u8> {
    let bytes = bytes(world, call, layout, at);
    for wrong in layout.check(&bytes, script) {
        world.violate(call, &wrong);
    }
    bytes
}

/// A string.
fn text(world: &mut World, call: &str, what: &str, at: *const c_char) -> String {
    world.demand(call, !at.is_null(), &format!("{what} is at address 0"));
    if at.is_null() {
        return String::new();
    }
    // SAFETY: the caller says that a string is there.
    unsafe { CStr::from_ptr(at) }.to_string_lossy().into_owned()
}

fn empty(world: &mut World, call: &str, what: &str, at: *const c_char) {
    let text = text(world, call, what, at);
    world.demand(call, text.is_empty(), &format!("{what} is '{text}', not empty"));
}

impl Open {
    fn size(&self) -> (usize, usize) {
        let (width, height) = self.script.text("size").unwrap_or("320x180").split_once('x').unwrap();
        (width.parse().unwrap(), height.parse().unwrap())
    }

    fn frames(&self) -> c_int {
        self.script.number("frames").unwrap_or(30)
    }

    fn fps(&self) -> f32 {
        self.script.number("fps").unwrap_or(15.0)
    }

    fn timestamp(&self, frame: c_int) -> u64 {
        let first = self.script.number("first_ns").unwrap_or(1_700_000_000_000_000_000u64);
        first + (frame as f64 * 1e9 / f64::from(self.fps())).round() as u64
    }

    fn metres(&self) -> f32 {
        [0.001, 0.01, 1.0, 0.0254, 0.3048][self.unit as usize]
    }

    fn grab(&mut self, depth: bool) -> Result<(), c_int> {
        let frame = self.next;
        let end = self.script.number("end_at").unwrap_or(self.frames());
        if frame >= end.min(self.frames()) {
            return Err(END_OF_SVO);
        }
        if let Some(code) = self.script.at("error_at", frame) {
            return Err(code);
        }
        self.next += 1;
        let corrupted = self.script.has("corrupted", frame);
        self.grabbed = Some(Grabbed { frame, depth: depth && self.depth_mode != 0, corrupted });
        if corrupted {
            return Err(-2);
        }
        self.script.at("warn_at", frame).map_or(Ok(()), Err)
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn sl_get_sdk_version() -> *mut c_char {
    let version = config().text("version").unwrap_or("5.0.1");
    if version == "null" {
        return std::ptr::null_mut();
    }
    std::ffi::CString::new(version).unwrap().into_raw()
}

/// True for an id that is new, as the SDK's; a closed one stays created.
#[unsafe(no_mangle)]
pub extern "C" fn sl_create_camera(id: c_int) -> bool {
    let Some(within) = Within::new("sl_create_camera", id) else { return false };
    let foreign = config().has("foreign", id);
    let camera = &mut world().cameras[within.0];
    !foreign && !std::mem::replace(&mut camera.created, true)
}

#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)]
pub extern "C" fn sl_open_camera(
    id: c_int,
    init: *mut c_void,
    serial: c_uint,
    path: *const c_char,
    ip: *const c_char,
    port: c_int,
    output: *const c_char,
    settings: *const c_char,
    calibration: *const c_char,
) -> c_int {
    const NAME: &str = "sl_open_camera";
    call(NAME, id, |world| {
        let camera = &world.cameras[id as usize];
        let (created, open) = (camera.created, camera.open.is_some());
        world.demand(NAME, created, &format!("id {id} was not created"));
        world.demand(NAME, !open, &format!("id {id} is open already"));
        world.demand(NAME, serial == 0, &format!("the serial number is {serial}, not 0"));
        world.demand(NAME, port == 0, &format!("the port is {port}, not 0"));
        for (what, at) in [
            ("ip", ip),
            ("output file", output),
            ("settings path", settings),
            ("calibration path", calibration),
        ] {
            empty(world, NAME, what, at);
        }
        let path = text(world, NAME, "svo path", path);
        let Some(script) = Script::of_recording(Path::new(&path)) else { return Err(11) };
        let init = checked(world, NAME, &INIT, init, &script);
        world.verdict()?;
        let code = config().number("open").or(script.number("open")).unwrap_or(0);
        let depth_mode = int(&init, 24);
        if script.number("heaviest_depth_mode").is_some_and(|heaviest: c_int| depth_mode > heaviest) {
            return Err(3);
        }
        if code > 0 {
            return Err(code);
        }
        let unit = int(&init, 40);
        world.cameras[id as usize].open =
            Some(Open { script, depth_mode, unit, next: 0, grabbed: None, tracking: false });
        if code == 0 { Ok(()) } else { Err(code) }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn sl_is_opened(id: c_int) -> bool {
    let Some(within) = Within::new("sl_is_opened", id) else { return false };
    let world = world();
    !world.violated && world.cameras[within.0].open.is_some()
}

#[unsafe(no_mangle)]
pub extern "C" fn sl_close_camera(id: c_int) {
    call("sl_close_camera", id, |world| {
        let camera = &mut world.cameras[id as usize];
        let (created, tracking) = (camera.created, camera.open.as_ref().is_some_and(|open| open.tracking));
        camera.open = None;
        world.demand("sl_close_camera", created, &format!("id {id} was not created"));
        world.demand("sl_close_camera", !tracking, &format!("id {id} is tracked still"));
        Ok(())
    });
}

#[unsafe(no_mangle)]
pub extern "C" fn sl_grab(id: c_int, runtime: *mut c_void) -> c_int {
    call("sl_grab", id, |world| {
        let script = world.open("sl_grab", id)?.script.clone();
        let runtime = checked(world, "sl_grab", &RUNTIME, runtime, &script);
        world.open("sl_grab", id)?.grab(runtime[4] == 1)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn sl_get_width(id: c_int) -> c_int {
    ask("sl_get_width", id, -1, |open| open.script.number("width").unwrap_or(open.size().0 as c_int))
}

#[unsafe(no_mangle)]
pub extern "C" fn sl_get_height(id: c_int) -> c_int {
    ask("sl_get_height", id, -1, |open| open.size().1 as c_int)
}

#[unsafe(no_mangle)]
pub extern "C" fn sl_get_zed_serial(id: c_int) -> c_int {
    ask("sl_get_zed_serial", id, -1, |open| open.script.number("serial").unwrap_or(40_735_594))
}

#[unsafe(no_mangle)]
pub extern "C" fn sl_get_camera_model(id: c_int) -> c_int {
    ask("sl_get_camera_model", id, -1, |open| open.script.number("model").unwrap_or(4))
}

#[unsafe(no_mangle)]
pub extern "C" fn sl_get_camera_fps(id: c_int) -> f32 {
    ask("sl_get_camera_fps", id, -1.0, Open::fps)
}

#[unsafe(no_mangle)]
pub extern "C" fn sl_get_svo_number_of_frames(id: c_int) -> c_int {
    ask("sl_get_svo_number_of_frames", id, -1, Open::frames)
}

#[unsafe(no_mangle)]
pub extern "C" fn sl_get_svo_position(id: c_int) -> c_int {
    ask("sl_get_svo_position", id, -1, |open| open.grabbed.map_or(open.next, |grabbed| grabbed.frame))
}

#[unsafe(no_mangle)]
pub extern "C" fn sl_set_svo_position(id: c_int, frame: c_int) {
    const NAME: &str = "sl_set_svo_position";
    call(NAME, id, |world| {
        let frames = world.open(NAME, id)?.frames();
        world.demand(NAME, (0..frames).contains(&frame), &format!("frame {frame} of {frames}"));
        let open = world.open(NAME, id)?;
        (open.next, open.grabbed) = (frame, None);
        Ok(())
    });
}

/// The frame that was being shown at the time; -1 outside of the recording.
#[unsafe(no_mangle)]
pub extern "C" fn sl_get_svo_position_at_timestamp(id: c_int, ns: u64) -> c_int {
    ask("sl_get_svo_position_at_timestamp", id, -1, |open| {
        let inside = (open.timestamp(0)..=open.timestamp(open.frames() - 1)).contains(&ns);
        let frame = (0..open.frames()).rev().find(|frame| open.timestamp(*frame) <= ns);
        frame.filter(|_| inside).unwrap_or(-1)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn sl_get_image_timestamp(id: c_int) -> u64 {
    ask("sl_get_image_timestamp", id, 0, |open| {
        open.grabbed.map_or(0, |grabbed| open.timestamp(grabbed.frame))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn sl_enable_positional_tracking(
    id: c_int,
    parameters: *mut c_void,
    area: *const c_char,
) -> c_int {
    const NAME: &str = "sl_enable_positional_tracking";
    call(NAME, id, |world| {
        empty(world, NAME, "area file", area);
        let script = world.open(NAME, id)?.script.clone();
        checked(world, NAME, &TRACKING, parameters, &script);
        if let Some(code) = script.number("tracking_error") {
            return Err(code);
        }
        world.open(NAME, id)?.tracking = true;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn sl_disable_positional_tracking(id: c_int, area: *const c_char) {
    const NAME: &str = "sl_disable_positional_tracking";
    call(NAME, id, |world| {
        empty(world, NAME, "area file", area);
        let tracking = std::mem::take(&mut world.open(NAME, id)?.tracking);
        world.demand(NAME, tracking, "tracking was not enabled");
        Ok(())
    });
}

/// 0 searching, 1 ok, 2 off.
#[unsafe(no_mangle)]
pub extern "C" fn sl_get_position_data(id: c_int, pose: *mut c_void, reference_frame: c_int) -> c_int {
    const NAME: &str = "sl_get_position_data";
    let mut state = -1;
    call(NAME, id, |world| {
        world.demand(NAME, !pose.is_null(), "the pose is at address 0");
        world.demand(NAME, pose.addr().is_multiple_of(8), "the pose is not at a multiple of 8");
        let expected = world.open(NAME, id)?.script.number("pose_reference_frame").unwrap_or(0);
        let what = format!("the reference frame is {reference_frame}, not {expected}");
        world.demand(NAME, reference_frame == expected, &what);
        let open = world.open(NAME, id)?;
        let Some(grabbed) = open.grabbed.filter(|_| open.tracking) else {
            state = 2;
            return Ok(());
        };
        let lost = open.script.has("lost", grabbed.frame);
        // Some answers say 'searching' of a pose that calls itself valid, and others the reverse.
        let valid = !lost || open.script.text("lost_is") == Some("state");
        state = if lost && open.script.text("lost_is") != Some("flag") { 0 } else { 1 };
        state = open.script.number("tracking_state").unwrap_or(state);
        let written = scene::pose(grabbed.frame, open.timestamp(grabbed.frame), valid);
        // SAFETY: the caller says that a PoseData is there.
        unsafe { pose.cast::<u8>().copy_from_nonoverlapping(written.as_ptr(), written.len()) };
        Ok(())
    });
    state
}

#[unsafe(no_mangle)]
pub extern "C" fn sl_get_calibration_parameters(id: c_int, raw: u8) -> *const c_void {
    const NAME: &str = "sl_get_calibration_parameters";
    let mut found = std::ptr::null();
    call(NAME, id, |world| {
        world.demand(NAME, raw <= 1, &format!("raw is {raw}"));
        let open = world.open(NAME, id)?;
        if open.script.text("calibration") == Some("null") {
            return Ok(());
        }
        let bytes = scene::calibration(open.size(), raw == 1, open.metres());
        // Doubles want a multiple of eight.
        let words: Vec<u64> =
            bytes.chunks(8).map(|chunk| u64::from_ne_bytes(chunk.try_into().unwrap())).collect();
        found = words.leak().as_ptr().cast();
        Ok(())
    });
    found
}

/// How many cameras are open, and mats made and not freed: `cameras 0, mats 0`; for tests.
#[unsafe(no_mangle)]
pub extern "C" fn standin_leaks() -> *const c_char {
    let world = world();
    let mut text = String::new();
    let open = world.cameras.iter().filter(|camera| camera.open.is_some()).count();
    let _ = write!(text, "cameras {open}, mats {}", world.mats.len());
    std::ffi::CString::new(text).unwrap().into_raw()
}
