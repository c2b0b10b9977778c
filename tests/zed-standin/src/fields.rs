// SPDX-License-Identifier: MPL-2.0

//! The structs of the page by the offset of each field in bytes, worked out from the page's order and natural alignment
//! without a look at `crates/zed-sdk`: a bool is one byte, anything else of four stands at a multiple of four, of eight at
//! one of eight.

use crate::script::Script;

/// How a field's bytes are read.
#[derive(Clone, Copy)]
pub enum Kind {
    Int,
    Float,
    Bool,
}

use Kind::{Bool, Float, Int};

/// Name, offset, kind, and the value that is expected unless the recording says otherwise.
type Field = (&'static str, usize, Kind, &'static str);

/// A struct: its name in scripts, its size in bytes, its fields.
pub struct Layout {
    pub name: &'static str,
    pub size: usize,
    pub fields: &'static [Field],
}

/// The expected values are the SDK's defaults but for four: the input is a recording, the camera is no live one, the unit is
/// the metre, and it does not talk.
pub const INIT: Layout = Layout {
    name: "init",
    size: 84,
    fields: &[
        ("input_type", 0, Int, "1"),
        ("resolution", 4, Int, "0"),
        ("camera_fps", 8, Int, "0"),
        ("camera_device_id", 12, Int, "0"),
        ("camera_image_flip", 16, Int, "0"),
        ("camera_disable_self_calib", 20, Bool, "0"),
        ("enable_right_side_measure", 21, Bool, "0"),
        ("svo_real_time_mode", 22, Bool, "0"),
        ("depth_mode", 24, Int, "5"),
        ("depth_stabilization", 28, Int, "30"),
        ("depth_minimum_distance", 32, Float, "-1"),
        ("depth_maximum_distance", 36, Float, "-1"),
        ("coordinate_unit", 40, Int, "2"),
        ("coordinate_system", 44, Int, "0"),
        ("sdk_gpu_id", 48, Int, "-1"),
        ("sdk_verbose", 52, Int, "0"),
        ("sensors_required", 56, Bool, "0"),
        ("enable_image_enhancement", 57, Bool, "1"),
        ("open_timeout_sec", 60, Float, "5"),
        ("async_grab_camera_recovery", 64, Bool, "0"),
        ("grab_compute_capping_fps", 68, Float, "0"),
        ("enable_image_validity_check", 72, Bool, "1"),
        ("maximum_working_width", 76, Int, "0"),
        ("maximum_working_height", 80, Int, "0"),
    ],
};

pub const RUNTIME: Layout = Layout {
    name: "runtime",
    size: 20,
    fields: &[
        ("reference_frame", 0, Int, "1"),
        ("enable_depth", 4, Bool, "1"),
        ("enable_fill_mode", 5, Bool, "0"),
        ("confidence_threshold", 8, Int, "95"),
        ("texture_confidence_threshold", 12, Int, "100"),
        ("remove_saturated_areas", 16, Bool, "1"),
    ],
};

pub const TRACKING: Layout = Layout {
    name: "tracking",
    size: 48,
    fields: &[
        ("rotation_x", 0, Float, "0"),
        ("rotation_y", 4, Float, "0"),
        ("rotation_z", 8, Float, "0"),
        ("rotation_w", 12, Float, "1"),
        ("position_x", 16, Float, "0"),
        ("position_y", 20, Float, "0"),
        ("position_z", 24, Float, "0"),
        ("enable_area_memory", 28, Bool, "1"),
        ("enable_pose_smoothing", 29, Bool, "0"),
        ("set_floor_as_origin", 30, Bool, "0"),
        ("set_as_static", 31, Bool, "0"),
        ("enable_imu_fusion", 32, Bool, "1"),
        ("depth_min_range", 36, Float, "-1"),
        ("set_gravity_as_origin", 40, Bool, "1"),
        ("mode", 44, Int, "0"),
    ],
};

pub fn int(bytes: &[u8], at: usize) -> i32 {
    i32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

impl Layout {
    /// Compares every field with what the recording, or else the page, has for it: what is wrong.
    ///
    /// `*` in a script: any value.
    pub fn check(&self, bytes: &[u8], script: &Script) -> Vec<String> {
        let prefix = format!("{}.", self.name);
        let unknown = script.names(&prefix);
        let unknown = unknown.into_iter().filter(|key| self.fields.iter().all(|field| field.0 != *key));
        let mut wrong: Vec<String> =
            unknown.map(|key| format!("the recording expects {prefix}{key}")).collect();
        for (name, at, kind, default) in self.fields {
            let expected = script.text(&format!("{prefix}{name}")).unwrap_or(default);
            let (found, same) = match kind {
                Int => (int(bytes, *at).to_string(), Ok(int(bytes, *at)) == expected.parse()),
                Float => {
                    let float = f32::from_ne_bytes(bytes[*at..at + 4].try_into().unwrap());
                    (float.to_string(), Ok(float) == expected.parse())
                }
                Bool => (bytes[*at].to_string(), Ok(bytes[*at]) == expected.parse()),
            };
            // A bool that is neither 0 nor 1 is wrong whatever was expected.
            let sound = !matches!(kind, Bool) || bytes[*at] <= 1;
            if !sound || (!same && expected != "*") {
                wrong.push(format!("{prefix}{name} is {found}, not {expected}"));
            }
        }
        wrong
    }
}
