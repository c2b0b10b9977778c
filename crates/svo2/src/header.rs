// SPDX-License-Identifier: MPL-2.0

//! The recording's own header: one JSON message with a binary block of 128 bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// Bytes of the binary block.
pub const BLOCK_LEN: usize = 128;

/// What a recording says of itself. Fields that the file does not have are 0 or empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Header {
    /// Version of the SDK that recorded it.
    pub sdk_version: String,
    /// Version of the format.
    pub version: String,
    /// Samples of the IMU in a second.
    pub imu_hz: f64,
    /// Width in pixels, of one picture or of both side by side: sources differ.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Serial number of the camera.
    pub serial: u32,
    /// Pictures in a second.
    pub fps: u32,
    /// Number of the camera's model.
    pub model: u32,
}

#[derive(Deserialize)]
struct Json {
    #[serde(rename = "ZED_SDK_version", default)]
    sdk_version: serde_json::Value,
    #[serde(default)]
    version: serde_json::Value,
    #[serde(rename = "IMU_frequency", default)]
    imu_hz: serde_json::Value,
    #[serde(default)]
    header: String,
}

impl Header {
    /// Reads the message of topic `svo_header`.
    ///
    /// # Errors
    /// What the JSON or the block in it lacks.
    pub fn parse(message: &[u8]) -> Result<Self, String> {
        let json: Json =
            serde_json::from_slice(message).map_err(|error| format!("the header is no JSON: {error}"))?;
        let block = STANDARD
            .decode(&json.header)
            .map_err(|error| format!("the header's block is no base64: {error}"))?;
        if block.len() < BLOCK_LEN {
            return Err(format!("the header's block has {} bytes, not {BLOCK_LEN}", block.len()));
        }
        let word = |at: usize| u32::from_le_bytes(block[at..at + 4].try_into().expect("four bytes"));
        Ok(Self {
            sdk_version: text(&json.sdk_version),
            version: text(&json.version),
            imu_hz: text(&json.imu_hz).parse().unwrap_or_default(),
            width: word(0x00),
            height: word(0x04),
            serial: word(0x08),
            fps: word(0x0c),
            model: word(0x20),
        })
    }
}

impl Header {
    /// The message of topic `svo_header`.
    pub(crate) fn message(&self) -> Vec<u8> {
        /// Calibration of the IMU, which nobody knows here.
        const CALIBRATION: [u8; 72] = [0; 72];
        let mut block = [0; BLOCK_LEN];
        let mut put = |at: usize, bytes: [u8; 4]| block[at..at + 4].copy_from_slice(&bytes);
        put(0x00, self.width.to_le_bytes());
        put(0x04, self.height.to_le_bytes());
        put(0x08, self.serial.to_le_bytes());
        put(0x0c, self.fps.to_le_bytes());
        put(0x14, 8u32.to_le_bytes());
        put(0x20, self.model.to_le_bytes());
        put(0x60, 1f32.to_le_bytes());
        let json = serde_json::json!({
            "ZED_SDK_version": self.sdk_version,
            "version": self.version,
            "IMU_frequency": self.imu_hz,
            "Calib_acc": STANDARD.encode(CALIBRATION),
            "Calib_gyro": STANDARD.encode(CALIBRATION),
            "header": STANDARD.encode(block),
        });
        serde_json::to_vec(&json).expect("it is JSON")
    }
}

/// Strings and numbers are both seen in the same fields.
fn text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2560x720 at 60 fps of camera 41234567, model 4; the other fields as they were seen, and by hand.
    const BLOCK: [u8; BLOCK_LEN] = {
        let mut block = [0xee; BLOCK_LEN];
        let words = [0, 0x0a, 0, 0, 0xd0, 2, 0, 0, 0x87, 0x30, 0x75, 0x02, 60, 0, 0, 0];
        let mut at = 0;
        while at < words.len() {
            block[at] = words[at];
            at += 1;
        }
        block[0x20] = 4;
        (block[0x21], block[0x22], block[0x23]) = (0, 0, 0);
        block
    };

    fn message(block: &[u8]) -> String {
        let block = STANDARD.encode(block);
        format!(
            r#"{{"ZED_SDK_version":"5.0.3","version":"2.0.4","IMU_frequency":400,"Calib_acc":"","more":[1],"header":"{block}"}}"#
        )
    }

    #[test]
    fn fields_lie_where_the_contract_has_them() {
        let want = Header {
            sdk_version: "5.0.3".to_owned(),
            version: "2.0.4".to_owned(),
            imu_hz: 400.0,
            width: 2560,
            height: 720,
            serial: 41_234_567,
            fps: 60,
            model: 4,
        };
        assert_eq!(Header::parse(message(&BLOCK).as_bytes()), Ok(want.clone()));
        assert_eq!(Header::parse(&want.message()), Ok(want));
        // Longer ones may come; fields may be missing, or text where a number was.
        let long = [&BLOCK[..], &[1; 9]].concat();
        let block = STANDARD.encode(long);
        let other = format!(r#"{{"IMU_frequency":"200.0","version":2,"header":"{block}"}}"#);
        let other = Header::parse(other.as_bytes()).unwrap();
        assert_eq!((other.imu_hz, other.version.as_str(), other.sdk_version.as_str()), (200.0, "2", ""));
        assert_eq!(other.width, 2560);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let fault = |message: &str| Header::parse(message.as_bytes()).unwrap_err();
        assert!(fault("{").starts_with("the header is no JSON: "));
        assert!(fault("7").starts_with("the header is no JSON: "));
        assert!(fault(r#"{"header":"?"}"#).starts_with("the header's block is no base64: "));
        assert_eq!(fault(&message(&BLOCK[..127])), "the header's block has 127 bytes, not 128");
        assert_eq!(fault("{}"), "the header's block has 0 bytes, not 128");
    }
}
