// SPDX-License-Identifier: MPL-2.0

//! Our side of the ZED SDK's C interface, against a stand-in that checks every argument and every field; what it can and cannot
//! prove is told in `tests/zed-standin/src/lib.rs` of the workspace.

#[path = "../../../tests/zed-standin/rig.rs"]
mod rig;

use std::ffi::{CStr, c_char};
use std::path::Path;

use rig::Standin;
use zed_sdk::*;

fn load(standin: &Standin) -> Sdk {
    Sdk::find(&Search::only(standin.library())).unwrap()
}

fn refused(standin: &Standin) -> String {
    let error = Sdk::find(&Search::only(standin.folder())).unwrap_err();
    assert_eq!(error.to_string().lines().count(), 1);
    error.to_string()
}

/// What is open and allocated in the stand-in.
fn leaks(standin: &Standin) -> String {
    // SAFETY: the stand-in has no initialisers; the function is its own, and gives a string for us to keep.
    unsafe {
        let library = libloading::Library::new(standin.library()).unwrap();
        let leaks = library.get::<unsafe extern "C" fn() -> *const c_char>("standin_leaks").unwrap();
        CStr::from_ptr(leaks()).to_str().unwrap().to_owned()
    }
}

fn open(sdk: Sdk, recording: &Path) -> Camera {
    Camera::open(sdk, recording, &InitParameters::default()).unwrap()
}

fn fails(sdk: Sdk, recording: &Path) -> String {
    Camera::open(sdk, recording, &InitParameters::default()).unwrap_err().to_string()
}

fn runtime() -> RuntimeParameters {
    RuntimeParameters::default()
}

#[test]
fn a_recording_is_read_from_its_first_frame_to_its_end() {
    let standin = Standin::new();
    let sdk = load(&standin);
    assert_eq!(sdk.version(), "5.0.1");
    let recording = standin.recording("a.svo", "frames=4\nsize=96x64\nserial=-5\nmodel=6\nfps=15");
    let mut camera = open(sdk, &recording);
    let info = Info { width: 96, height: 64, fps: 15.0, serial: u32::MAX - 4, model: 6, frames: 4 };
    assert_eq!((camera.info(), camera.warning()), (info, None));

    let (whole, small) = ((96, 64), (48, 40));
    let mut pictures = [sdk.picture(96, 64).unwrap(), sdk.picture(48, 40).unwrap()];
    let mut depths = [sdk.depth_map(96, 64).unwrap(), sdk.depth_map(48, 40).unwrap()];
    let views = [(0, View::Left), (1, View::Right), (4, View::LeftUnrectified), (5, View::RightUnrectified)];
    for frame in 0..4 {
        assert_eq!(camera.grab(&runtime()).unwrap(), Grabbed::Frame(None));
        assert_eq!(camera.timestamp_ns(), rig::timestamp(frame));
        assert_eq!(camera.position(), Some(frame));
        for (number, view) in views {
            for (picture, size) in pictures.iter_mut().zip([whole, small]) {
                let plane = camera.retrieve_image(view, picture).unwrap();
                assert_eq!((plane.width as usize, plane.height as usize), size);
                assert_eq!((plane.stride, plane.rows().count()), (size.0 * 4 + 32, size.1));
                for (y, row) in plane.rows().enumerate() {
                    assert_eq!(row.len(), size.0 * 4);
                    let expected = (0..size.0).flat_map(|x| rig::pixel(number, frame, (x, y), size, whole));
                    assert!(expected.eq(row.iter().copied()), "frame {frame}, view {view}, row {y}");
                }
            }
        }
        for (depth, size) in depths.iter_mut().zip([whole, small]) {
            let plane = camera.retrieve_depth(depth).unwrap();
            assert_eq!((plane.stride, plane.rows().count()), (size.0 * 2 + 32, size.1));
            for (y, row) in plane.rows().enumerate() {
                let expected = (0..size.0).flat_map(|x| rig::depth(frame, (x, y), size, whole).to_le_bytes());
                assert!(expected.eq(row.iter().copied()), "frame {frame}, row {y}");
            }
        }
    }
    assert_eq!(camera.grab(&runtime()).unwrap(), Grabbed::End);
    assert_eq!(leaks(&standin), "cameras 1, mats 4");
    drop((camera, pictures, depths));
    assert_eq!(leaks(&standin), "cameras 0, mats 0");
}

#[test]
fn seeks_are_exact_by_frame_and_by_time() {
    let standin = Standin::new();
    let mut camera = open(load(&standin), &standin.recording("a.svo", "frames=20"));
    for frame in [7, 0, 19, 3] {
        camera.seek(frame).unwrap();
        assert_eq!(camera.grab(&runtime()).unwrap(), Grabbed::Frame(None));
        assert_eq!(camera.timestamp_ns(), rig::timestamp(frame));
    }
    assert_eq!(camera.grab(&runtime()).unwrap(), Grabbed::Frame(None));
    assert_eq!(camera.timestamp_ns(), rig::timestamp(4));
    for (ns, frame) in [
        (rig::timestamp(0), Some(0)),
        (rig::timestamp(5), Some(5)),
        (rig::timestamp(5) + 1, Some(5)),
        (rig::timestamp(19), Some(19)),
        (rig::timestamp(19) + 1, None),
        (rig::timestamp(0) - 1, None),
    ] {
        assert_eq!(camera.frame_at(ns), frame, "{ns}");
    }
    // It is not handed to the SDK, which would have been noticed.
    let error = camera.seek(20).unwrap_err().to_string();
    assert_eq!(error, "frame 20: the recording has no such frame");
}

/// Every field that can be set is set to something of its own, and the stand-in finds it at the page's place.
#[test]
fn every_setting_arrives_in_its_field() {
    let standin = Standin::new();
    let recording = standin.recording(
        "a.svo",
        "init.camera_disable_self_calib=1\ninit.enable_right_side_measure=1\ninit.depth_mode=4\n\
         init.depth_stabilization=17\ninit.depth_minimum_distance=0.375\ninit.depth_maximum_distance=19.5\n\
         init.coordinate_unit=4\ninit.coordinate_system=5\ninit.sdk_gpu_id=3\ninit.sdk_verbose=1\n\
         init.enable_image_validity_check=0\ninit.maximum_working_width=1234\ninit.maximum_working_height=567\n\
         runtime.reference_frame=0\nruntime.enable_depth=0\nruntime.enable_fill_mode=1\n\
         runtime.confidence_threshold=41\nruntime.texture_confidence_threshold=73\nruntime.remove_saturated_areas=0\n\
         tracking.rotation_x=0.1\ntracking.rotation_y=0.5\ntracking.rotation_z=0.7\ntracking.rotation_w=0.5\n\
         tracking.position_x=1.5\ntracking.position_y=-2.5\ntracking.position_z=3.5\ntracking.enable_area_memory=0\n\
         tracking.enable_pose_smoothing=1\ntracking.set_floor_as_origin=1\ntracking.set_as_static=1\n\
         tracking.enable_imu_fusion=0\ntracking.depth_min_range=0.625\ntracking.set_gravity_as_origin=0\n\
         tracking.mode=2\npose_reference_frame=1",
    );
    let init = InitParameters {
        depth_mode: DepthMode::NeuralLight,
        depth_stabilization: 17,
        depth_minimum: Some(0.375),
        depth_maximum: Some(19.5),
        unit: Unit::Foot,
        coordinate_system: CoordinateSystem::RightHandedZUpXFwd,
        gpu: Some(3),
        verbose: true,
        self_calibration: false,
        right_side_measure: true,
        image_validity_check: false,
        maximum_size: Some((1234, 567)),
    };
    let runtime = RuntimeParameters {
        reference_frame: ReferenceFrame::World,
        depth: false,
        fill: true,
        confidence_threshold: 41,
        texture_confidence_threshold: 73,
        remove_saturated_areas: false,
    };
    let tracking = PositionalTracking {
        initial_rotation: [0.1, 0.5, 0.7, 0.5],
        initial_position: [1.5, -2.5, 3.5],
        enable_area_memory: false,
        enable_pose_smoothing: true,
        set_floor_as_origin: true,
        set_as_static: true,
        enable_imu_fusion: false,
        depth_min_range: 0.625,
        set_gravity_as_origin: false,
        mode: TrackingMode::Gen3,
    };
    let mut camera = Camera::open(load(&standin), &recording, &init).unwrap();
    camera.enable_tracking(&tracking).unwrap();
    assert_eq!(camera.grab(&runtime).unwrap(), Grabbed::Frame(None));
    assert!(camera.pose(ReferenceFrame::Camera).is_valid());
}

/// The bools beside each other one by one: all of them set would not tell them apart.
#[test]
fn every_bool_arrives_in_its_own_byte() {
    let standin = Standin::new();
    let sdk = load(&standin);
    let default = InitParameters::default();
    for (name, init) in [
        ("camera_disable_self_calib=1", InitParameters { self_calibration: false, ..default.clone() }),
        ("enable_right_side_measure=1", InitParameters { right_side_measure: true, ..default.clone() }),
        ("enable_image_validity_check=0", InitParameters { image_validity_check: false, ..default }),
    ] {
        let recording = standin.recording("a.svo", &format!("init.{name}"));
        Camera::open(sdk, &recording, &init).unwrap();
    }
    let default = PositionalTracking::default();
    for (name, tracking) in [
        ("enable_area_memory=0", PositionalTracking { enable_area_memory: false, ..default.clone() }),
        ("enable_pose_smoothing=1", PositionalTracking { enable_pose_smoothing: true, ..default.clone() }),
        ("set_floor_as_origin=1", PositionalTracking { set_floor_as_origin: true, ..default.clone() }),
        ("set_as_static=1", PositionalTracking { set_as_static: true, ..default.clone() }),
        ("enable_imu_fusion=0", PositionalTracking { enable_imu_fusion: false, ..default.clone() }),
        ("set_gravity_as_origin=0", PositionalTracking { set_gravity_as_origin: false, ..default }),
    ] {
        let recording = standin.recording("b.svo", &format!("tracking.{name}"));
        open(sdk, &recording).enable_tracking(&tracking).unwrap();
    }
    for (name, runtime) in [
        ("enable_depth=0", RuntimeParameters { depth: false, ..runtime() }),
        ("enable_fill_mode=1", RuntimeParameters { fill: true, ..runtime() }),
        ("remove_saturated_areas=0", RuntimeParameters { remove_saturated_areas: false, ..runtime() }),
    ] {
        let recording = standin.recording("c.svo", &format!("runtime.{name}"));
        open(sdk, &recording).grab(&runtime).unwrap();
    }
}

/// A test that cannot fail proves nothing: a field that is not what was expected fails the call, and all behind it.
#[test]
fn the_stand_in_notices() {
    let standin = Standin::new();
    let sdk = load(&standin);
    let recording = standin.recording("a.svo", "init.depth_mode=6");
    assert_eq!(fails(sdk, &recording), "the ZED SDK says: unknown error 9999 of sl_open_camera");
    assert_eq!(standin.forgive(), "sl_open_camera: init.depth_mode is 5, not 6\n");
    let fine = standin.recording("b.svo", "");
    assert_eq!(fails(sdk, &fine), "the ZED SDK says: unknown error 9999 of sl_open_camera");
    assert_eq!(standin.violations(), "");

    let standin = Standin::new();
    let mut camera = open(load(&standin), &standin.recording("a.svo", "pose_reference_frame=1"));
    camera.enable_tracking(&PositionalTracking::default()).unwrap();
    camera.pose(ReferenceFrame::World);
    let error = camera.grab(&runtime()).unwrap_err();
    assert_eq!(error.code(), Some(Code(9999)));
    drop(camera);
    assert!(standin.forgive().starts_with("sl_get_position_data: the reference frame is 0, not 1\n"));
}

#[test]
fn poses_are_valid_where_tracking_is_and_every_field_is_its_own() {
    let standin = Standin::new();
    let mut camera = open(load(&standin), &standin.recording("a.svo", "frames=6\nlost=2,4-5"));
    assert_eq!(camera.pose(ReferenceFrame::World).state, TrackingState::Off);
    camera.grab(&runtime()).unwrap();
    let pose = camera.pose(ReferenceFrame::World);
    assert_eq!((pose.state, pose.is_valid()), (TrackingState::Off, false));
    camera.enable_tracking(&PositionalTracking::default()).unwrap();
    camera.seek(0).unwrap();
    for frame in 0..6 {
        camera.grab(&runtime()).unwrap();
        let (pose, f) = (camera.pose(ReferenceFrame::World), frame as f32);
        assert_eq!(pose.is_valid(), [true, true, false, true, false, false][frame], "{frame}");
        assert_eq!(pose.state, if pose.is_valid() { TrackingState::Ok } else { TrackingState::Searching });
        assert_eq!(pose.timestamp_ns, rig::timestamp(frame));
        assert_eq!(pose.rotation, [0.0, 0.0, (f * 0.01).sin(), (f * 0.01).cos()]);
        assert_eq!(pose.translation, [f * 0.1, f * 0.01, f * -0.2]);
        assert_eq!(pose.confidence, 100 - frame as i32);
        assert_eq!(pose.covariance, std::array::from_fn(|i| f + i as f32 * 0.001));
        assert_eq!(pose.twist, std::array::from_fn(|i| f * 10.0 + i as f32));
        assert_eq!(pose.twist_covariance, std::array::from_fn(|i| f - i as f32 * 0.001));
    }
    camera.disable_tracking();
    camera.disable_tracking();
    assert_eq!(camera.pose(ReferenceFrame::World).state, TrackingState::Off);
}

#[test]
fn a_pose_is_not_valid_unless_both_the_state_and_its_flag_say_so() {
    let standin = Standin::new();
    let sdk = load(&standin);
    let pose = |lines: &str| {
        let mut camera = open(sdk, &standin.recording("a.svo", lines));
        camera.enable_tracking(&PositionalTracking::default()).unwrap();
        camera.grab(&runtime()).unwrap();
        camera.pose(ReferenceFrame::World)
    };
    for (lines, state, valid) in [
        ("lost=0\nlost_is=state", TrackingState::Searching, true),
        ("lost=0\nlost_is=flag", TrackingState::Ok, false),
        ("tracking_state=3", TrackingState::FpsTooLow, true),
        ("tracking_state=4", TrackingState::SearchingFloorPlane, true),
        ("tracking_state=5", TrackingState::Unavailable, true),
        ("tracking_state=6", TrackingState::Unknown(6), true),
    ] {
        let pose = pose(lines);
        assert_eq!((pose.state, pose.valid, pose.is_valid()), (state, valid, false), "{lines}");
    }
}

#[test]
fn calibration_is_read_field_by_field() {
    let standin = Standin::new();
    let sdk = load(&standin);
    let camera = open(sdk, &standin.recording("a.svo", "size=640x360"));
    for raw in [false, true] {
        let calibration = *if raw { camera.raw_calibration() } else { camera.calibration() }.unwrap();
        for (eye, more) in [(calibration.left, 0.0), (calibration.right, 0.125)] {
            let more = if raw { more + 2.0 } else { more };
            let distortion = |i| if raw { (i + 1) as f64 * 0.001 + f64::from(more) } else { 0.0 };
            let expected = Eye {
                fx: 320.25 + more,
                fy: 320.75 + more,
                cx: 321.5 + more,
                cy: 178.75 + more,
                distortion: std::array::from_fn(distortion),
                field_of_view: [59.5 + more, 89.25 + more, 97.125 + more],
                width: 640,
                height: 360,
                focal_length_mm: 2.1 + more,
            };
            assert_eq!(eye, expected);
        }
        let rotation = if raw { [0.01, 0.02, 0.03, 0.9993] } else { [0.0, 0.0, 0.0, 1.0] };
        let translation = if raw { [0.12, 0.001, 0.002] } else { [0.12, 0.0, 0.0] };
        assert_eq!((calibration.rotation, calibration.translation), (rotation, translation));
    }
    let left = camera.calibration().unwrap().left.scaled(320, 90);
    assert_eq!((left.fx, left.fy, left.cx, left.cy), (160.125, 80.1875, 160.75, 44.6875));
    assert_eq!((left.width, left.height), (320, 90));
    assert_eq!(camera.calibration().unwrap().baseline(), 0.12);

    let camera = open(sdk, &standin.recording("b.svo", "calibration=null"));
    let error = camera.calibration().unwrap_err().to_string();
    assert_eq!(error, "the ZED SDK says: a calibration at address 0, which cannot be");
}

#[test]
fn a_library_of_another_version_is_refused_before_anything_else() {
    for (version, said) in [
        ("4.2.5", "it is version 4.2.5, and 5.x is needed"),
        ("50.1.0", "it is version 50.1.0, and 5.x is needed"),
        ("6.0.0", "it is version 6.0.0, and 5.x is needed"),
        ("null", "it does not say its version, and 5.x is needed"),
    ] {
        let standin = Standin::told(&format!("version={version}"));
        let line = refused(&standin);
        assert!(line.starts_with("no ZED SDK that can be used: libsl_zed_c.so in ZED_SDK_LIB="), "{line}");
        assert!(line.ends_with(said), "{line}");
    }
    for (version, is_known) in [("5", true), ("5.0.1", true), ("5.2.0-rc1", false), ("5.10", false)] {
        let standin = Standin::told(&format!("version={version}"));
        let sdk = load(&standin);
        assert_eq!((sdk.version(), sdk.remark().is_none()), (version, is_known));
    }
}

#[test]
fn a_missing_function_is_named() {
    for symbol in ["sl_get_sdk_version", "sl_grab", "sl_retrieve_measure", "sl_get_calibration_parameters"] {
        let line = refused(&Standin::without(symbol));
        assert!(line.ends_with(&format!("it has no {symbol}, as 5.x would")), "{line}");
    }
}

/// The order is the issue's; a library that cannot be used does not hide one that can.
#[test]
fn the_first_library_that_can_be_used_is_taken() {
    let [old, new, newer] =
        ["4.0.0", "5.0.2", "5.1.0"].map(|version| Standin::told(&format!("version={version}")));
    let search = |folders: &[&Standin], named: Option<&Standin>| Search {
        // Whatever this machine has is no part of the test.
        loader: false,
        folders: folders.iter().map(|standin| standin.folder().to_owned()).collect(),
        named: named.map(|standin| standin.library()),
    };
    let version = |search: &Search| Sdk::find(search).unwrap().version();
    assert_eq!(version(&search(&[&new], Some(&newer))), "5.0.2");
    assert_eq!(version(&search(&[&old], Some(&newer))), "5.1.0");
    assert_eq!(version(&search(&[&old, &newer], Some(&new))), "5.1.0");
    let missing = Search { folders: vec![old.folder().join("nowhere")], ..search(&[], Some(&new)) };
    assert_eq!(version(&missing), "5.0.2");
    let line = Sdk::find(&search(&[&old], None)).unwrap_err().to_string();
    let folder = old.folder().display();
    assert_eq!(
        line,
        format!(
            "no ZED SDK that can be used: libsl_zed_c.so in {folder}: it is version 4.0.0, and 5.x is needed; \
             it is not in ZED_SDK_LIB (not set)"
        )
    );
}

#[test]
fn what_the_sdk_refuses_has_name_and_number() {
    let standin = Standin::new();
    let sdk = load(&standin);
    for (code, said) in [
        (2, "no compatible GPU (error 2) of sl_open_camera; the SDK computes on an NVIDIA GPU"),
        (3, "not enough GPU memory (error 3) of sl_open_camera; a lighter depth mode"),
        (9, "calibration file not available (error 9) of sl_open_camera; "),
        (11, "invalid SVO file (error 11) of sl_open_camera; "),
        (13, "unsupported SVO compression (error 13) of sl_open_camera; "),
        (20, "NVIDIA driver out of date (error 20) of sl_open_camera; "),
        (77, "unknown error 77 of sl_open_camera"),
    ] {
        let error = fails(sdk, &standin.recording("a.svo", &format!("open={code}")));
        assert!(error.starts_with(&format!("the ZED SDK says: {said}")), "{error}");
    }
    // No recording at all.
    std::fs::write(standin.folder().join("b.svo"), "text").unwrap();
    for name in ["b.svo", "nowhere.svo"] {
        let error = fails(sdk, &standin.folder().join(name));
        assert!(error.contains("invalid SVO file (error 11)"), "{error}");
    }
    // Memory is a matter of the depth mode.
    let recording = standin.recording("c.svo", "heaviest_depth_mode=3\ninit.depth_mode=*");
    assert!(fails(sdk, &recording).contains("error 3"));
    let init = InitParameters { depth_mode: DepthMode::Ultra, ..Default::default() };
    Camera::open(sdk, &recording, &init).unwrap();
    // A warning is none of these.
    let camera = open(sdk, &standin.recording("d.svo", "open=-4"));
    assert_eq!(camera.warning(), Some(Code::CONFIGURATION_FALLBACK));
    drop(camera);
    let error = fails(sdk, &standin.recording("e.svo", "width=-1"));
    assert_eq!(error, "the ZED SDK says: width -1, which cannot be");
    // None of these stays open, nor keeps an id: there are four.
    assert_eq!(leaks(&standin), "cameras 0, mats 0");
    let nul = Camera::open(sdk, Path::new("a\0b.svo"), &InitParameters::default()).unwrap_err().to_string();
    assert_eq!(nul, "the path 'a\\0b.svo' has a NUL in it, which the ZED SDK does not take");
}

#[test]
fn failures_within_a_recording_are_told_apart() {
    let standin = Standin::new();
    let sdk = load(&standin);
    let lines = "frames=10\ncorrupted=1-2\nwarn_at=3:-3,4:-99\nerror_at=5:18\nend_at=8\nsize=64x36\n\
                 tracking_error=31\nimage_error_at=6:7\ndepth_error_at=6:3";
    let mut camera = open(sdk, &standin.recording("a.svo", lines));
    let mut picture = sdk.picture(64, 36).unwrap();
    let mut depth = sdk.depth_map(64, 36).unwrap();
    let grabbed: Vec<Grabbed> = (0..5).map(|_| camera.grab(&runtime()).unwrap()).collect();
    let warned = |code| Grabbed::Frame(Some(Code(code)));
    assert_eq!(
        grabbed,
        [Grabbed::Frame(None), Grabbed::Corrupted, Grabbed::Corrupted, warned(-3), warned(-99)]
    );
    let error = camera.grab(&runtime()).unwrap_err();
    assert_eq!(error.to_string(), "the ZED SDK says: CUDA error (error 18) of sl_grab");
    // One can go on behind it.
    camera.seek(6).unwrap();
    assert_eq!(camera.grab(&runtime()).unwrap(), Grabbed::Frame(None));
    let error = camera.retrieve_image(View::Left, &mut picture).unwrap_err().to_string();
    assert_eq!(error, "the ZED SDK says: invalid resolution (error 7) of sl_retrieve_image");
    let error = camera.retrieve_depth(&mut depth).unwrap_err().to_string();
    assert!(error.starts_with("the ZED SDK says: not enough GPU memory (error 3) of sl_retrieve_measure; "));
    let error = camera.enable_tracking(&PositionalTracking::default()).unwrap_err().to_string();
    let said = "module not compatible with camera (error 31) of sl_enable_positional_tracking";
    assert_eq!(error, format!("the ZED SDK says: {said}"));
    // The end comes before the last frame that the recording says it has.
    assert_eq!(camera.grab(&runtime()).unwrap(), Grabbed::Frame(None));
    assert_eq!((camera.grab(&runtime()).unwrap(), camera.info().frames), (Grabbed::End, 10));
}

#[test]
fn what_cannot_be_is_not_handed_to_the_sdk() {
    let standin = Standin::new();
    let sdk = load(&standin);
    let mut camera = open(sdk, &standin.recording("a.svo", "size=64x36\nruntime.enable_depth=*"));
    let bent = PositionalTracking { initial_rotation: [0.0; 4], ..Default::default() };
    let error = camera.enable_tracking(&bent).unwrap_err().to_string();
    assert!(
        error.starts_with("initial_rotation [0.0, 0.0, 0.0, 0.0] (length 0): it is a quaternion"),
        "{error}"
    );
    let bent = RuntimeParameters { texture_confidence_threshold: 101, ..runtime() };
    let error = camera.grab(&bent).unwrap_err().to_string();
    assert_eq!(error, "texture_confidence_threshold 101: it is 1 to 100");
    let error = sdk.picture(0, 10).err().unwrap().to_string();
    assert_eq!(error, "size 0x10: each is 1 to 32768 pixels");

    // What only the SDK knows, it says: no depth was computed, and the picture is larger than the recording's.
    let mut depth = sdk.depth_map(64, 36).unwrap();
    camera.grab(&RuntimeParameters { depth: false, ..runtime() }).unwrap();
    assert_eq!(camera.retrieve_depth(&mut depth).unwrap_err().code(), Some(Code(21)));
    let mut large = sdk.picture(65, 36).unwrap();
    assert_eq!(camera.retrieve_image(View::Left, &mut large).unwrap_err().code(), Some(Code(7)));
}

#[test]
fn memory_that_cannot_be_is_not_read() {
    let standin = Standin::told("step=99");
    let sdk = load(&standin);
    let mut camera = open(sdk, &standin.recording("a.svo", ""));
    camera.grab(&runtime()).unwrap();
    let mut picture = sdk.picture(32, 8).unwrap();
    let error = camera.retrieve_image(View::Left, &mut picture).unwrap_err().to_string();
    let parts = ["a picture of 32x8 at 0x", "with 99 bytes from row to row"];
    assert!(parts.iter().all(|part| error.contains(part)), "{error}");

    let standin = Standin::told("mats=none");
    let error = load(&standin).picture(32, 8).err().unwrap();
    assert_eq!(error, Error::NoMat { width: 32, height: 8 });
}

#[test]
fn each_camera_has_an_id_of_its_own_and_gives_it_back() {
    let standin = Standin::told("foreign=1");
    let sdk = load(&standin);
    // A library that is found by two ways is one, so that its ids are handed out once.
    let by_folder = Sdk::find(&Search::only(standin.folder())).unwrap();
    let path = |i: usize| standin.recording(&format!("{i}.svo"), &format!("serial={}", 100 + i));
    let paths: Vec<_> = (0..4).map(path).collect();
    let mut cameras: Vec<Camera> =
        paths.iter().zip([sdk, by_folder, sdk]).map(|(path, sdk)| open(sdk, path)).collect();
    assert_eq!(leaks(&standin), "cameras 3, mats 0");
    for (i, camera) in cameras.iter_mut().enumerate() {
        assert_eq!(camera.info().serial, 100 + i as u32);
        camera.seek(i * 3).unwrap();
    }
    for (i, camera) in cameras.iter_mut().enumerate() {
        camera.grab(&runtime()).unwrap();
        assert_eq!(camera.timestamp_ns(), rig::timestamp(i * 3));
    }
    // One of the four ids is somebody else's.
    let error = fails(sdk, &paths[3]);
    assert!(error.starts_with("4 recordings are open with the ZED SDK at once"), "{error}");
    for _ in 0..10 {
        drop(cameras.remove(1));
        cameras.push(open(sdk, &paths[3]));
    }
    drop(cameras);
    assert_eq!(leaks(&standin), "cameras 0, mats 0");
}

/// Cameras and pictures go to threads of their own; the stand-in would notice two calls at once with one id.
#[test]
fn cameras_run_side_by_side_in_threads() {
    let standin = Standin::new();
    let sdk = load(&standin);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let path = standin.recording(&format!("{thread}.svo"), "frames=40\nsize=64x36");
            scope.spawn(move || {
                for _ in 0..3 {
                    let mut camera = open(sdk, &path);
                    camera.enable_tracking(&PositionalTracking::default()).unwrap();
                    let mut picture = sdk.picture(64, 36).unwrap();
                    let mut frame = 0;
                    while let Grabbed::Frame(_) = camera.grab(&runtime()).unwrap() {
                        let plane = camera.retrieve_image(View::Right, &mut picture).unwrap();
                        let first: [u8; 4] = plane.data[..4].try_into().unwrap();
                        assert_eq!(first, rig::pixel(1, frame, (0, 0), (64, 36), (64, 36)));
                        assert!(camera.pose(ReferenceFrame::World).is_valid());
                        frame += 1;
                    }
                    assert_eq!(frame, 40);
                }
            });
        }
    });
    assert_eq!(leaks(&standin), "cameras 0, mats 0");
}

#[test]
fn cuda_is_asked_for_version_and_gpus() {
    let standin = Standin::told("cuda.version=12080\ncuda.gpus=RTX A,RTX B");
    let cuda = Cuda::load(&standin.library()).unwrap();
    assert_eq!(cuda, Cuda { version: "12.8".into(), gpus: vec!["RTX A".into(), "RTX B".into()] });
    let standin = Standin::told("cuda.init=100");
    let error = Cuda::load(&standin.library()).unwrap_err();
    assert_eq!(error.to_string(), "cuInit: error 100, no GPU");
    let standin = Standin::without("cuDeviceGetCount");
    assert_eq!(Cuda::load(&standin.library()).unwrap_err().to_string(), "it has no cuDeviceGetCount");
    let error = Cuda::load(Path::new("/nowhere/libcuda.so.1")).unwrap_err();
    assert!(
        error.to_string().starts_with("/nowhere/libcuda.so.1: cannot open shared object file"),
        "{error}"
    );
}
