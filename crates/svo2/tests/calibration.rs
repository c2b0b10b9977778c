// SPDX-License-Identifier: MPL-2.0

//! Calibration files: what is read from them, what is said of those that are wrong, and what rectification makes of one.

#![allow(missing_docs)]

use svo2::calibration::{Calibration, Resolution, StereoCamera};
use svo2::rectify::{Eye, Rectification};

const CONF: &str = "\
[LEFT_CAM_HD]
fx=699.41
fy=699.365
cx=652.8
cy=358.133
k1=-0.170704
k2=0.0249542
p1=9.55189e-05
p2=-0.000109509
k3=-9.96888e-11

[RIGHT_CAM_HD]
fx=697.635
fy=697.63
cx=671.665
cy=354.611
k1=-0.171533
k2=0.0258402
p1=7.86599e-05
p2=-0.000136126
k3=-2.87251e-10

[LEFT_CAM_VGA]
fx=349.7

[STEREO]
Baseline=119.905
TY=0.0458908
TZ=-0.467919
CV_HD=0.00697667
RX_HD=0.00239722
RZ_HD=-0.0021326
CV_VGA=0.1

[MISC]
Sensor_ID=1
";

fn hd(text: &str) -> Result<StereoCamera, String> {
    let stereo = Calibration::parse(text).and_then(|calibration| calibration.for_size(1280, 720));
    stereo.map_err(|error| error.to_string())
}

/// What is said when a line of the file is another one.
fn complaint(line: &str, instead: &str) -> String {
    assert_eq!(CONF.matches(line).count(), 1, "{line}");
    hd(&CONF.replace(line, instead)).unwrap_err()
}

#[test]
fn all_that_is_in_the_file_is_read() {
    let stereo = hd(CONF).unwrap();
    let (left, right) = (stereo.left, stereo.right);
    assert_eq!((stereo.width, stereo.height), (1280, 720));
    assert_eq!([left.fx, left.fy, left.cx, left.cy], [699.41, 699.365, 652.8, 358.133]);
    assert_eq!(left.distortion, [-0.170704, 0.0249542, 9.55189e-05, -0.000109509, -9.96888e-11]);
    assert_eq!([right.fx, right.fy, right.cx, right.cy], [697.635, 697.63, 671.665, 354.611]);
    assert_eq!(right.distortion, [-0.171533, 0.0258402, 7.86599e-05, -0.000136126, -2.87251e-10]);
    assert_eq!(stereo.rotation, [0.00239722, 0.00697667, -0.0021326]);
    assert_eq!(stereo.translation, [119.905, 0.0458908, -0.467919]);
}

#[test]
fn names_in_any_case_windows_lines_spaces_comments_and_a_byte_order_mark_are_no_trouble() {
    let stereo = hd(CONF);
    assert_eq!(hd(&CONF.to_lowercase()), stereo);
    assert_eq!(hd(&CONF.replace('\n', "\r\n")), stereo);
    assert_eq!(hd(&CONF.replace('=', " = ")), stereo);
    assert_eq!(hd(&format!("\u{feff}# SN1\n; factory\n\n{CONF}")), stereo);
}

#[test]
fn ty_and_tz_may_be_told_by_resolution_or_not_at_all() {
    let by_resolution = CONF.replace("TY=", "TY_HD=").replace("TZ=", "TZ_HD=");
    assert_eq!(hd(&by_resolution).unwrap().translation, [119.905, 0.0458908, -0.467919]);
    let without: Vec<&str> = CONF.lines().filter(|line| !line.starts_with('T')).collect();
    assert_eq!(hd(&without.join("\n")).unwrap().translation, [119.905, 0.0, 0.0]);
}

#[test]
fn what_is_missing_is_named_with_its_section() {
    assert_eq!(complaint("k2=0.0258402\n", ""), "calibration: section [RIGHT_CAM_HD] has no k2");
    assert_eq!(complaint("Baseline=119.905\n", ""), "calibration: section [STEREO] has no Baseline");
    assert_eq!(complaint("CV_HD", "CV_2K"), "calibration: section [STEREO] has no CV_HD");
    let found = "the file has HD (1280x720), VGA (672x376)";
    assert_eq!(
        complaint("RIGHT_CAM_HD", "RIGHT"),
        format!("calibration: no section [RIGHT_CAM_HD]; {found}")
    );
    assert_eq!(complaint("[STEREO]", "[MONO]"), format!("calibration: no section [STEREO]; {found}"));
    let other = Calibration::parse(CONF).unwrap().for_size(1920, 1080).unwrap_err().to_string();
    assert_eq!(other, format!("calibration: no section [LEFT_CAM_FHD]; {found}"));
}

#[test]
fn a_wrong_value_is_named_with_its_section_key_and_rule() {
    for (line, instead, said) in [
        ("fx=699.41", "fx=699,41", "[LEFT_CAM_HD] fx=699,41: is not a number"),
        ("fx=699.41", "fx=", "[LEFT_CAM_HD] fx=: is not a number"),
        ("fx=699.41", "fx=0", "[LEFT_CAM_HD] fx=0: must be above 0"),
        ("fy=697.63\n", "fy=-697.63\n", "[RIGHT_CAM_HD] fy=-697.63: must be above 0"),
        ("cx=652.8", "cx=nan", "[LEFT_CAM_HD] cx=nan: must be finite"),
        ("k1=-0.170704", "k1=1e999", "[LEFT_CAM_HD] k1=1e999: must be finite"),
        ("Baseline=119.905", "Baseline=-119.905", "[STEREO] Baseline=-119.905: must be above 0"),
        ("TY=0.0458908", "TY=one", "[STEREO] TY=one: is not a number"),
        ("RX_HD=0.00239722", "RX_HD=-inf", "[STEREO] RX_HD=-inf: must be finite"),
    ] {
        assert_eq!(complaint(line, instead), format!("calibration: {said}"));
    }
}

#[test]
fn a_picture_of_another_size_is_refused_with_the_sizes_there_are() {
    let error = Calibration::parse(CONF).unwrap().for_size(2560, 720).unwrap_err().to_string();
    assert_eq!(
        error,
        "calibration: no calibration for pictures of 2560x720; there are 2K (2208x1242), FHD (1920x1080), \
         HD (1280x720), VGA (672x376), FHD1200 (1920x1200), SVGA (960x600), and the file has HD (1280x720), VGA (672x376)"
    );
    for resolution in Resolution::ALL {
        let (width, height) = resolution.size();
        assert_eq!(Resolution::of_size(width, height), Some(resolution));
    }
}

#[test]
fn a_file_that_is_no_calibration_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("SN1.conf");
    let said = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let said = Calibration::read(&file).unwrap_err().to_string();
        assert!(said.starts_with(&format!("{}: ", file.display())), "{said}");
        said
    };
    assert!(said(b"").contains("no section [LEFT_CAM_...]"));
    assert!(said(b"[PLAYER]\nname=x\n").contains("no section [LEFT_CAM_...]"));
    assert!(said(b"[LEFT_CAM_HD\nfx=1\n").contains("line "));
    assert!(said(&[0x89, b'M', b'C', b'A', b'P', 0xff]).contains("not text"));
    assert!(said(&vec![b'\n'; (1 << 20) + 1]).contains("larger than 1 MiB"));
    std::fs::write(&file, CONF).unwrap();
    assert_eq!(Calibration::read(&file).unwrap().for_size(1280, 720).unwrap(), hd(CONF).unwrap());
    let missing = Calibration::read(folder.path().join("SN2.conf")).unwrap_err().to_string();
    assert!(missing.contains("SN2.conf: ") && missing.contains("No such file"), "{missing}");
}

#[test]
fn a_calibration_that_cannot_be_rectified_is_refused_with_its_values() {
    let mut vertical = hd(CONF).unwrap();
    vertical.translation = [1.0, 120.0, 0.0];
    let error = Rectification::new(&vertical).unwrap_err().to_string();
    assert!(error.contains("[1.0, 120.0, 0.0] mm, which must be mainly along x"), "{error}");
    let mut folded = hd(CONF).unwrap();
    folded.rotation = [0.0, 3.0, 0.0];
    let error = Rectification::new(&folded).unwrap_err().to_string();
    assert!(error.contains("rotation [0.0, 3.0, 0.0] rad"), "{error}");
}

type Matrix = [[f64; 3]; 3];

fn rotate(m: &Matrix, v: [f64; 3]) -> [f64; 3] {
    m.map(|row| row[0] * v[0] + row[1] * v[1] + row[2] * v[2])
}

/// By thousands of small turns, which is slow and plain.
fn turned(about: [f64; 3], point: [f64; 3]) -> [f64; 3] {
    const STEPS: usize = 200_000;
    let [x, y, z] = about.map(|angle| angle / STEPS as f64);
    (0..STEPS).fold(point, |p, _| {
        let slope = |p: [f64; 3]| [y * p[2] - z * p[1], z * p[0] - x * p[2], x * p[1] - y * p[0]];
        let first = slope(p);
        let middle = slope([0, 1, 2].map(|axis| p[axis] + 0.5 * first[axis]));
        [0, 1, 2].map(|axis| p[axis] + middle[axis])
    })
}

#[test]
fn a_point_has_the_same_row_in_both_views_and_lies_further_left_in_the_right_one() {
    let stereo = hd(CONF).unwrap();
    let rectification = Rectification::new(&stereo).unwrap();
    let see = |eye, point| {
        let p = rectification.projection(eye);
        let [x, y, z] = rotate(&rectification.rotation(eye), point);
        [(p[0][0] * x + p[0][2] * z) / z, (p[1][1] * y + p[1][2] * z) / z]
    };
    let p = rectification.projection(Eye::Right);
    let (focal, shift) = (p[0][0], p[0][3]);
    assert!((shift + focal * rectification.baseline()).abs() < 1e-9);
    for point in [[0.0, 0.0, 1000.0], [700.0, -300.0, 1500.0], [-400.0, 350.0, 900.0]] {
        // The right camera stands at +x, so what is seen from there is further left by the baseline.
        let moved = turned(stereo.rotation, point);
        let other = [0, 1, 2].map(|axis| moved[axis] - stereo.translation[axis]);
        let (left, right) = (see(Eye::Left, point), see(Eye::Right, other));
        assert!((left[1] - right[1]).abs() < 1e-6, "{left:?} {right:?}");
        let depth = rotate(&rectification.rotation(Eye::Left), point)[2];
        let disparity = focal * rectification.baseline() / depth;
        assert!((left[0] - right[0] - disparity).abs() < 1e-6, "{left:?} {right:?} {disparity}");
    }
}
