// SPDX-License-Identifier: MPL-2.0

//! People that walk before the simulator's camera: each frame's from its count alone.
//!
//! Metres, right-handed with y up, before a camera that looks along -z; joints are those of the format with 38.

use bytes::Bytes;
use cvmmap_control::body::MAX_JOINTS;
use cvmmap_control::{Body, BodyError, BodyHeader, BodyPacket};
use cvmmap_ipc::FrameId;

/// The most that there is room for before the camera.
pub(super) const MOST: u16 = 64;
/// Of the picture's width: some 70 degrees are seen.
const FOCAL: f32 = 0.7;
/// Radians from a frame to the next: a round of 4 s, and two steps each second, at 30 frames a second.
const TURN: f32 = 0.0524;
const STRIDE: f32 = 0.35;

const NOSE: usize = 5;
const KNEES: [usize; 2] = [20, 21];
const ANKLES: [usize; 2] = [22, 23];
const WRISTS: [usize; 2] = [16, 17];

/// Each joint's parent, and where it lies from there; the pelvis is its own.
const JOINTS: [(usize, [f32; 3]); MAX_JOINTS] = [
    (0, [0.0, 0.0, 0.0]),
    (0, [0.0, 0.12, 0.0]),
    (1, [0.0, 0.14, 0.0]),
    (2, [0.0, 0.14, 0.0]),
    (3, [0.0, 0.14, 0.0]),
    (4, [0.0, 0.14, 0.08]),
    (5, [0.03, 0.03, -0.02]),
    (5, [-0.03, 0.03, -0.02]),
    (6, [0.04, -0.01, -0.06]),
    (7, [-0.04, -0.01, -0.06]),
    (3, [0.05, 0.08, 0.0]),
    (3, [-0.05, 0.08, 0.0]),
    (10, [0.12, 0.0, 0.0]),
    (11, [-0.12, 0.0, 0.0]),
    (12, [0.03, -0.28, 0.0]),
    (13, [-0.03, -0.28, 0.0]),
    (14, [0.02, -0.25, 0.0]),
    (15, [-0.02, -0.25, 0.0]),
    (0, [0.1, -0.05, 0.0]),
    (0, [-0.1, -0.05, 0.0]),
    (18, [0.0, -0.42, 0.0]),
    (19, [0.0, -0.42, 0.0]),
    (20, [0.0, -0.42, 0.0]),
    (21, [0.0, -0.42, 0.0]),
    (22, [-0.02, -0.06, 0.15]),
    (23, [0.02, -0.06, 0.15]),
    (22, [0.04, -0.06, 0.12]),
    (23, [-0.04, -0.06, 0.12]),
    (22, [0.0, -0.06, -0.06]),
    (23, [0.0, -0.06, -0.06]),
    (16, [-0.03, -0.06, 0.02]),
    (17, [0.03, -0.06, 0.02]),
    (16, [-0.01, -0.1, 0.01]),
    (17, [0.01, -0.1, 0.01]),
    (16, [0.0, -0.16, 0.0]),
    (17, [0.0, -0.16, 0.0]),
    (16, [0.02, -0.1, 0.0]),
    (17, [-0.02, -0.1, 0.0]),
];

/// Who is seen in a frame, by whom.
#[derive(Debug, Clone)]
pub(super) struct People {
    pub count: u16,
    pub fps: f32,
    /// Of the picture, in pixels.
    pub size: (u32, u32),
    /// The producer's.
    pub label: String,
}

impl People {
    pub fn packet(&self, frame: FrameId) -> Result<Bytes, BodyError> {
        let bodies: Vec<Body> = (0..self.count).map(|person| self.body(person, frame.count)).collect();
        let mut header = BodyHeader::default();
        header.coordinate_system = 2;
        header.frame_count = frame.count;
        (header.timestamp_ns, header.sdk_timestamp_ns) = (frame.timestamp_ns, frame.timestamp_ns);
        // 38 joints, the model in the middle, new and tracked, by the camera.
        (header.format, header.model, header.flags, header.reference_frame) = (2, 1, 3, 1);
        header.label = self.label.clone();
        BodyPacket::encode(&header, &bodies).map(|packet| packet.bytes().clone())
    }

    fn body(&self, person: u16, count: u32) -> Body {
        // Beside each other, in rows of four.
        let (row, place) = (f32::from(person / 4), f32::from(person % 4));
        let home = [(place - 1.5) * 0.9, 0.0, -3.0 - row];
        let phase = TURN * count as f32 + f32::from(person);
        let position = [home[0] + 0.3 * phase.sin(), home[1], home[2] + 0.3 * phase.cos()];
        let per_second = 0.3 * TURN * self.fps;
        let velocity = [per_second * phase.cos(), 0.0, -per_second * phase.sin()];
        let swing = STRIDE * (8.0 * phase).sin();

        let mut local = JOINTS.map(|(_, offset)| offset);
        for (side, sign) in [(0, 1.0), (1, -1.0)] {
            local[KNEES[side]][2] += 0.5 * sign * swing;
            local[ANKLES[side]][2] += 0.5 * sign * swing;
            local[WRISTS[side]][2] -= 0.5 * sign * swing;
        }
        let mut joints = [[0.0; 3]; MAX_JOINTS];
        for (joint, (parent, _)) in JOINTS.into_iter().enumerate() {
            let from = if joint == 0 { position } else { joints[parent] };
            joints[joint] = std::array::from_fn(|axis| from[axis] + local[joint][axis]);
        }
        let (low, high) = bounds(&joints);
        let head = joints[NOSE];
        let around = head.map(|at| at - 0.12);
        let head_box = corners(around, head.map(|at| at + 0.12));
        let mut body = Body::default();
        body.id = i32::from(person);
        // Ok, and moving.
        (body.tracking_state, body.action_state, body.confidence) = (1, 1, 90.0);
        (body.position, body.velocity) = (position, velocity);
        body.position_covariance = VARIANCE;
        body.bounding_box_3d = corners(low, high);
        body.bounding_box_2d = self.outline(&body.bounding_box_3d);
        body.dimensions = std::array::from_fn(|axis| high[axis] - low[axis]);
        body.keypoint_2d = joints.map(|joint| self.pixel(joint));
        body.keypoint_3d = joints;
        body.keypoint_confidence = [90.0; MAX_JOINTS];
        body.keypoint_covariance = [VARIANCE; MAX_JOINTS];
        body.head_bounding_box_2d = self.outline(&head_box);
        body.head_bounding_box_3d = head_box;
        body.head_position = head;
        body.local_position_per_joint = local;
        body.local_orientation_per_joint = [UPRIGHT; MAX_JOINTS];
        body.global_root_orientation = UPRIGHT;
        body.keypoint_count = MAX_JOINTS as u16;
        // With local joints and a root orientation.
        body.flags = 3;
        body
    }

    fn pixel(&self, [x, y, z]: [f32; 3]) -> [f32; 2] {
        let (width, height) = (self.size.0 as f32, self.size.1 as f32);
        let focal = FOCAL * width;
        [width / 2.0 - focal * x / z, height / 2.0 + focal * y / z]
    }

    /// The corners' bounds in the picture, clockwise from the top left.
    fn outline(&self, corners: &[[f32; 3]; 8]) -> [[f32; 2]; 4] {
        let ([left, top], [right, bottom]) = bounds(&corners.map(|corner| self.pixel(corner)));
        [[left, top], [right, top], [right, bottom], [left, bottom]]
    }
}

/// The unit quaternion: x, y, z, w.
const UPRIGHT: [f32; 4] = [0.0, 0.0, 0.0, 1.0];
/// A centimetre along each axis.
const VARIANCE: [f32; 6] = [1e-4, 0.0, 0.0, 1e-4, 0.0, 1e-4];

fn bounds<const N: usize>(points: &[[f32; N]]) -> ([f32; N], [f32; N]) {
    points.iter().fold(([f32::MAX; N], [f32::MIN; N]), |(low, high), point| {
        (
            std::array::from_fn(|axis| low[axis].min(point[axis])),
            std::array::from_fn(|axis| high[axis].max(point[axis])),
        )
    })
}

/// The upper four, then the lower ones, each around.
fn corners(low: [f32; 3], high: [f32; 3]) -> [[f32; 3]; 8] {
    let around = [(low, high), (high, high), (high, low), (low, low)];
    std::array::from_fn(|n| {
        let (x, z) = around[n % 4];
        [x[0], if n < 4 { high[1] } else { low[1] }, z[2]]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn people() -> People {
        People { count: 5, fps: 30.0, size: (640, 360), label: "cam0".into() }
    }

    fn bodies(count: u32) -> Vec<Body> {
        let packet = people().packet(FrameId { count, timestamp_ns: 7 }).unwrap();
        BodyPacket::parse(packet).unwrap().bodies().collect()
    }

    #[test]
    fn frames_of_the_same_count_have_the_same_bodies_and_others_do_not() {
        assert_eq!(bodies(9), bodies(9));
        let (before, after) = (bodies(9), bodies(10));
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(before.id, after.id);
            for axis in [0, 2] {
                // What is said of the speed is what is seen of it.
                let seen = (after.position[axis] - before.position[axis]) * 30.0;
                assert!((seen - before.velocity[axis]).abs() < 0.05, "{axis}: {seen} {:?}", before.velocity);
            }
            assert!(before.position != after.position);
        }
    }

    #[test]
    fn people_are_of_human_size_and_before_the_camera() {
        for count in [0, 40, 100_000] {
            for body in bodies(count) {
                let [width, height, depth] = body.dimensions;
                assert!((1.3..2.0).contains(&height) && width < 0.8 && depth < 1.2, "{:?}", body.dimensions);
                assert!(body.keypoint_3d.iter().all(|joint| joint[2] < -1.0));
                let [[left, top], _, [right, bottom], _] = body.bounding_box_2d;
                assert!(left < right && top < bottom, "{:?}", body.bounding_box_2d);
                let inside = |&[x, y]: &[f32; 2]| (left..=right).contains(&x) && (top..=bottom).contains(&y);
                assert!(body.keypoint_2d.iter().all(inside));
                // Up in space is up in the picture.
                assert!(body.keypoint_2d[NOSE][1] < body.keypoint_2d[ANKLES[0]][1]);
            }
        }
    }
}
