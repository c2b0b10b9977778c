// SPDX-License-Identifier: MPL-2.0

//! Pictures in the library's memory.

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

use super::{Api, layout::MEM_CPU};

/// A mat on the CPU's side; freed when dropped.
pub struct Mat {
    api: &'static Api,
    mat: NonNull<c_void>,
    width: c_int,
    height: c_int,
}

// SAFETY: a mat of CPU memory belongs to no thread; the library says so by letting any thread retrieve into it. It is not
// Sync: two at once would be a race within the library.
unsafe impl Send for Mat {}

/// What the library says of the memory of a mat.
pub enum Memory<'a> {
    /// Rows with their stride, in bytes; the last row ends with its last pixel.
    Rows(&'a [u8], usize),
    /// No rows of this size: pointer and stride.
    Wrong(usize, c_int),
}

impl Mat {
    /// `None`: the library made none.
    pub fn new(api: &'static Api, width: c_int, height: c_int, kind: c_int) -> Option<Self> {
        // SAFETY: numbers go in.
        let mat = unsafe { (api.functions.sl_mat_create_new)(width, height, kind, MEM_CPU) };
        NonNull::new(mat).map(|mat| Self { api, mat, width, height })
    }

    /// In pixels, as asked for.
    pub fn size(&self) -> (c_int, c_int) {
        (self.width, self.height)
    }

    pub(super) fn pointer(&mut self) -> *mut c_void {
        self.mat.as_ptr()
    }

    /// Its memory after something was retrieved into it, with so many bytes per pixel.
    pub fn memory(&self, pixel: usize) -> Memory<'_> {
        let mat = self.mat.as_ptr();
        // SAFETY: the mat lives.
        let (data, step) = unsafe {
            let functions = &self.api.functions;
            ((functions.sl_mat_get_ptr)(mat, MEM_CPU), (functions.sl_mat_get_step_bytes)(mat, MEM_CPU))
        };
        let row = self.width as usize * pixel;
        match usize::try_from(step) {
            Ok(stride) if !data.is_null() && stride >= row => {
                let len = stride * (self.height as usize - 1) + row;
                // SAFETY: the library has rows of this stride for a mat of this size and type, which it was made with and
                // retrieved with; they stay until the next call that has the mat mutably, or until it is freed.
                Memory::Rows(unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) }, stride)
            }
            _ => Memory::Wrong(data as usize, step),
        }
    }
}

impl Drop for Mat {
    fn drop(&mut self) {
        // SAFETY: it was made by the library and is freed once.
        unsafe { (self.api.functions.sl_mat_free)(self.mat.as_ptr(), MEM_CPU) }
    }
}
