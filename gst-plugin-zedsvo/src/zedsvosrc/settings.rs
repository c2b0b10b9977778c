// SPDX-License-Identifier: MPL-2.0

//! What a user can set, and the properties made from it.

use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;

/// Which of the two pictures is put out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstZedSvoView")]
#[repr(i32)]
pub enum ViewChoice {
    /// The left one.
    #[enum_value(name = "The left picture", nick = "left")]
    Left,
    /// The right one.
    #[enum_value(name = "The right picture", nick = "right")]
    Right,
    /// Both.
    #[enum_value(name = "Left and right beside each other, as recorded", nick = "side-by-side")]
    SideBySide,
}

impl ViewChoice {
    pub(super) fn nick(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
            Self::SideBySide => "side-by-side",
        }
    }
}

/// What is put out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstZedSvoOutput")]
#[repr(i32)]
pub enum OutputChoice {
    /// Raw video of the view.
    #[enum_value(name = "Raw video of the view", nick = "decoded")]
    Decoded,
    /// The bitstream.
    #[enum_value(name = "The bitstream of both pictures as recorded, H.264 or H.265", nick = "encoded")]
    Encoded,
}

#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub location: Option<String>,
    pub view: ViewChoice,
    pub output: OutputChoice,
    pub start_frame: i64,
    pub end_frame: i64,
    pub rectify: bool,
    pub calibration: Option<String>,
    pub decoder: Option<String>,
    pub sensors: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            location: None,
            view: ViewChoice::Left,
            output: OutputChoice::Decoded,
            start_frame: 0,
            end_frame: -1,
            rectify: false,
            calibration: None,
            decoder: None,
            sensors: false,
        }
    }
}

/// An empty text is as good as none.
fn text(value: &glib::Value) -> Option<String> {
    value.get::<Option<String>>().expect("type checked by GObject").filter(|text| !text.is_empty())
}

impl Settings {
    /// What settings exclude each other; `Err` names property, value and rule.
    pub fn check(&self) -> Result<&str, String> {
        let location = self.location.as_deref();
        let location = location.ok_or(
            "property 'location' is not set: it is the path of the recording, as in location=a.svo2",
        )?;
        if self.output == OutputChoice::Encoded {
            if self.view == ViewChoice::Right {
                return Err(format!(
                    "property 'view' = '{}' with 'output' = 'encoded': the bitstream has both pictures side by side, \
                     a single one needs output=decoded",
                    self.view.nick()
                ));
            }
            if self.rectify {
                return Err(
                    "property 'rectify' = true with 'output' = 'encoded': only decoded pictures can be \
                            rectified, set output=decoded"
                        .to_owned(),
                );
            }
            if let Some(decoder) = &self.decoder {
                return Err(format!(
                    "property 'decoder' = '{decoder}' with 'output' = 'encoded': nothing is decoded there"
                ));
            }
        }
        if self.rectify && self.calibration.is_none() {
            return Err(
                "rectify=true needs the property 'calibration', which is not set: it is the path of the \
                        camera's factory calibration, SN<serial>.conf"
                    .to_owned(),
            );
        }
        Ok(location)
    }

    /// The first and the last frame of `frames`; `Err` names property, value and rule.
    pub fn range(&self, frames: usize) -> Result<(usize, usize), String> {
        let last = frames - 1;
        let inside = |name: &str, value: i64| {
            usize::try_from(value)
                .ok()
                .filter(|&frame| frame < frames)
                .ok_or_else(|| format!("property '{name}' = {value}: the recording has frames 0 to {last}"))
        };
        let start = inside("start-frame", self.start_frame)?;
        let end = if self.end_frame == -1 { last } else { inside("end-frame", self.end_frame)? };
        if end < start {
            return Err(format!("property 'end-frame' = {end}: it lies before 'start-frame' = {start}"));
        }
        Ok((start, end))
    }

    pub fn set(&mut self, name: &str, value: &glib::Value) {
        const TYPE: &str = "type checked by GObject";
        match name {
            "location" => self.location = text(value),
            "view" => self.view = value.get().expect(TYPE),
            "output" => self.output = value.get().expect(TYPE),
            "start-frame" => self.start_frame = value.get().expect(TYPE),
            "end-frame" => self.end_frame = value.get().expect(TYPE),
            "rectify" => self.rectify = value.get().expect(TYPE),
            "calibration" => self.calibration = text(value),
            "decoder" => self.decoder = text(value),
            "sensors" => self.sensors = value.get().expect(TYPE),
            name => unreachable!("property '{name}' is not in the table"),
        }
    }

    pub fn get(&self, name: &str) -> glib::Value {
        match name {
            "location" => self.location.to_value(),
            "view" => self.view.to_value(),
            "output" => self.output.to_value(),
            "start-frame" => self.start_frame.to_value(),
            "end-frame" => self.end_frame.to_value(),
            "rectify" => self.rectify.to_value(),
            "calibration" => self.calibration.to_value(),
            "decoder" => self.decoder.to_value(),
            "sensors" => self.sensors.to_value(),
            name => unreachable!("property '{name}' is not in the table"),
        }
    }
}

pub(super) static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
    let defaults = Settings::default();
    vec![
        glib::ParamSpecString::builder("location")
            .nick("Location")
            .blurb("Path of the recording, an .svo2 file")
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("view", defaults.view)
            .nick("View")
            .blurb("Which of the two pictures is put out; with output=encoded it is always both")
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("output", defaults.output)
            .nick("Output")
            .blurb("Raw video, or the bitstream as recorded")
            .mutable_ready()
            .build(),
        glib::ParamSpecInt64::builder("start-frame")
            .nick("Start frame")
            .blurb("Index of the first frame; with output=encoded it begins where that frame's decoding does")
            .minimum(0)
            .default_value(defaults.start_frame)
            .mutable_ready()
            .build(),
        glib::ParamSpecInt64::builder("end-frame")
            .nick("End frame")
            .blurb("Index of the last frame, inclusive; -1 = the last of the recording")
            .minimum(-1)
            .default_value(defaults.end_frame)
            .mutable_ready()
            .build(),
        glib::ParamSpecBoolean::builder("rectify")
            .nick("Rectify")
            .blurb("Rectify the pictures; needs a calibration")
            .default_value(defaults.rectify)
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("calibration")
            .nick("Calibration")
            .blurb("Path of the camera's factory calibration, SN<serial>.conf")
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("decoder")
            .nick("Decoder")
            .blurb("Name of the decoder's factory, such as avdec_h265; unset = the highest rank that works")
            .mutable_ready()
            .build(),
        glib::ParamSpecBoolean::builder("sensors")
            .nick("Sensors")
            .blurb("Put the IMU's samples on the frames' buffers (GstZedSensorsMeta)")
            .default_value(defaults.sensors)
            .mutable_ready()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("info")
            .nick("Info")
            .blurb(
                "What the recording says of itself, since PAUSED: serial, sdk-version, width and height of one picture, \
                 fps, codec, frames, first-unix-time and last-unix-time (ns), damaged-frames, and more; NULL = not open",
            )
            .read_only()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("frames, bytes, damaged, skipped, seeks, unreadable-samples, decoder, found, found-why")
            .read_only()
            .build(),
    ]
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_setting_names_property_value_and_rule() {
        let with = |change: fn(&mut Settings)| {
            let mut settings = Settings { location: Some("a.svo2".into()), ..Settings::default() };
            change(&mut settings);
            settings.check().map(str::to_owned)
        };
        assert_eq!(with(|_| ()), Ok("a.svo2".to_owned()));
        assert!(with(|s| s.location = None).unwrap_err().starts_with("property 'location' is not set: "));
        let error = with(|s| (s.output, s.view) = (OutputChoice::Encoded, ViewChoice::Right)).unwrap_err();
        assert!(error.starts_with("property 'view' = 'right' with 'output' = 'encoded': "), "{error}");
        let error = with(|s| s.rectify = true).unwrap_err();
        assert!(error.starts_with("rectify=true needs the property 'calibration'"), "{error}");
    }

    #[test]
    fn ranges_are_inclusive_and_inside() {
        let range =
            |start, end| Settings { start_frame: start, end_frame: end, ..Settings::default() }.range(10);
        assert_eq!((range(0, -1), range(3, 3), range(9, 9)), (Ok((0, 9)), Ok((3, 3)), Ok((9, 9))));
        assert_eq!(
            range(10, -1).unwrap_err(),
            "property 'start-frame' = 10: the recording has frames 0 to 9"
        );
        assert_eq!(range(0, 10).unwrap_err(), "property 'end-frame' = 10: the recording has frames 0 to 9");
        assert_eq!(range(5, 4).unwrap_err(), "property 'end-frame' = 4: it lies before 'start-frame' = 5");
    }
}
