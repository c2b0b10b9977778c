// SPDX-License-Identifier: MPL-2.0

//! Whether a file is whole: by what its end says of the rest, and without reading all of it.

pub mod mcap;
pub mod mp4;
