// SPDX-License-Identifier: MPL-2.0

//! Names on the NATS server, all made from a producer's target key.

/// The subjects of one producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subjects {
    key: String,
}

impl Subjects {
    /// `key` is [`Target::nats_target_key`](cvmmap_ipc::Target::nats_target_key).
    pub fn new(key: impl Into<String>) -> Self {
        Self { key: key.into() }
    }

    /// The target key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Where status events are published.
    pub fn status(&self) -> String {
        format!("cvmmap.{}.status", self.key)
    }

    /// Where body packets are published.
    pub fn body(&self) -> String {
        format!("cvmmap.{}.body", self.key)
    }

    /// Prefix of the newer dialect.
    pub fn producer(&self) -> String {
        format!("cvmmap.{}.producer", self.key)
    }

    /// Prefix of the older dialect.
    pub fn control(&self) -> String {
        format!("cvmmap.{}.control", self.key)
    }

    /// Prefix of the streamer's own endpoints.
    pub fn streamer(&self) -> String {
        format!("cvmmap.{}.streamer", self.key)
    }
}

/// The subject on which every producer's status events are heard.
pub const ANY_STATUS: &str = "cvmmap.*.status";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_made_from_the_key() {
        let target: cvmmap_ipc::Target = "cvmmap://cam.0?namespace=lab".parse().unwrap();
        let subjects = Subjects::new(target.nats_target_key());
        assert_eq!(subjects.status(), "cvmmap.lab_cam_0.status");
        assert_eq!(subjects.body(), "cvmmap.lab_cam_0.body");
        assert_eq!(subjects.producer(), "cvmmap.lab_cam_0.producer");
        assert_eq!(subjects.control(), "cvmmap.lab_cam_0.control");
        assert_eq!(subjects.streamer(), "cvmmap.lab_cam_0.streamer");
    }
}
