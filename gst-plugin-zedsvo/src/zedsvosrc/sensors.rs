// SPDX-License-Identifier: MPL-2.0

//! The IMU's samples as a meta of the frames.

use std::sync::Arc;

use svo2::{Recording, Sample, SensorReader, Sensors};

/// Name of the custom meta, and of its structure.
pub const SENSORS_META: &str = "GstZedSensorsMeta";

/// Registers the meta. It has no tags, so that it survives copies and whatever is done to the picture.
pub(crate) fn register_meta() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| gst::meta::CustomMeta::register(SENSORS_META, &[]));
}

/// What the IMU said up to a frame.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FrameSensors {
    /// After the frame before this one, up to it; oldest first.
    pub raw: Vec<Sample>,
    /// Integrated over the frame.
    pub integrated: Option<Sample>,
}

/// The samples that `zedsvosrc sensors=true` put on a buffer; `None` where the buffer has none.
pub fn sensors_of(buffer: &gst::BufferRef) -> Option<FrameSensors> {
    let meta = gst::meta::CustomMeta::from_buffer(buffer, SENSORS_META).ok()?;
    let structure = meta.structure();
    let raw = structure.get::<gst::Array>("raw").ok()?;
    let raw = raw.iter().filter_map(|value| value.get::<gst::Structure>().ok());
    Some(FrameSensors {
        raw: raw.filter_map(|sample| read(&sample)).collect(),
        integrated: structure.get::<gst::Structure>("integrated").ok().and_then(|sample| read(&sample)),
    })
}

/// Reads both topics of a recording.
pub(super) struct Imu {
    raw: Option<SensorReader>,
    integrated: Option<SensorReader>,
    pub unreadable: u64,
}

impl Imu {
    /// `Err` says why there is nothing to read.
    pub fn open(recording: &Arc<Recording>) -> Result<Self, String> {
        let reader = |sensors| SensorReader::new(recording.clone(), sensors);
        let (raw, integrated) = (reader(Sensors::Raw), reader(Sensors::Integrated));
        if raw.is_none() && integrated.is_none() {
            return Err("the recording has no topic of the IMU".to_owned());
        }
        Ok(Self { raw, integrated, unreadable: 0 })
    }

    /// Puts on a frame's buffer what was measured after `before` up to the frame, and the integrated sample of the frame
    /// alone, which comes after `previous`; ns since 1970.
    pub fn attach(&mut self, buffer: &mut gst::BufferRef, before: u64, previous: u64, unix_ns: u64) {
        let mut take = |reader: &mut Option<SensorReader>, after| {
            let mut samples = Vec::new();
            for sample in reader.iter_mut().flat_map(|reader| reader.between(after, unix_ns)) {
                match sample {
                    Ok(sample) => samples.push(sample),
                    Err(_) => self.unreadable += 1,
                }
            }
            samples
        };
        let raw = take(&mut self.raw, before);
        let integrated = take(&mut self.integrated, previous).pop();
        let mut meta = gst::meta::CustomMeta::add(buffer, SENSORS_META).expect("registered with the plugin");
        let structure = meta.mut_structure();
        structure.set("raw", gst::Array::new(raw.iter().map(|sample| described("raw", sample))));
        if let Some(sample) = &integrated {
            structure.set("integrated", described("integrated", sample));
        }
    }
}

fn described(name: &str, sample: &Sample) -> gst::Structure {
    let floats = |values: &[f32]| gst::Array::new(values.iter().copied());
    gst::Structure::builder(name)
        .field("unix-time", sample.unix_ns)
        .field("boot-time", sample.boot_ns)
        .field("orientation", floats(&sample.orientation))
        .field("angular-velocity", floats(&sample.angular_velocity))
        .field("linear-acceleration", floats(&sample.linear_acceleration))
        .field("raw-angular-velocity", floats(&sample.raw_angular_velocity))
        .field("raw-linear-acceleration", floats(&sample.raw_linear_acceleration))
        .field("angular-velocity-variance", floats(&sample.angular_velocity_variance))
        .field("linear-acceleration-variance", floats(&sample.linear_acceleration_variance))
        .field("temperature", sample.temperature)
        .field("rate", sample.rate_hz)
        .build()
}

fn read(structure: &gst::StructureRef) -> Option<Sample> {
    fn floats<const COUNT: usize>(structure: &gst::StructureRef, name: &str) -> Option<[f32; COUNT]> {
        let array = structure.get::<gst::Array>(name).ok()?;
        let values = array.iter().map(|value| value.get::<f32>().ok()).collect::<Option<Vec<_>>>()?;
        values.try_into().ok()
    }
    Some(Sample {
        unix_ns: structure.get("unix-time").ok()?,
        boot_ns: structure.get("boot-time").ok()?,
        orientation: floats(structure, "orientation")?,
        angular_velocity: floats(structure, "angular-velocity")?,
        linear_acceleration: floats(structure, "linear-acceleration")?,
        raw_angular_velocity: floats(structure, "raw-angular-velocity")?,
        raw_linear_acceleration: floats(structure, "raw-linear-acceleration")?,
        angular_velocity_variance: floats(structure, "angular-velocity-variance")?,
        linear_acceleration_variance: floats(structure, "linear-acceleration-variance")?,
        temperature: structure.get("temperature").ok()?,
        rate_hz: structure.get("rate").ok()?,
    })
}
