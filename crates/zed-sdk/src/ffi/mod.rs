// SPDX-License-Identifier: MPL-2.0

//! The one module with `unsafe`: the functions of `libsl_zed_c.so`, and of `libcuda.so.1`, by the names and types of
//! `zed-sdk-c-api.md`, behind functions that are safe to call.
//!
//! What all SAFETY comments here rest upon, and only the library can keep: it is SDK 5, which was asked before anything
//! else, and its functions have the page's types.

#![allow(unsafe_code)]

mod cuda;
pub mod layout;
mod mat;

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::ptr::null_mut;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

pub use cuda::{Cuda, CudaError};
use layout::{
    CalibrationParameters, InitParameters, PoseData, PositionalTrackingParameters, RuntimeParameters, Spared,
};
pub use mat::{Mat, Memory};

use crate::load::Refusal;

/// The functions, by their names in the library.
macro_rules! functions {
    ($($name:ident: fn($($arg:ty),*) $(-> $result:ty)?;)*) => {
        struct Functions {
            $($name: unsafe extern "C" fn($($arg),*) $(-> $result)?,)*
        }

        impl Functions {
            /// All of them, or the names of those that are missing.
            fn resolve(library: &Library) -> Result<Self, Vec<&'static str>> {
                let mut missing = Vec::new();
                // SAFETY: the types are the page's, and the library is of the version that the page is about.
                $(let $name = unsafe {
                    library.get::<unsafe extern "C" fn($($arg),*) $(-> $result)?>(stringify!($name))
                }
                .map(|symbol| *symbol)
                .map_err(|_| missing.push(stringify!($name)));)*
                match ($($name,)*) {
                    ($(Ok($name),)*) => Ok(Self { $($name,)* }),
                    _ => Err(missing),
                }
            }
        }
    };
}

functions! {
    sl_create_camera: fn(c_int) -> u8;
    // The page has nine arguments. The header of later 5.x has another, a port, in front of the last three; a string of no
    // characters more at the end serves both: callers clear the stack, and a recording has no port.
    sl_open_camera: fn(c_int, *mut InitParameters, c_uint, *const c_char, *const c_char, c_int, *const c_char, *const c_char, *const c_char, *const c_char) -> c_int;
    sl_is_opened: fn(c_int) -> u8;
    sl_close_camera: fn(c_int);
    sl_grab: fn(c_int, *mut RuntimeParameters) -> c_int;
    sl_get_width: fn(c_int) -> c_int;
    sl_get_height: fn(c_int) -> c_int;
    sl_get_zed_serial: fn(c_int) -> c_int;
    sl_get_camera_model: fn(c_int) -> c_int;
    sl_get_camera_fps: fn(c_int) -> f32;
    sl_get_svo_number_of_frames: fn(c_int) -> c_int;
    sl_get_svo_position: fn(c_int) -> c_int;
    sl_set_svo_position: fn(c_int, c_int);
    sl_get_svo_position_at_timestamp: fn(c_int, u64) -> c_int;
    sl_get_image_timestamp: fn(c_int) -> u64;
    sl_mat_create_new: fn(c_int, c_int, c_int, c_int) -> *mut c_void;
    sl_mat_free: fn(*mut c_void, c_int);
    sl_mat_get_ptr: fn(*mut c_void, c_int) -> *mut c_int;
    sl_mat_get_step_bytes: fn(*mut c_void, c_int) -> c_int;
    sl_retrieve_image: fn(c_int, *mut c_void, c_int, c_int, c_int, c_int, *mut c_void) -> c_int;
    sl_retrieve_measure: fn(c_int, *mut c_void, c_int, c_int, c_int, c_int, *mut c_void) -> c_int;
    sl_enable_positional_tracking: fn(c_int, *mut PositionalTrackingParameters, *const c_char) -> c_int;
    sl_disable_positional_tracking: fn(c_int, *const c_char);
    sl_get_position_data: fn(c_int, *mut PoseData, c_int) -> c_int;
    sl_get_calibration_parameters: fn(c_int, bool) -> *mut CalibrationParameters;
}

/// A library of the right version with all its functions. It is never unloaded: CUDA and the SDK have threads of their own.
pub struct Api {
    functions: Functions,
    version: String,
    /// Where its first function lies: one library that is found by two ways is one.
    pub address: usize,
}

/// Calls that take the camera's id and nothing else.
macro_rules! of_camera {
    ($($(#[$doc:meta])* $name:ident: $function:ident -> $result:ty;)*) => {
        $($(#[$doc])*
        pub fn $name(&self, id: c_int) -> $result {
            // SAFETY: a number goes in and a number comes out; the module's head says what that rests upon.
            unsafe { (self.functions.$function)(id) }
        })*
    };
}

impl Api {
    /// Loads a file, or what the loader finds by a bare name.
    pub fn load(file: &Path) -> Result<Self, Refusal> {
        // SAFETY: the initialisers of a library that calls itself the SDK's run, as in each program that is linked with it.
        let library = match unsafe { Library::open(Some(file), RTLD_NOW | RTLD_LOCAL) } {
            Ok(library) => library,
            Err(error) => return Err(Refusal::Unloadable(reason(&error))),
        };
        let loaded = Self::of(&library);
        // Not unloaded even where it is refused: functions of it ran.
        std::mem::forget(library);
        loaded
    }

    fn of(library: &Library) -> Result<Self, Refusal> {
        // SAFETY: this function has had the same type in all versions.
        let sdk_version =
            unsafe { library.get::<unsafe extern "C" fn() -> *mut c_char>("sl_get_sdk_version") };
        let Ok(sdk_version) = sdk_version.map(|symbol| *symbol) else {
            return Err(Refusal::Symbols(vec!["sl_get_sdk_version"]));
        };
        // SAFETY: it has no arguments.
        let text = unsafe { sdk_version() };
        if text.is_null() {
            return Err(Refusal::Version(String::new()));
        }
        // SAFETY: the library gives a string that ends with NUL, of its own or for us to keep; it is asked once.
        let version = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
        if !is_supported(&version) {
            return Err(Refusal::Version(version));
        }
        let functions = Functions::resolve(library).map_err(Refusal::Symbols)?;
        Ok(Self { functions, version, address: sdk_version as usize })
    }

    /// As the library says it.
    pub fn version(&self) -> &str {
        &self.version
    }

    of_camera! {
        width: sl_get_width -> i32;
        height: sl_get_height -> i32;
        serial: sl_get_zed_serial -> i32;
        model: sl_get_camera_model -> i32;
        fps: sl_get_camera_fps -> f32;
        frames: sl_get_svo_number_of_frames -> i32;
        position: sl_get_svo_position -> i32;
        image_timestamp: sl_get_image_timestamp -> u64;
        close: sl_close_camera -> ();
    }

    /// Whether the id was new.
    pub fn create(&self, id: c_int) -> bool {
        // SAFETY: as of the calls above.
        unsafe { (self.functions.sl_create_camera)(id) != 0 }
    }

    pub fn is_opened(&self, id: c_int) -> bool {
        // SAFETY: as of the calls above.
        unsafe { (self.functions.sl_is_opened)(id) != 0 }
    }

    /// Opens a recording.
    pub fn open(&self, id: c_int, init: InitParameters, recording: &CStr) -> c_int {
        let mut init = Spared::new(init);
        let none = c"".as_ptr();
        // SAFETY: the struct and the strings live until it returns; it copies them. Strings that mean nothing are empty, not
        // null, as the SDK's samples have them.
        unsafe {
            (self.functions.sl_open_camera)(
                id,
                &raw mut init.value,
                0,
                recording.as_ptr(),
                none,
                0,
                none,
                none,
                none,
                none,
            )
        }
    }

    pub fn grab(&self, id: c_int, runtime: RuntimeParameters) -> c_int {
        let mut runtime = Spared::new(runtime);
        // SAFETY: the struct lives until it returns.
        unsafe { (self.functions.sl_grab)(id, &raw mut runtime.value) }
    }

    pub fn seek(&self, id: c_int, frame: c_int) {
        // SAFETY: numbers.
        unsafe { (self.functions.sl_set_svo_position)(id, frame) }
    }

    pub fn position_at(&self, id: c_int, unix_ns: u64) -> c_int {
        // SAFETY: numbers.
        unsafe { (self.functions.sl_get_svo_position_at_timestamp)(id, unix_ns) }
    }

    pub fn retrieve_image(&self, id: c_int, into: &mut Mat, view: c_int) -> c_int {
        let (width, height) = into.size();
        // SAFETY: the mat is the library's own, lives, and is lent to nobody else; there is no CUDA stream.
        unsafe {
            let mat = into.pointer();
            (self.functions.sl_retrieve_image)(id, mat, view, layout::MEM_CPU, width, height, null_mut())
        }
    }

    pub fn retrieve_measure(&self, id: c_int, into: &mut Mat, measure: c_int) -> c_int {
        let (width, height) = into.size();
        // SAFETY: as of an image.
        unsafe {
            let mat = into.pointer();
            (self.functions.sl_retrieve_measure)(id, mat, measure, layout::MEM_CPU, width, height, null_mut())
        }
    }

    pub fn enable_tracking(&self, id: c_int, parameters: PositionalTrackingParameters) -> c_int {
        let mut parameters = Spared::new(parameters);
        // SAFETY: the struct and the string, which names no area file, live until it returns.
        unsafe { (self.functions.sl_enable_positional_tracking)(id, &raw mut parameters.value, c"".as_ptr()) }
    }

    pub fn disable_tracking(&self, id: c_int) {
        // SAFETY: the string, by which no area is saved, lives until it returns.
        unsafe { (self.functions.sl_disable_positional_tracking)(id, c"".as_ptr()) }
    }

    /// The tracking state, and what it wrote.
    pub fn pose(&self, id: c_int, reference_frame: c_int) -> (c_int, PoseData) {
        let mut pose = Spared::new(PoseData::ZERO);
        // SAFETY: it writes into the struct, all of whose bits are values of its fields.
        let state =
            unsafe { (self.functions.sl_get_position_data)(id, &raw mut pose.value, reference_frame) };
        (state, pose.value)
    }

    pub fn calibration(&self, id: c_int, raw: bool) -> Option<CalibrationParameters> {
        // SAFETY: a number and a bool go in.
        let calibration = unsafe { (self.functions.sl_get_calibration_parameters)(id, raw) };
        // SAFETY: the pointer is null or at such a struct. Whose that is, is not said anywhere: it is not freed.
        (!calibration.is_null()).then(|| unsafe { calibration.read_unaligned() })
    }
}

/// Whether the structs of this version are those that we know.
pub fn is_supported(version: &str) -> bool {
    version.split('.').next() == Some("5")
}

/// What the loader says, without libloading's words around it.
fn reason(error: &libloading::Error) -> String {
    match error {
        libloading::Error::DlOpen { source } => source.to_string(),
        other => other.to_string(),
    }
}
