// SPDX-License-Identifier: MPL-2.0

//! Takes one of the two pictures out of the decoded one: in place where downstream knows of video metas, by copying
//! nothing but that picture where it does not.

use std::sync::{Arc, LazyLock, Mutex};

use gst::glib;
use gst_base::prelude::*;
use gst_base::subclass::base_transform::{InputBuffer, PrepareOutputBufferSuccess};
use gst_base::subclass::prelude::*;
use gst_video::prelude::*;

use super::CAT;
use super::rectify::Rectifier;
use super::session::Session;
use super::settings::ViewChoice;

glib::wrapper! {
    pub struct View(ObjectSubclass<imp::View>) @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

impl View {
    pub(super) fn new(choice: ViewChoice, rectifier: Option<Rectifier>, session: Arc<Session>) -> Self {
        let view: Self = glib::Object::builder().property("name", "view").build();
        *view.imp().choice.lock().unwrap() = choice;
        view.set_passthrough(choice == ViewChoice::SideBySide && rectifier.is_none());
        *view.imp().rectifier.lock().unwrap() = rectifier.map(Arc::new);
        *view.imp().session.lock().unwrap() = Some(session);
        view
    }
}

/// Both sides of the element.
#[derive(Clone)]
struct Format {
    input: gst_video::VideoInfo,
    output: gst_video::VideoInfo,
    /// In pixels.
    left: u32,
}

impl Format {
    /// Where the picture begins in a plane's rows, in bytes.
    fn left_bytes(&self, plane: u32) -> usize {
        let info = self.input.format_info();
        let component = (0..info.n_components() as usize).find(|&at| info.plane()[at] == plane);
        let component = component.expect("each plane has a component");
        (self.left as usize >> info.w_sub()[component]) * info.pixel_stride()[component] as usize
    }
}

mod imp {
    use super::*;

    pub struct View {
        pub choice: Mutex<ViewChoice>,
        pub(super) rectifier: Mutex<Option<Arc<Rectifier>>>,
        pub(super) session: Mutex<Option<Arc<Session>>>,
        format: Mutex<Option<Format>>,
        /// Downstream knows where planes lie by the meta.
        in_place: Mutex<bool>,
    }

    #[glib::object_subclass]
    impl ObjectSubclass for View {
        const NAME: &'static str = "GstZedSvoViewFilter";
        type Type = super::View;
        type ParentType = gst_base::BaseTransform;

        fn new() -> Self {
            Self {
                choice: Mutex::new(ViewChoice::SideBySide),
                rectifier: Mutex::default(),
                session: Mutex::default(),
                format: Mutex::default(),
                in_place: Mutex::default(),
            }
        }
    }

    impl ObjectImpl for View {}
    impl GstObjectImpl for View {}

    impl ElementImpl for View {
        fn pad_templates() -> &'static [gst::PadTemplate] {
            static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
                let caps = raw_caps();
                let template = |name, direction| {
                    let template = gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps);
                    template.expect("a valid template")
                };
                vec![template("sink", gst::PadDirection::Sink), template("src", gst::PadDirection::Src)]
            });
            &TEMPLATES
        }
    }

    impl BaseTransformImpl for View {
        const MODE: gst_base::subclass::BaseTransformMode =
            gst_base::subclass::BaseTransformMode::NeverInPlace;
        const PASSTHROUGH_ON_SAME_CAPS: bool = false;
        const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

        fn transform_caps(
            &self,
            direction: gst::PadDirection,
            caps: &gst::Caps,
            filter: Option<&gst::Caps>,
        ) -> Option<gst::Caps> {
            let mut caps = caps.clone();
            if *self.choice.lock().unwrap() != ViewChoice::SideBySide {
                for structure in caps.make_mut().iter_mut() {
                    change_width(structure, direction);
                }
            }
            Some(match filter {
                Some(filter) => filter.intersect_with_mode(&caps, gst::CapsIntersectMode::First),
                None => caps,
            })
        }

        fn set_caps(&self, incaps: &gst::Caps, outcaps: &gst::Caps) -> Result<(), gst::LoggableError> {
            let info = |caps| {
                gst_video::VideoInfo::from_caps(caps)
                    .map_err(|_| gst::loggable_error!(CAT, "no raw video: {caps}"))
            };
            let (input, output) = (info(incaps)?, info(outcaps)?);
            let rectifies = self.rectifier.lock().unwrap().is_some();
            if rectifies && let Err(why) = Rectifier::check(input.format()) {
                gst::element_imp_error!(self, gst::StreamError::Format, ("{why}"));
                return Err(gst::loggable_error!(CAT, "{why}"));
            }
            let left = match *self.choice.lock().unwrap() {
                ViewChoice::Right => input.width() - output.width(),
                ViewChoice::Left | ViewChoice::SideBySide => 0,
            };
            *self.format.lock().unwrap() = Some(Format { input, output, left });
            Ok(())
        }

        fn unit_size(&self, caps: &gst::Caps) -> Option<usize> {
            gst_video::VideoInfo::from_caps(caps).ok().map(|info| info.size())
        }

        /// Decoders' buffers may be larger than their pictures.
        fn transform_size(
            &self,
            _direction: gst::PadDirection,
            _caps: &gst::Caps,
            _size: usize,
            othercaps: &gst::Caps,
        ) -> Option<usize> {
            self.unit_size(othercaps)
        }

        fn propose_allocation(
            &self,
            decide: Option<&gst::query::Allocation>,
            query: &mut gst::query::Allocation,
        ) -> Result<(), gst::LoggableError> {
            self.parent_propose_allocation(decide, query)?;
            if decide.is_some() {
                query.add_allocation_meta::<gst_video::VideoMeta>(None);
            }
            Ok(())
        }

        fn decide_allocation(&self, query: &mut gst::query::Allocation) -> Result<(), gst::LoggableError> {
            let rectifies = self.rectifier.lock().unwrap().is_some();
            let in_place = !rectifies && query.find_allocation_meta::<gst_video::VideoMeta>().is_some();
            gst::debug!(CAT, imp = self, "pictures are taken out in place: {in_place}");
            *self.in_place.lock().unwrap() = in_place;
            self.parent_decide_allocation(query)
        }

        fn prepare_output_buffer(
            &self,
            input: InputBuffer,
        ) -> Result<PrepareOutputBufferSuccess, gst::FlowError> {
            let passthrough = self.obj().is_passthrough();
            if passthrough || !*self.in_place.lock().unwrap() {
                return self.parent_prepare_output_buffer(input);
            }
            let buffer = match &input {
                InputBuffer::Writable(buffer) => &**buffer,
                InputBuffer::Readable(buffer) => *buffer,
            };
            let format = self.format.lock().unwrap().clone().ok_or(gst::FlowError::NotNegotiated)?;
            part_of(buffer, &format).map(PrepareOutputBufferSuccess::Buffer)
        }

        fn transform(
            &self,
            input: &gst::Buffer,
            output: &mut gst::BufferRef,
        ) -> Result<gst::FlowSuccess, gst::FlowError> {
            let session = self.session.lock().unwrap().clone();
            if session.is_some_and(|session| !session.shows(input)) {
                return Ok(gst_base::BASE_TRANSFORM_FLOW_DROPPED);
            }
            if *self.in_place.lock().unwrap() {
                return Ok(gst::FlowSuccess::Ok);
            }
            let format = self.format.lock().unwrap().clone().ok_or(gst::FlowError::NotNegotiated)?;
            let rectifier = self.rectifier.lock().unwrap().clone();
            let from = gst_video::VideoFrameRef::from_buffer_ref_readable(input, &format.input)
                .map_err(|_| gst::FlowError::Error)?;
            let mut to = gst_video::VideoFrameRef::from_buffer_ref_writable(output, &format.output)
                .map_err(|_| gst::FlowError::Error)?;
            match rectifier {
                Some(rectifier) => rectifier.apply(&from, &mut to).map_err(|why| {
                    gst::element_imp_error!(self, gst::StreamError::Failed, ("rectification: {why}"));
                    gst::FlowError::Error
                })?,
                None => copy_part(&from, &mut to, &format)?,
            }
            Ok(gst::FlowSuccess::Ok)
        }
    }

    /// A buffer that shows a part of another's picture, out of the same memory.
    fn part_of(buffer: &gst::BufferRef, format: &Format) -> Result<gst::Buffer, gst::FlowError> {
        let (mut offsets, mut strides) = ([0; 4], [0; 4]);
        let planes = format.input.n_planes() as usize;
        match buffer.meta::<gst_video::VideoMeta>() {
            Some(meta) => {
                offsets[..planes].copy_from_slice(&meta.offset()[..planes]);
                strides[..planes].copy_from_slice(&meta.stride()[..planes]);
            }
            None => {
                offsets[..planes].copy_from_slice(&format.input.offset()[..planes]);
                strides[..planes].copy_from_slice(&format.input.stride()[..planes]);
            }
        }
        for (plane, offset) in offsets.iter_mut().enumerate().take(planes) {
            *offset += format.left_bytes(plane as u32);
        }
        let what =
            gst::BufferCopyFlags::FLAGS | gst::BufferCopyFlags::TIMESTAMPS | gst::BufferCopyFlags::MEMORY;
        let mut part = buffer.copy_region(what, ..).map_err(|_| gst::FlowError::Error)?;
        gst_video::VideoMeta::add_full(
            part.get_mut().expect("it is new"),
            gst_video::VideoFrameFlags::empty(),
            format.output.format(),
            format.output.width(),
            format.output.height(),
            &offsets[..planes],
            &strides[..planes],
        )
        .map_err(|_| gst::FlowError::Error)?;
        Ok(part)
    }

    fn copy_part(
        from: &gst_video::VideoFrameRef<&gst::BufferRef>,
        to: &mut gst_video::VideoFrameRef<&mut gst::BufferRef>,
        format: &Format,
    ) -> Result<(), gst::FlowError> {
        for plane in 0..format.input.n_planes() {
            let left = format.left_bytes(plane);
            let (from_stride, to_stride) =
                (from.plane_stride()[plane as usize], to.plane_stride()[plane as usize]);
            let info = format.output.format_info();
            let component = (0..info.n_components()).find(|&at| info.plane()[at as usize] == plane);
            let component = component.expect("each plane has a component");
            let width = format.output.comp_width(component as u8) as usize
                * info.pixel_stride()[component as usize] as usize;
            let height = format.output.comp_height(component as u8) as usize;
            let source = from.plane_data(plane).map_err(|_| gst::FlowError::Error)?;
            let target = to.plane_data_mut(plane).map_err(|_| gst::FlowError::Error)?;
            let rows = target.chunks_mut(to_stride as usize).zip(source.chunks(from_stride as usize));
            for (target, source) in rows.take(height) {
                target[..width].copy_from_slice(&source[left..left + width]);
            }
        }
        Ok(())
    }

    /// The width on the other side of the element.
    fn change_width(structure: &mut gst::StructureRef, direction: gst::PadDirection) {
        let change = |width: i32| match direction {
            gst::PadDirection::Sink => width / 2,
            _ => width.saturating_mul(2),
        };
        if let Ok(width) = structure.get::<i32>("width") {
            structure.set("width", change(width));
        } else if let Ok(range) = structure.get::<gst::IntRange<i32>>("width") {
            let (min, max) = (change(range.min()).max(1), change(range.max()).max(2));
            structure.set("width", gst::IntRange::new(min, max));
        }
    }

    /// Raw video in system memory, of formats whose pixels lie where their numbers say.
    fn raw_caps() -> gst::Caps {
        let plain = gst_video::VideoFormat::iter_raw().filter(|&format| {
            let info = gst_video::VideoFormatInfo::from_format(format);
            !info.is_complex() && info.tile_mode() == gst_video::VideoTileMode::Unknown
        });
        gst_video::VideoCapsBuilder::new().format_list(plain).build()
    }
}
