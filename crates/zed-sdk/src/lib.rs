// SPDX-License-Identifier: MPL-2.0

//! The ZED SDK's C interface, `libsl_zed_c.so`, loaded at run time where it is installed: nothing is linked with it, and
//! without it [`Sdk::load`] says what was looked for where.
//!
//! - [`Sdk`], [`Search`]: finds and loads the library, checks its version (5.x) and that no function is missing;
//! - [`Camera`]: a recording, one owner for each of the interface's ids: frames, depth, poses, calibration;
//! - [`InitParameters`], [`RuntimeParameters`], [`PositionalTracking`]: its settings, the last of them from a TOML file, too;
//! - [`SdkError`], [`Code`]: what the SDK refuses, by name and number;
//! - [`Cuda`]: whether there is a driver and a GPU at all.
//!
//! Sources: the project's page of the interface (facts of SDK 5.0), and where that has dots, the interface's published header.
//! What was tried is our side of it, with a stand-in for the library; no SDK was at hand.
//!
//! ```no_run
//! use std::path::Path;
//! use zed_sdk::{Camera, Grabbed, InitParameters, RuntimeParameters, Sdk, View};
//!
//! let sdk = Sdk::load()?;
//! let mut camera = Camera::open(sdk, Path::new("a.svo"), &InitParameters::default())?;
//! let mut picture = sdk.picture(camera.info().width, camera.info().height)?;
//! while let Grabbed::Frame(_) = camera.grab(&RuntimeParameters::default())? {
//!     let plane = camera.retrieve_image(View::Left, &mut picture)?;
//!     println!("{} bytes", plane.data.len());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![deny(unsafe_code)]

mod calibration;
mod camera;
mod error;
mod ffi;
mod load;
mod parameters;
mod pose;

pub use calibration::{Calibration, Eye};
pub use camera::{Camera, DepthMap, Grabbed, Info, Picture, Plane};
pub use error::{Code, Error, SdkError};
pub use ffi::{Cuda, CudaError};
pub use load::{LIBRARY, LoadError, Place, Refusal, Sdk, Search, USUAL_FOLDER, VARIABLE};
pub use parameters::{
    CoordinateSystem, DepthMode, InitParameters, ReferenceFrame, RuntimeParameters, Unit, View,
};
pub use pose::{ConfigError, Pose, PositionalTracking, TrackingMode, TrackingState};
