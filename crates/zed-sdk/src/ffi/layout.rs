// SPDX-License-Identifier: MPL-2.0

//! The structs of the C interface, SDK 5.0: fields in the order of `zed-sdk-c-api.md`, with the offsets that natural C
//! alignment gives them, worked out by hand. `bool` is a byte that is 0 or 1 where we write it; what the library wrote is
//! read as a number, since a Rust `bool` of another value would be undefined behaviour.

use std::mem::{align_of, offset_of, size_of};

/// A struct with the offset of each field, in bytes; size and offsets are asserted at compile time.
macro_rules! layout {
    ($(#[$doc:meta])* $name:ident: $size:literal bytes, alignment $align:literal { $($at:literal $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub struct $name {
            $(pub $field: $type,)*
        }

        const _: () = {
            assert!(size_of::<$name>() == $size);
            assert!(align_of::<$name>() == $align);
            $(assert!(offset_of!($name, $field) == $at);)*
        };
    };
}

layout! {
    /// Of `sl_open_camera`.
    InitParameters: 84 bytes, alignment 4 {
        0 input_type: i32,
        4 resolution: i32,
        8 camera_fps: i32,
        12 camera_device_id: i32,
        16 camera_image_flip: i32,
        20 camera_disable_self_calib: bool,
        21 enable_right_side_measure: bool,
        22 svo_real_time_mode: bool,
        24 depth_mode: i32,
        28 depth_stabilization: i32,
        32 depth_minimum_distance: f32,
        36 depth_maximum_distance: f32,
        40 coordinate_unit: i32,
        44 coordinate_system: i32,
        48 sdk_gpu_id: i32,
        52 sdk_verbose: i32,
        56 sensors_required: bool,
        57 enable_image_enhancement: bool,
        60 open_timeout_sec: f32,
        64 async_grab_camera_recovery: bool,
        68 grab_compute_capping_fps: f32,
        72 enable_image_validity_check: bool,
        76 maximum_working_width: i32,
        80 maximum_working_height: i32,
    }
}

layout! {
    /// Of `sl_grab`.
    RuntimeParameters: 20 bytes, alignment 4 {
        0 reference_frame: i32,
        4 enable_depth: bool,
        5 enable_fill_mode: bool,
        8 confidence_threshold: i32,
        12 texture_confidence_threshold: i32,
        16 remove_saturated_areas: bool,
    }
}

layout! {
    /// Of `sl_enable_positional_tracking`.
    PositionalTrackingParameters: 48 bytes, alignment 4 {
        0 initial_rotation: [f32; 4],
        16 initial_position: [f32; 3],
        28 enable_area_memory: bool,
        29 enable_pose_smoothing: bool,
        30 set_floor_as_origin: bool,
        31 set_as_static: bool,
        32 enable_imu_fusion: bool,
        36 depth_min_range: f32,
        40 set_gravity_as_origin: bool,
        44 mode: i32,
    }
}

layout! {
    /// Written by `sl_get_position_data`.
    PoseData: 360 bytes, alignment 8 {
        0 valid: u8,
        8 timestamp: u64,
        16 rotation: [f32; 4],
        32 translation: [f32; 3],
        44 pose_confidence: i32,
        48 pose_covariance: [f32; 36],
        192 twist: [f32; 6],
        216 twist_covariance: [f32; 36],
    }
}

layout! {
    /// One eye.
    CameraParameters: 136 bytes, alignment 8 {
        0 fx: f32,
        4 fy: f32,
        8 cx: f32,
        12 cy: f32,
        16 disto: [f64; 12],
        112 v_fov: f32,
        116 h_fov: f32,
        120 d_fov: f32,
        124 image_width: i32,
        128 image_height: i32,
        132 focal_length_metric: f32,
    }
}

layout! {
    /// What `sl_get_calibration_parameters` points at.
    CalibrationParameters: 304 bytes, alignment 8 {
        0 left: CameraParameters,
        136 right: CameraParameters,
        272 rotation: [f32; 4],
        288 translation: [f32; 3],
    }
}

impl PoseData {
    /// Before the library has written anything.
    pub const ZERO: Self = Self {
        valid: 0,
        timestamp: 0,
        rotation: [0.0; 4],
        translation: [0.0; 3],
        pose_confidence: 0,
        pose_covariance: [0.0; 36],
        twist: [0.0; 6],
        twist_covariance: [0.0; 36],
    };
}

/// A struct with zeros behind it. Later releases of SDK 5 have fields more at the end of some structs (two flags follow the
/// tracking mode in the interface's published header): they read zeros there, and what they write hurts nobody.
#[repr(C)]
pub struct Spared<T> {
    pub value: T,
    spare: [u64; 32],
}

impl<T> Spared<T> {
    pub fn new(value: T) -> Self {
        Self { value, spare: [0; 32] }
    }
}

/// `SL_INPUT_TYPE`: USB, SVO, STREAM, GMSL.
pub const INPUT_SVO: i32 = 1;
/// `SL_MAT_TYPE`: F32_C1 to F32_C4, U8_C1 to U8_C4, U16_C1, S8_C4.
pub const MAT_U8_C4: i32 = 7;
pub const MAT_U16_C1: i32 = 8;
/// `SL_MEM`: CPU, GPU, BOTH.
pub const MEM_CPU: i32 = 0;
/// `SL_MEASURE`.
pub const MEASURE_DEPTH_U16_MM: i32 = 17;
