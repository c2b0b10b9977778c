// SPDX-License-Identifier: MPL-2.0

//! Action signals: what a producer can be asked for, structures in and structures out.

use std::future::Future;
use std::sync::LazyLock;
use std::time::Duration;

use cvmmap_control::proto::*;
use cvmmap_control::{ControlError, Link, Recorder, Source, block_on, names};
use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::imp::CvMmapSrc;

/// How long an action waits for a connection that was only just begun.
const CONNECTED_WITHIN: Duration = Duration::from_secs(1);

/// Why there is no answer: a name for programs, and the words.
#[derive(Debug, PartialEq)]
struct Failure(&'static str, String);

type Outcome = Result<gst::Structure, Failure>;

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        Self(error.name(), error.to_string())
    }
}

fn invalid(why: String) -> Failure {
    Failure("invalid-request", why)
}

/// A structure's fields, each checked for its type; their names may not be others than are asked for.
struct Request<'a>(Option<&'a gst::StructureRef>);

impl Request<'_> {
    fn optional<'v, T: glib::value::FromValue<'v> + 'static>(
        &'v self,
        name: &str,
        what: &str,
    ) -> Result<Option<T>, Failure> {
        let Some(structure) = self.0.filter(|structure| structure.has_field(name)) else { return Ok(None) };
        let value = structure.value(name).map_err(|error| invalid(format!("field '{name}': {error}")))?;
        value.get().map(Some).map_err(|_| invalid(format!("field '{name}' = {value:?}: it is {what}")))
    }

    fn wanted<T>(name: &str, what: &str, value: Option<T>) -> Result<T, Failure> {
        value.ok_or_else(|| invalid(format!("field '{name}' is missing: it is {what}")))
    }

    fn has(&self, name: &str) -> bool {
        self.0.is_some_and(|structure| structure.has_field(name))
    }

    /// An integer of any of GStreamer's types, within the limits of `T`.
    fn integer<T: TryFrom<i64>>(&self, name: &str, what: &str) -> Result<Option<T>, Failure> {
        let Some(structure) = self.0.filter(|structure| structure.has_field(name)) else { return Ok(None) };
        let value = structure.value(name).map_err(|error| invalid(format!("field '{name}': {error}")))?;
        let number = (value.get::<i32>().map(i64::from).ok())
            .or_else(|| value.get::<u32>().map(i64::from).ok())
            .or_else(|| value.get::<i64>().ok())
            .or_else(|| value.get::<u64>().ok().and_then(|number| i64::try_from(number).ok()));
        let number = number.and_then(|number| T::try_from(number).ok());
        number.map(Some).ok_or_else(|| invalid(format!("field '{name}' = {value:?}: it is {what}")))
    }

    fn text(&self, name: &str, what: &str) -> Result<Option<String>, Failure> {
        self.optional::<Option<String>>(name, what).map(Option::flatten)
    }

    /// One of the names, or its number.
    fn number_of(&self, name: &str, names: &names::Names) -> Result<i32, Failure> {
        let what = format!("a number, or one of {names}");
        if let Ok(Some(number)) = self.integer::<i32>(name, &what) {
            return Ok(number);
        }
        let text = Self::wanted(name, &what, self.text(name, &what)?)?;
        names.number(&text).ok_or_else(|| invalid(format!("field '{name}' = '{text}': it is {what}")))
    }

    /// A list or an array of strings, or one string.
    fn texts(&self, name: &str) -> Result<Vec<String>, Failure> {
        let what = "a string, or a list or array of strings";
        let Some(structure) = self.0.filter(|structure| structure.has_field(name)) else {
            return Self::wanted(name, what, None);
        };
        let value = structure.value(name).map_err(|error| invalid(format!("field '{name}': {error}")))?;
        let each = |values: &[glib::SendValue]| {
            values.iter().map(|value| value.get::<String>()).collect::<Result<Vec<_>, _>>().ok()
        };
        let texts = if let Ok(list) = value.get::<gst::List>() {
            each(list.as_slice())
        } else if let Ok(array) = value.get::<gst::Array>() {
            each(array.as_slice())
        } else if let Ok(strings) = value.get::<Vec<String>>() {
            Some(strings)
        } else {
            value.get::<String>().ok().map(|text| vec![text])
        };
        texts.ok_or_else(|| invalid(format!("field '{name}' = {value:?}: it is {what}")))
    }
}

fn camera_state(state: CameraControlState) -> gst::Structure {
    gst::Structure::builder("state")
        .field("setting", names::CAMERA_SETTINGS.name_or_unknown(state.setting))
        .field("setting-number", state.setting)
        .field("kind", names::CAMERA_VALUE_KINDS.name_or_unknown(state.kind))
        .field("value", state.value)
        .field("min-value", state.min_value)
        .field("max-value", state.max_value)
        .build()
}

fn playlist(info: PlaylistInfo) -> gst::Structure {
    gst::Structure::builder("playlist")
        .field("has-playlist", info.has_playlist)
        .field("paths", gst::Array::new(info.paths))
        .field("sort-by-recording-time", info.sort_by_recording_time)
        .field("current-index", info.current_index)
        .field("current-path", info.current_path)
        .build()
}

fn recording(status: RecordingStatusResponse) -> gst::Structure {
    gst::Structure::builder("recording")
        .field("format", names::RECORDING_FORMATS.name_or_unknown(status.format))
        .field("can-record", status.can_record)
        .field("is-recording", status.is_recording)
        .field("is-paused", status.is_paused)
        .field("last-frame-ok", status.last_frame_ok)
        .field("frames-ingested", status.frames_ingested)
        .field("frames-encoded", status.frames_encoded)
        .field("active-path", status.active_path)
        .build()
}

/// Whose recorder, and of what: `recorder` is `producer` unless it is said, and `format` one of that recorder's.
fn recorder(request: &Request) -> Result<Recorder, Failure> {
    let whose = request.text("recorder", "'producer' or 'streamer'")?.unwrap_or("producer".into());
    let format = |formats: &str| {
        let format = request.text("format", formats)?;
        Request::wanted("format", formats, format)
    };
    let wrong =
        |format: &str, formats: &str| Err(invalid(format!("field 'format' = '{format}': it is {formats}")));
    match whose.as_str() {
        "producer" => match format("'svo' or 'mcap'")?.as_str() {
            "svo" => Ok(Recorder::Svo),
            "mcap" => Ok(Recorder::Mcap),
            other => wrong(other, "'svo' or 'mcap'"),
        },
        "streamer" => match format("'mp4' or 'mcap'")?.as_str() {
            "mp4" => Ok(Recorder::StreamerMp4),
            "mcap" => Ok(Recorder::StreamerMcap),
            other => wrong(other, "'mp4' or 'mcap'"),
        },
        other => Err(invalid(format!("field 'recorder' = '{other}': it is 'producer' or 'streamer'"))),
    }
}

fn recording_request(request: &Request, recorder: Recorder) -> Result<RecordingStartRequest, Failure> {
    let what = "a path on the recorder's machine";
    let output_path = Request::wanted("path", what, request.text("path", what)?)?;
    let text = |name: &str| request.text(name, "a string");
    let number = |name: &str| request.integer::<u32>(name, "a number of 32 bits");
    let svo = SvoRecordingOptions {
        compression_mode: text("compression-mode")?,
        bitrate: number("bitrate")?,
        target_framerate: number("target-framerate")?,
        transcode_streaming_input: request.optional("transcode-streaming-input", "a boolean")?,
    };
    let mcap = McapRecordingOptions {
        compression: text("compression")?,
        topic: text("topic")?,
        depth_topic: text("depth-topic")?,
        body_topic: text("body-topic")?,
        frame_id: text("frame-id")?,
    };
    let (svo_empty, mcap_empty) = (svo == Default::default(), mcap == Default::default());
    let is_mcap = matches!(recorder, Recorder::Mcap | Recorder::StreamerMcap);
    if !svo_empty && recorder != Recorder::Svo {
        return Err(invalid("compression-mode, bitrate, target-framerate and transcode-streaming-input are of the format 'svo'".into()));
    }
    if !mcap_empty && !is_mcap {
        return Err(invalid(
            "compression, topic, depth-topic, body-topic and frame-id are of the format 'mcap'".into(),
        ));
    }
    Ok(RecordingStartRequest {
        output_path,
        svo: (!svo_empty).then_some(svo),
        mcap: (!mcap_empty).then_some(mcap),
    })
}

/// Waits for the answer, with the limit of all requests.
fn ask<A, F>(source: Source, request: impl FnOnce(Source) -> F + Send + 'static) -> Result<A, Failure>
where
    A: Send + 'static,
    F: Future<Output = Result<A, ControlError>> + Send,
{
    let limit = source.limit() + CONNECTED_WITHIN;
    let asked = async move {
        // Down is known at once; only what was just begun is worth a wait.
        if source.connection().link() == Link::Connecting {
            source.connection().connected(CONNECTED_WITHIN).await?;
        }
        request(source).await
    };
    match block_on(asked, limit) {
        Ok(answer) => Ok(answer?),
        Err(late) => Err(Failure("timeout", late.to_string())),
    }
}

fn reset_frame_count(source: Source, _: Request) -> Outcome {
    ask(source, |source| async move { source.reset_frame_count().await })?;
    Ok(gst::Structure::new_empty("reset"))
}

fn get_camera_control(source: Source, request: Request) -> Outcome {
    let setting = request.number_of("setting", &names::CAMERA_SETTINGS)?;
    ask(source, move |source| async move { source.camera_control(setting).await }).map(camera_state)
}

fn set_camera_control(source: Source, request: Request) -> Outcome {
    let setting = request.number_of("setting", &names::CAMERA_SETTINGS)?;
    let integer = |name: &str| request.integer::<i32>(name, "a number of 32 bits");
    if request.has("min") || request.has("max") {
        let [min, max] = [("min", integer("min")?), ("max", integer("max")?)]
            .map(|(name, value)| Request::wanted(name, "the other end of the range", value));
        let (min, max) = (min?, max?);
        return ask(source, move |source| async move { source.set_camera_range(setting, min, max).await })
            .map(camera_state);
    }
    let mode =
        match request.has("mode") {
            true => CameraControlMode::try_from(request.number_of("mode", &names::CAMERA_MODES)?).map_err(
                |_| invalid(format!("field 'mode': it is a number, or one of {}", names::CAMERA_MODES)),
            )?,
            false => CameraControlMode::Manual,
        };
    let value = match mode {
        CameraControlMode::Auto => integer("value")?.unwrap_or(0),
        _ => {
            Request::wanted("value", "a number, or 'min' and 'max', or 'mode' is 'auto'", integer("value")?)?
        }
    };
    ask(source, move |source| async move { source.set_camera_control(setting, mode, value).await })
        .map(camera_state)
}

fn apply_playlist(source: Source, request: Request) -> Outcome {
    let paths = request.texts("paths")?;
    let sort = request.optional("sort", "a boolean")?.unwrap_or(false);
    ask(source, move |source| async move { source.apply_playlist(paths, sort).await }).map(playlist)
}

fn start_recording(source: Source, request: Request) -> Outcome {
    let recorder = recorder(&request)?;
    let start = recording_request(&request, recorder)?;
    ask(source, move |source| async move { source.start_recording(recorder, start).await }).map(recording)
}

/// Whether the failure says that there is no such recorder.
fn has_none(error: &ControlError) -> bool {
    let codes = [ErrorCode::Unsupported, ErrorCode::UnknownCmd].map(|code| Some(code.into()));
    matches!(error, ControlError::NoResponders { .. }) || codes.contains(&error.code())
}

/// Without a structure the producer's recorder of whichever format it is that records.
fn stop_recording(source: Source, request: Request) -> Outcome {
    if request.has("format") || request.has("recorder") {
        let recorder = recorder(&request)?;
        return ask(source, move |source| async move { source.stop_recording(recorder).await })
            .map(recording);
    }
    let stop = |source: Source| async move {
        // The newer dialect has no MCAP, the older one may.
        match source.recording_status(Recorder::Mcap).await {
            Ok(status) if status.is_recording => source.stop_recording(Recorder::Mcap).await,
            Ok(_) => source.stop_recording(Recorder::Svo).await,
            Err(error) if has_none(&error) => source.stop_recording(Recorder::Svo).await,
            // It may record for all we know, and the other one is not what was meant then.
            Err(error) => Err(error),
        }
    };
    ask(source, stop).map(recording)
}

type Action = fn(Source, Request) -> Outcome;

const ACTIONS: [(&str, bool, Action); 6] = [
    ("reset-frame-count", false, reset_frame_count),
    ("get-camera-control", true, get_camera_control),
    ("set-camera-control", true, set_camera_control),
    ("apply-playlist", true, apply_playlist),
    ("start-recording", true, start_recording),
    ("stop-recording", true, stop_recording),
];

/// The answer with its fields, `error` and `error-message`.
fn result(name: &str, outcome: Outcome) -> gst::Structure {
    let (error, message, mut answer) = match outcome {
        Ok(answer) => ("ok", String::new(), answer),
        Err(Failure(name, message)) => (name, message, gst::Structure::new_empty("none")),
    };
    answer.set_name(format!("{name}-result"));
    answer.set("error", error);
    answer.set("error-message", message);
    answer
}

impl CvMmapSrc {
    fn act(&self, action: Action, request: Request) -> Outcome {
        let Some(control) = self.open_connection() else {
            // The property alone tells which of the two it is.
            return Err(match self.settings.lock().unwrap().server() {
                Ok(None) => Failure("off", "property 'nats-url' is empty".into()),
                _ => Failure("not-connected", "the element connects on its way to PAUSED".into()),
            });
        };
        action(control.source.clone(), request)
    }
}

pub(super) static SIGNALS: LazyLock<Vec<glib::subclass::Signal>> = LazyLock::new(|| {
    ACTIONS
        .into_iter()
        .map(|(name, takes, action)| {
            let params = takes.then(gst::Structure::static_type);
            glib::subclass::Signal::builder(name)
                .action()
                .run_last()
                .param_types(params)
                .return_type::<gst::Structure>()
                .class_handler(move |args| {
                    let element = args[0].get::<super::CvMmapSrc>().expect("emitted on the element");
                    let request =
                        args.get(1).and_then(|arg| arg.get::<Option<gst::Structure>>().ok().flatten());
                    let request = Request(request.as_deref());
                    Some(result(name, element.imp().act(action, request)).to_value())
                })
                .build()
        })
        .collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorder_that_does_not_answer_is_not_one_that_is_not_there() {
        let subject = || "s".to_owned();
        let refused = |code: ErrorCode| ControlError::Refused {
            subject: subject(),
            code: cvmmap_control::error::Code(code.into()),
            message: String::new(),
        };
        assert!(has_none(&ControlError::NoResponders { subject: subject() }));
        assert!(has_none(&refused(ErrorCode::Unsupported)));
        assert!(!has_none(&refused(ErrorCode::Error)));
        assert!(!has_none(&ControlError::TimedOut { subject: subject(), after: Duration::from_secs(1) }));
    }

    #[test]
    fn a_request_is_checked_field_by_field() {
        gst::init().unwrap();
        let recorder_of = |structure: &gst::Structure| {
            let request = Request(Some(structure));
            recorder(&request)
                .and_then(|recorder| recording_request(&request, recorder).map(|start| (recorder, start)))
        };
        let base = || gst::Structure::builder("r").field("path", "/tmp/a").field("format", "svo");
        let (recorder, start) = recorder_of(&base().field("bitrate", 5i32).build()).unwrap();
        assert_eq!((recorder, start.svo.unwrap().bitrate), (Recorder::Svo, Some(5)));
        for (structure, words) in [
            (gst::Structure::new_empty("r"), "'format' is missing"),
            (base().field("format", "avi").build(), "'format' = 'avi'"),
            (base().field("recorder", "me").build(), "'recorder' = 'me'"),
            (base().field("path", 5i32).build(), "field 'path'"),
            (base().field("bitrate", -1i32).build(), "field 'bitrate'"),
            (base().field("topic", "/x").build(), "of the format 'mcap'"),
            (base().field("transcode-streaming-input", "yes").build(), "it is a boolean"),
        ] {
            let Failure(name, message) = recorder_of(&structure).unwrap_err();
            assert_eq!(name, "invalid-request");
            assert!(message.contains(words), "{message}");
        }
        let setting = |value: glib::SendValue| {
            let mut structure = gst::Structure::new_empty("r");
            structure.set_value("setting", value);
            Request(Some(&structure)).number_of("setting", &names::CAMERA_SETTINGS)
        };
        assert_eq!(setting("gain".to_send_value()), Ok(2));
        assert_eq!(setting(99i32.to_send_value()), Ok(99));
        assert_eq!(setting(7u64.to_send_value()), Ok(7));
        assert!(setting("zoom".to_send_value()).unwrap_err().1.contains("one of exposure, gain"));
        assert!(setting(1.5f64.to_send_value()).is_err());
    }
}
