// SPDX-License-Identifier: MPL-2.0

//! A recording that the SDK has open: its frames, depth, poses and calibration.

use std::cell::{Cell, OnceCell};
use std::ffi::CString;
use std::fmt;
use std::marker::PhantomData;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Mutex;

use crate::calibration::Calibration;
use crate::error::{Code, Error, SdkError};
use crate::ffi::layout::{MAT_U8_C4, MAT_U16_C1, MEASURE_DEPTH_U16_MM};
use crate::ffi::{Mat, Memory};
use crate::load::{Loaded, Sdk};
use crate::parameters::{InitParameters, ReferenceFrame, RuntimeParameters, View, size};
use crate::pose::{Pose, PositionalTracking};

/// Ids of cameras in one process: as many as segments have, and as the interface is built for at least.
const IDS: usize = 4;

/// Which ids of a library's are whose.
#[derive(Default)]
pub(crate) struct Ids(Mutex<[Id; IDS]>);

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Id {
    /// Never used.
    #[default]
    Free,
    /// A camera's.
    Taken,
    /// Its camera is closed; the library keeps what it made for it.
    Again,
    /// Somebody else in this process has it.
    Foreign,
}

impl Ids {
    /// A free one, and whether it was used before.
    fn take(&self) -> Option<(usize, bool)> {
        let mut ids = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let id = ids.iter().position(|id| matches!(id, Id::Free | Id::Again))?;
        let again = ids[id] == Id::Again;
        ids[id] = Id::Taken;
        Some((id, again))
    }

    fn set(&self, id: usize, state: Id) {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())[id] = state;
    }
}

/// The one owner of an id; gives it back when dropped, behind the camera.
struct Owned {
    loaded: &'static Loaded,
    id: usize,
}

impl Owned {
    fn new(loaded: &'static Loaded) -> Result<Self, Error> {
        loop {
            let (id, again) = loaded.ids.take().ok_or(Error::TooMany(IDS))?;
            // An id that was closed is 'created' already, and may be opened again.
            if loaded.api.create(id as i32) || again {
                return Ok(Self { loaded, id });
            }
            loaded.ids.set(id, Id::Foreign);
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.loaded.api.close(self.id as i32);
        self.loaded.ids.set(self.id, Id::Again);
    }
}

/// What a recording says of itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Info {
    /// Of one picture, in pixels.
    pub width: u32,
    /// Of one picture, in pixels.
    pub height: u32,
    /// Frames per second.
    pub fps: f32,
    /// The camera's.
    pub serial: u32,
    /// `SL_MODEL`, as a number.
    pub model: i32,
    /// How many.
    pub frames: usize,
}

/// What a grab gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grabbed {
    /// A frame, and what the SDK warned of.
    Frame(Option<Code>),
    /// A frame whose picture is damaged; the next one may be whole.
    Corrupted,
    /// No frame: the recording has ended.
    End,
}

/// An open recording; closed when dropped. It may go from thread to thread, but is of one at a time.
pub struct Camera {
    owned: Owned,
    info: Info,
    warning: Option<Code>,
    tracking: bool,
    calibration: [OnceCell<Calibration>; 2],
    /// The interface says nothing of two calls at once with one id.
    not_sync: PhantomData<Cell<()>>,
}

impl fmt::Debug for Camera {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Camera").field("id", &self.owned.id).field("info", &self.info).finish_non_exhaustive()
    }
}

impl Camera {
    /// Opens a recording, SVO or SVO2. That takes seconds, in which the SDK sets up the GPU, and minutes where it prepares a
    /// neural network for the first time.
    ///
    /// # Errors
    /// [`Error::Sdk`] where the SDK refuses the file, or has no GPU, memory or calibration for it; [`Error::TooMany`];
    /// [`Error::Setting`]; [`Error::Answer`] where size, rate or length of the recording cannot be.
    pub fn open(sdk: Sdk, recording: &Path, init: &InitParameters) -> Result<Self, Error> {
        let raw = init.raw()?;
        let path = CString::new(recording.as_os_str().as_bytes())
            .map_err(|_| Error::Path(recording.to_string_lossy().replace('\0', "\\0")))?;
        let owned = Owned::new(sdk.loaded)?;
        let api = &sdk.loaded.api;
        let code = api.open(owned.id as i32, raw, &path);
        // A warning may mean either; an error is one even if the camera were open.
        if code > 0 || !api.is_opened(owned.id as i32) {
            let code = if code == 0 { 1 } else { code };
            return Err(SdkError::new("sl_open_camera", code).into());
        }
        let info = Info::read(&owned)?;
        let warning = (code < 0).then_some(Code(code));
        let calibration = [OnceCell::new(), OnceCell::new()];
        Ok(Self { owned, info, warning, tracking: false, calibration, not_sync: PhantomData })
    }

    fn api(&self) -> (&'static crate::ffi::Api, i32) {
        (&self.owned.loaded.api, self.owned.id as i32)
    }

    /// What the recording says of itself.
    pub fn info(&self) -> Info {
        self.info
    }

    /// What the SDK warned of on opening.
    pub fn warning(&self) -> Option<Code> {
        self.warning
    }

    /// Goes on to the next frame, decodes it and computes its depth.
    ///
    /// # Errors
    /// [`Error::Sdk`] where neither a frame nor the end is there; [`Error::Setting`].
    pub fn grab(&mut self, runtime: &RuntimeParameters) -> Result<Grabbed, Error> {
        let (api, id) = self.api();
        let raw = runtime.raw()?;
        Ok(match Code(api.grab(id, raw)) {
            Code::SUCCESS => Grabbed::Frame(None),
            Code::END_OF_SVO => Grabbed::End,
            Code::CORRUPTED_FRAME => Grabbed::Corrupted,
            code if code.0 < 0 && code != Code::CAMERA_REBOOTING => Grabbed::Frame(Some(code)),
            code => return Err(SdkError::new("sl_grab", code.0).into()),
        })
    }

    /// The next grab is of this frame.
    ///
    /// # Errors
    /// [`Error::Setting`] where the recording has no such frame.
    pub fn seek(&mut self, frame: usize) -> Result<(), Error> {
        if frame >= self.info.frames {
            let rule = "the recording has no such frame";
            return Err(Error::Setting { name: "frame", value: frame.to_string(), rule });
        }
        let (api, id) = self.api();
        api.seek(id, frame as i32);
        Ok(())
    }

    /// Where the SDK stands in the recording, as a frame's index. The page does not say whether that is the frame that was
    /// grabbed or the next one: tell frames by [`timestamp_ns`](Self::timestamp_ns).
    pub fn position(&self) -> Option<usize> {
        let (api, id) = self.api();
        usize::try_from(api.position(id)).ok()
    }

    /// The frame at a time, in ns since 1970; `None` outside of the recording.
    pub fn frame_at(&self, unix_ns: u64) -> Option<usize> {
        let (api, id) = self.api();
        usize::try_from(api.position_at(id, unix_ns)).ok().filter(|frame| *frame < self.info.frames)
    }

    /// When the grabbed frame was taken, in ns since 1970.
    pub fn timestamp_ns(&self) -> u64 {
        let (api, id) = self.api();
        api.image_timestamp(id)
    }

    /// A picture of the grabbed frame, BGRA, scaled to the size of `into`.
    ///
    /// # Errors
    /// [`Error::Sdk`], and [`Error::Answer`] where the picture's memory is not of its size.
    pub fn retrieve_image<'a>(&mut self, view: View, into: &'a mut Picture) -> Result<Plane<'a>, Error> {
        let (api, id) = self.api();
        retrieved("sl_retrieve_image", api.retrieve_image(id, &mut into.0, view as i32))?;
        Plane::of(&into.0, 4)
    }

    /// Depth of the grabbed frame as seen by the left eye, rectified: 16 bits little-endian in mm, 0 where there is none,
    /// scaled to the size of `into`.
    ///
    /// # Errors
    /// As of [`retrieve_image`](Self::retrieve_image).
    pub fn retrieve_depth<'a>(&mut self, into: &'a mut DepthMap) -> Result<Plane<'a>, Error> {
        let (api, id) = self.api();
        retrieved("sl_retrieve_measure", api.retrieve_measure(id, &mut into.0, MEASURE_DEPTH_U16_MM))?;
        Plane::of(&into.0, 2)
    }

    /// Begins to track the camera; from the next grab on there are poses.
    ///
    /// # Errors
    /// [`Error::Sdk`]; [`Error::Setting`].
    pub fn enable_tracking(&mut self, tracking: &PositionalTracking) -> Result<(), Error> {
        let (api, id) = self.api();
        let raw = tracking.raw()?;
        match api.enable_tracking(id, raw) {
            0 => {
                self.tracking = true;
                Ok(())
            }
            code => Err(SdkError::new("sl_enable_positional_tracking", code).into()),
        }
    }

    /// Ends it; nothing where it was not begun.
    pub fn disable_tracking(&mut self) {
        if std::mem::take(&mut self.tracking) {
            let (api, id) = self.api();
            api.disable_tracking(id);
        }
    }

    /// Where the camera was at the grabbed frame.
    pub fn pose(&mut self, reference_frame: ReferenceFrame) -> Pose {
        let (api, id) = self.api();
        let (state, raw) = api.pose(id, reference_frame as i32);
        Pose::new(state, &raw)
    }

    /// Of the rectified pictures; asked for once.
    ///
    /// # Errors
    /// [`Error::Answer`] where the SDK has none.
    pub fn calibration(&self) -> Result<&Calibration, Error> {
        self.calibration_of(false)
    }

    /// Of the pictures as the sensors saw them, with their distortion; asked for once.
    ///
    /// # Errors
    /// As of [`calibration`](Self::calibration).
    pub fn raw_calibration(&self) -> Result<&Calibration, Error> {
        self.calibration_of(true)
    }

    fn calibration_of(&self, raw: bool) -> Result<&Calibration, Error> {
        let cell = &self.calibration[usize::from(raw)];
        if let Some(known) = cell.get() {
            return Ok(known);
        }
        let (api, id) = self.api();
        let found = api.calibration(id, raw);
        let found =
            found.ok_or_else(|| Error::Answer { what: "a calibration at", value: "address 0".into() })?;
        Ok(cell.get_or_init(|| Calibration::new(&found)))
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.disable_tracking();
    }
}

impl Info {
    fn read(owned: &Owned) -> Result<Self, Error> {
        let (api, id) = (&owned.loaded.api, owned.id as i32);
        let answer = |what, value: i32, least: i32| match u32::try_from(value) {
            Ok(number) if value >= least => Ok(number),
            _ => Err(Error::Answer { what, value: value.to_string() }),
        };
        let (width, height) = (answer("width", api.width(id), 1)?, answer("height", api.height(id), 1)?);
        let fps = api.fps(id);
        if !(fps.is_finite() && fps >= 0.0) {
            return Err(Error::Answer { what: "frames per second", value: fps.to_string() });
        }
        Ok(Self {
            width,
            height,
            fps,
            // An unsigned number that the interface returns as an int.
            serial: api.serial(id) as u32,
            model: api.model(id),
            frames: answer("frames", api.frames(id), 0)? as usize,
        })
    }
}

fn retrieved(call: &'static str, code: i32) -> Result<(), Error> {
    // The picture of a frame with a warning is there.
    if code <= 0 && Code(code) != Code::CAMERA_REBOOTING {
        Ok(())
    } else {
        Err(SdkError::new(call, code).into())
    }
}

/// Memory for a picture, four bytes per pixel.
pub struct Picture(Mat);

/// Memory for depth, two bytes per pixel.
pub struct DepthMap(Mat);

impl Sdk {
    /// Memory for pictures of this size in pixels; the SDK scales to it, and not above the recording's size.
    ///
    /// # Errors
    /// [`Error::Setting`] of a size that cannot be; [`Error::NoMat`].
    pub fn picture(self, width: u32, height: u32) -> Result<Picture, Error> {
        self.mat(width, height, MAT_U8_C4).map(Picture)
    }

    /// Memory for depth of this size in pixels.
    ///
    /// # Errors
    /// As of [`picture`](Self::picture).
    pub fn depth_map(self, width: u32, height: u32) -> Result<DepthMap, Error> {
        self.mat(width, height, MAT_U16_C1).map(DepthMap)
    }

    fn mat(self, width: u32, height: u32, kind: i32) -> Result<Mat, Error> {
        let (w, h) = size("size", width, height)?;
        Mat::new(&self.loaded.api, w, h, kind).ok_or(Error::NoMat { width, height })
    }
}

/// Rows of pixels in the SDK's memory.
#[derive(Debug, Clone, Copy)]
pub struct Plane<'a> {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// From row to row, in bytes.
    pub stride: usize,
    /// All rows; the last ends with its last pixel.
    pub data: &'a [u8],
    row: usize,
}

impl<'a> Plane<'a> {
    fn of(mat: &'a Mat, pixel: usize) -> Result<Self, Error> {
        let (width, height) = mat.size();
        match mat.memory(pixel) {
            Memory::Rows(data, stride) => Ok(Self {
                width: width as u32,
                height: height as u32,
                stride,
                data,
                row: width as usize * pixel,
            }),
            Memory::Wrong(at, step) => {
                let value = format!("{width}x{height} at 0x{at:x} with {step} bytes from row to row");
                Err(Error::Answer { what: "a picture of", value })
            }
        }
    }

    /// The pixels of each row, from the top, without what fills the stride.
    pub fn rows(&self) -> impl Iterator<Item = &'a [u8]> {
        let row = self.row;
        self.data.chunks(self.stride).map(move |line| &line[..row])
    }
}
