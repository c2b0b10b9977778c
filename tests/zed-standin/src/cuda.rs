// SPDX-License-Identifier: MPL-2.0

//! The driver's functions that `doctor` asks: a copy of this library stands in for `libcuda.so.1`, too.

use std::ffi::{c_char, c_int, c_uint};

use crate::config;

fn gpus() -> Vec<&'static str> {
    let list = config().text("cuda.gpus").unwrap_or("Stand-in GPU");
    list.split(',').filter(|name| !name.is_empty()).collect()
}

/// Writes a number where the caller says that there is one.
fn put(at: *mut c_int, value: c_int) -> c_int {
    if at.is_null() {
        return 1;
    }
    // SAFETY: the caller says so.
    unsafe { at.write(value) };
    0
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDriverGetVersion(version: *mut c_int) -> c_int {
    put(version, config().number("cuda.version").unwrap_or(12_040))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuInit(flags: c_uint) -> c_int {
    if flags == 0 { config().number("cuda.init").unwrap_or(0) } else { 1 }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetCount(count: *mut c_int) -> c_int {
    put(count, gpus().len() as c_int)
}

/// Handles are not the numbers that they are asked by.
#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGet(handle: *mut c_int, number: c_int) -> c_int {
    if (number as usize) < gpus().len() { put(handle, number + 70) } else { 101 }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetName(name: *mut c_char, len: c_int, handle: c_int) -> c_int {
    let gpus = gpus();
    let Some(gpu) = usize::try_from(handle - 70).ok().and_then(|number| gpus.get(number)) else { return 101 };
    if name.is_null() || len <= gpu.len() as c_int {
        return 1;
    }
    // SAFETY: the caller says that there are so many bytes.
    unsafe {
        name.cast::<u8>().copy_from_nonoverlapping(gpu.as_ptr(), gpu.len());
        name.add(gpu.len()).write(0);
    }
    0
}
