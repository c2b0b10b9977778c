// SPDX-License-Identifier: MPL-2.0

//! The functions of CUDA's driver interface that say whether there is a GPU to compute on.

use std::ffi::{c_char, c_int, c_uint};
use std::path::Path;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use super::reason;

/// What the driver says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cuda {
    /// The newest CUDA that the driver knows, such as `12.4`.
    pub version: String,
    /// Names of the GPUs that CUDA can use.
    pub gpus: Vec<String>,
}

/// Why CUDA is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CudaError {
    /// No library.
    #[error("{0}")]
    Unloadable(String),
    /// A library that lacks functions.
    #[error("it has no {0}")]
    Symbol(&'static str),
    /// The driver refuses.
    #[error("{function}: error {code}{}", meaning(*.code))]
    Refused {
        /// Which function.
        function: &'static str,
        /// `CUresult`.
        code: i32,
    },
}

/// Of the numbers that one meets on machines without a working GPU.
fn meaning(code: i32) -> &'static str {
    match code {
        3 => ", not initialised",
        34 => ", a stub of CUDA's, which is for linking alone",
        100 => ", no GPU",
        101 => ", no such GPU",
        803 => ", the driver's library is of another version than its kernel module",
        804 => ", the GPU is not one for which newer libraries are allowed on an older driver",
        999 => ", unknown; the driver may need a restart",
        _ => "",
    }
}

impl Cuda {
    /// Loads the driver's library and asks it.
    pub fn load(file: &Path) -> Result<Self, CudaError> {
        // SAFETY: CUDA's driver library has no initialisers that need anything.
        let library = unsafe { Library::open(Some(file), RTLD_NOW | RTLD_LOCAL) }
            .map_err(|error| CudaError::Unloadable(reason(&error)))?;
        let found = Self::ask(&library);
        // The driver may have begun threads.
        std::mem::forget(library);
        found
    }

    fn ask(library: &Library) -> Result<Self, CudaError> {
        macro_rules! symbol {
            ($name:literal, fn($($arg:ty),*)) => {
                // SAFETY: CUDA's documentation has the type.
                unsafe { library.get::<unsafe extern "C" fn($($arg),*) -> c_int>($name) }
                    .map(|symbol| *symbol)
                    .map_err(|_| CudaError::Symbol($name))
            };
        }
        let driver_version = symbol!("cuDriverGetVersion", fn(*mut c_int))?;
        let init = symbol!("cuInit", fn(c_uint))?;
        let device_count = symbol!("cuDeviceGetCount", fn(*mut c_int))?;
        let device = symbol!("cuDeviceGet", fn(*mut c_int, c_int))?;
        let device_name = symbol!("cuDeviceGetName", fn(*mut c_char, c_int, c_int))?;
        let check = |function, code| match code {
            0 => Ok(()),
            code => Err(CudaError::Refused { function, code }),
        };
        let (mut version, mut count) = (0, 0);
        // SAFETY: each writes a number where it is told to.
        unsafe {
            check("cuDriverGetVersion", driver_version(&raw mut version))?;
            check("cuInit", init(0))?;
            check("cuDeviceGetCount", device_count(&raw mut count))?;
        }
        let mut gpus = Vec::new();
        for gpu in 0..count {
            let (mut handle, mut name) = (0, [0u8; 256]);
            // SAFETY: one writes a number, the other at most as many bytes as it is told of, the last of them NUL.
            unsafe {
                check("cuDeviceGet", device(&raw mut handle, gpu))?;
                check("cuDeviceGetName", device_name(name.as_mut_ptr().cast(), name.len() as c_int, handle))?;
            }
            let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
            gpus.push(String::from_utf8_lossy(&name[..end]).into_owned());
        }
        Ok(Self { version: format!("{}.{}", version / 1000, version % 1000 / 10), gpus })
    }
}
