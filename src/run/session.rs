// SPDX-License-Identifier: MPL-2.0

//! The running pipeline: built from a plan, watched over its bus, and ended in time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use cvmmap_control::DEFAULT_URL;
use cvmmap_control::url::default_url;
use cvmmap_ipc::Coherence;
use gst::prelude::*;

use super::bus::{Trouble, cause, first_error};
use super::control::{Control, Identity};
use super::encoder::EncoderSlot;
use super::meter::Meter;
use super::plan::{Codec, Input, Plan, Rtp};
use super::quiet::Said;
use super::report::{Dropped, Event, Reporter, Snapshot};
use super::rtmp::{self, Link, Publisher};
use super::rtp;
use super::stage::{self, Stage};
use super::stamps::Stamps;
use super::teardown;
use crate::exit::{Exit, Failure, configuration};
use crate::record::place::Root;
use crate::record::{Recorder, Surroundings};
use crate::sim;

const TICK: Duration = Duration::from_millis(50);
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// What is in the encoder may take so long to come out when the stream ends.
const ENDS_WITHIN: Duration = Duration::from_millis(300);
/// The simulator's last frame may take so long to be read.
const LAST_FRAME: Duration = Duration::from_millis(200);
/// The simulator may take so long to take its names away.
const CAMERA_ENDS_WITHIN: Duration = Duration::from_millis(200);
const WARN_EVERY: Duration = Duration::from_secs(10);

/// A pipeline that streams.
pub struct Session {
    pipeline: gst::Pipeline,
    source: gst::Element,
    slot: EncoderSlot,
    meter: Arc<Meter>,
    publisher: Option<Publisher>,
    recorder: Arc<Recorder>,
    control: Option<Control>,
    camera: Camera,
    stop_camera: Arc<AtomicBool>,
    rtp: bool,
    events: Receiver<Event>,
    source_state: String,
    warnings: Said,
    /// It never goes down, though frames that wait come and go.
    queue_dropped: u64,
    started: Instant,
}

/// The simulator as the input.
enum Camera {
    None,
    Ready(Box<sim::Ready>),
    Running(JoinHandle<Result<(), Failure>>),
    /// Its last frame is on its way.
    Done(Instant),
}

/// Why a session ends.
enum End {
    Eos,
    Interrupted,
    Failed(Failure),
}

/// Source to parser, without the encoder between `ahead` and `behind`.
struct Trunk {
    ahead: Vec<Stage>,
    behind: Vec<Stage>,
}

fn trunk(plan: &Plan) -> Result<Trunk, Failure> {
    let mut source = Stage::new("cvmmapsrc")?;
    source = match &plan.input {
        Input::Target(target) => source.set("uri", &target.to_string()),
        Input::Names { shm_name, zmq_endpoint } => {
            source.set("shm-name", shm_name).set("zmq-endpoint", zmq_endpoint)
        }
        // Its label need not be its name.
        Input::Dummy(camera) => source
            .set("uri", &camera.target.to_string())
            .set("shm-name", &camera.target.shm_name())
            .set("zmq-endpoint", &camera.target.zmq_endpoint()),
    };
    if plan.coherence != Coherence::Verify {
        source = source.set("coherence", &plan.coherence.to_string());
    }
    if let Some(timeout) = plan.idle_timeout {
        source = source.set("idle-timeout", &timeout.as_millis().to_string());
    }
    if let Some(frames) = plan.max_frames {
        source = source.set("num-buffers", &frames.to_string());
    }
    let nats = plan.nats.as_ref().map_or("", |nats| &nats.given);
    if nats != DEFAULT_URL || default_url() != DEFAULT_URL {
        source = source.set("nats-url", nats);
    }
    // The wire does not tell a rate, and x265enc takes none that is unknown.
    let rate = Stage::caps(&format!("video/x-raw,framerate={}/1", plan.encoding.fps))?;
    let (parser, form) = match plan.encoding.codec {
        Codec::H264 => ("h264parse", "video/x-h264,stream-format=avc,alignment=au"),
        Codec::H265 => ("h265parse", "video/x-h265,stream-format=hvc1,alignment=au"),
    };
    Ok(Trunk { ahead: vec![source, rate], behind: vec![Stage::new(parser)?, Stage::caps(form)?] })
}

/// The pipeline as a gst-launch line, with the first encoder that opens.
///
/// # Errors
/// A [`Failure`] where an element is missing or no encoder opens.
pub fn launch_line(plan: &Plan) -> Result<String, Failure> {
    let trunk = trunk(plan)?;
    let slot = EncoderSlot::new(plan.encoding.clone(), plan.queue_size);
    let bus = gst::Bus::new();
    slot.set_bus(Some(&bus));
    if slot.set_state(gst::State::Ready).is_err() {
        return Err(error_of(&bus));
    }
    let encoder = slot.current().map(|(_, text)| text).unwrap_or_default();
    let _ = slot.set_state(gst::State::Null);
    let mut branches = Vec::new();
    if let Some(rtp) = &plan.rtp {
        branches.push(stage::text(&rtp::stages(rtp, plan.encoding.codec)?));
    }
    if let Some(rtmp) = &plan.rtmp {
        branches.push(stage::text(&rtmp::stages(rtmp)?));
    }
    let mut line =
        format!("gst-launch-1.0 {} ! {encoder} ! {}", stage::text(&trunk.ahead), stage::text(&trunk.behind));
    match branches.as_slice() {
        [only] => line += &format!(" ! {only}"),
        several => {
            line += " ! tee name=t";
            several.iter().for_each(|branch| line += &format!(" t. ! queue ! {branch}"));
        }
    }
    if let Input::Dummy(camera) = &plan.input {
        let (width, height) = camera.size;
        let (target, fps, frames) = (&camera.target, camera.fps, camera.frames);
        line = format!(
            "# beside it: cvmmap-streamer sim '{target}' --size {width}x{height} --fps {fps} --frames {frames}\n{line}"
        );
    }
    Ok(line)
}

impl Session {
    /// Builds the pipeline and lets it run.
    ///
    /// # Errors
    /// A [`Failure`] with [`Exit::Pipeline`] where an element is missing or no encoder opens, with
    /// [`Exit::Configuration`] where the source refuses its settings.
    pub fn start(plan: &Plan) -> Result<Self, Failure> {
        let (tell, events) = channel();
        let stop_camera = Arc::new(AtomicBool::new(false));
        let camera = match &plan.input {
            Input::Dummy(camera) => Camera::Ready(Box::new(camera.open(stop_camera.clone())?)),
            _ => Camera::None,
        };
        let trunk = trunk(plan)?;
        let source = trunk.ahead[0].element.clone();
        let slot = EncoderSlot::new(plan.encoding.clone(), plan.queue_size);
        let tee = gst::ElementFactory::make("tee").build().map_err(|_| missing("tee"))?;
        let pipeline = gst::Pipeline::new();
        let ahead = trunk.ahead.iter().map(|stage| &stage.element);
        let behind = trunk.behind.iter().map(|stage| &stage.element);
        let elements: Vec<&gst::Element> =
            ahead.chain([slot.upcast_ref()]).chain(behind).chain([&tee]).collect();
        pipeline.add_many(&elements).expect("a new pipeline is empty");
        gst::Element::link_many(&elements)
            .map_err(|error| Failure::new(Exit::Pipeline, error.to_string()))?;

        let meter = Arc::new(Meter::default());
        meter.watch_source(&source.static_pad("src").expect("a source has a source pad"));
        let (encoding, stamps) = (meter.clone(), Arc::<Stamps>::default());
        let remembered = stamps.clone();
        slot.on_candidate(move |pad| encoding.watch_encoder(pad, &remembered));
        let output = tee.static_pad("sink").expect("a tee has a sink pad");
        meter.watch_output(&output, plan.rtp.is_none());
        let recorder = add_recorder(&output, plan, stamps, &tell)?;
        if let Some(rtp) = &plan.rtp {
            add_rtp(&pipeline, &tee, rtp, plan.encoding.codec, &meter, &tell)?;
        }
        let publisher = plan.rtmp.clone().map(|rtmp| add_rtmp(&pipeline, &tee, rtmp, &tell)).transpose()?;
        let mut session = Self {
            pipeline,
            source,
            slot,
            meter,
            publisher,
            recorder,
            control: None,
            camera,
            stop_camera,
            rtp: plan.rtp.is_some(),
            events,
            source_state: "starting".into(),
            warnings: Said::new(WARN_EVERY),
            queue_dropped: 0,
            started: Instant::now(),
        };
        // Dropped where it fails, which takes down what already runs.
        session.play()?;
        // Last, so that no server is bothered with what does not start.
        if let Some(publisher) = &mut session.publisher {
            publisher.connect();
        }
        session.control = start_control(plan, &session.recorder, &tell)?;
        Ok(session)
    }

    /// What records on request, as long as the session runs.
    pub fn recorder(&self) -> Arc<Recorder> {
        self.recorder.clone()
    }

    fn play(&self) -> Result<(), Failure> {
        match self.pipeline.set_state(gst::State::Playing) {
            Ok(_) => Ok(()),
            Err(_) => Err(error_of(&self.pipeline.bus().expect("pipelines have a bus"))),
        }
    }

    /// Watches until the stream ends, an error ends it, or `interrupted` is set; then ends within two seconds.
    ///
    /// # Errors
    /// The [`Failure`] that ended it, else how things were at the end.
    pub fn run(mut self, interrupted: &AtomicBool, reporter: &mut Reporter) -> Result<Snapshot, Failure> {
        if let Some((factory, _)) = self.slot.current() {
            reporter.event(&Event::Encoder(factory));
        }
        let mut status_due = self.started + STATUS_EVERY;
        let end = loop {
            if interrupted.load(Ordering::Relaxed) {
                reporter.event(&Event::Ending("interrupted"));
                break End::Interrupted;
            }
            if let Some(end) = self.look(reporter) {
                break end;
            }
            if Instant::now() >= status_due {
                status_due += STATUS_EVERY;
                let now = self.snapshot();
                reporter.status(now);
            }
        };
        let result = self.finish(end, reporter);
        let exit = result.as_ref().map_or_else(|failure| failure.exit as u8, |()| 0);
        let snapshot = self.snapshot();
        reporter.summary(&snapshot, exit);
        result.map(|()| snapshot)
    }

    /// Takes in what happened, for a tick at most.
    fn look(&mut self, reporter: &Reporter) -> Option<End> {
        let bus = self.pipeline.bus().expect("pipelines have a bus");
        let tick = gst::ClockTime::from_nseconds(TICK.as_nanos() as u64);
        let mut message = bus.timed_pop(tick);
        while let Some(one) = message {
            if let Some(end) = self.handle(&one, reporter) {
                return Some(end);
            }
            message = bus.pop();
        }
        if let Err(failure) = self.look_at_camera() {
            return Some(End::Failed(failure));
        }
        while let Ok(event) = self.events.try_recv() {
            reporter.event(&event);
            if let Event::Rtmp(Link::GaveUp(reason)) = event
                && !self.rtp
            {
                return Some(End::Failed(gave_up(&reason)));
            }
        }
        None
    }

    fn handle(&mut self, message: &gst::Message, reporter: &Reporter) -> Option<End> {
        match message.view() {
            gst::MessageView::Error(error) => return Some(End::Failed(failure_of(Trouble::of(error)))),
            gst::MessageView::Eos(_) => return Some(End::Eos),
            gst::MessageView::Warning(warning) => {
                let cause = cause(warning.debug()).map_or_else(String::new, |cause| format!(" ({cause})"));
                let text = format!("{}: {}{cause}", name_of(message), warning.error());
                if let Some(held_back) = self.warnings.take(&text, Instant::now()) {
                    let more =
                        if held_back > 0 { format!("; {held_back} were held back") } else { String::new() };
                    reporter.event(&Event::Warning(text + &more));
                }
            }
            gst::MessageView::Latency(_) => {
                let _ = self.pipeline.recalculate_latency();
            }
            gst::MessageView::Element(element) => {
                if let Some(event) = element.structure().and_then(|structure| self.told(structure)) {
                    reporter.event(&event);
                }
            }
            _ => (),
        }
        None
    }

    fn told(&mut self, structure: &gst::StructureRef) -> Option<Event> {
        let field = |name| structure.get::<String>(name).unwrap_or_default();
        match structure.name().as_str() {
            "cvmmapsrc-state" => {
                self.source_state = field("state");
                Some(Event::Source(self.source_state.clone()))
            }
            "encoder-fallback" => {
                Some(Event::Fallback { from: field("from"), to: field("to"), reason: field("reason") })
            }
            _ => None,
        }
    }

    /// The simulator begins when the source listens, and the stream ends with it.
    fn look_at_camera(&mut self) -> Result<(), Failure> {
        let listens = self.source_state != "starting";
        self.camera = match std::mem::replace(&mut self.camera, Camera::None) {
            Camera::Ready(camera) if listens => Camera::Running(camera.run()),
            Camera::Running(thread) if thread.is_finished() => {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(Failure::new(Exit::Pipeline, "the simulator failed")))?;
                Camera::Done(Instant::now())
            }
            Camera::Done(since) if since.elapsed() > LAST_FRAME => {
                self.pipeline.send_event(gst::event::Eos::new());
                Camera::None
            }
            other => other,
        };
        Ok(())
    }

    fn finish(&mut self, end: End, reporter: &Reporter) -> Result<(), Failure> {
        self.stop_camera.store(true, Ordering::Relaxed);
        if matches!(end, End::Interrupted) {
            // By somebody else: it waits for the source, which may be opening an encoder that hangs.
            let pipeline = self.pipeline.clone();
            std::thread::spawn(move || pipeline.send_event(gst::event::Eos::new()));
            let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
            let patience = gst::ClockTime::from_nseconds(ENDS_WITHIN.as_nanos() as u64);
            let _ = self.pipeline.bus().expect("pipelines have a bus").timed_pop_filtered(patience, &kinds);
        }
        // Files are made whole while the publisher says goodbye.
        self.recorder.close();
        self.control = None;
        let link = self.publisher.as_ref().map(Publisher::link);
        if let Some(publisher) = &mut self.publisher {
            publisher.end();
        }
        if let Camera::Running(camera) = std::mem::replace(&mut self.camera, Camera::None) {
            let end = Instant::now() + CAMERA_ENDS_WITHIN;
            while !camera.is_finished() && Instant::now() < end {
                std::thread::sleep(TICK / 10);
            }
        }
        self.recorder.finish();
        while let Ok(event) = self.events.try_recv() {
            reporter.event(&event);
        }
        match (end, link) {
            (End::Failed(failure), _) => Err(failure),
            (_, Some(Link::GaveUp(reason))) => Err(gave_up(&reason)),
            (End::Eos, _) if self.meter.totals().frames_in == 0 => {
                Err(Failure::new(Exit::Timeout, "no frame came"))
            }
            (End::Eos, Some(Link::Waiting(reason, _))) if !self.rtp && self.connections() == 0 => {
                Err(Failure::new(Exit::Configuration, format!("RTMP: nothing was published: {reason}")))
            }
            _ => Ok(()),
        }
    }

    fn connections(&self) -> u32 {
        self.publisher.as_ref().map_or(0, Publisher::connections)
    }

    fn snapshot(&mut self) -> Snapshot {
        let totals = self.meter.totals();
        let stats: gst::Structure = self.source.property("stats");
        let stat = |name| stats.get::<u64>(name).unwrap_or_default();
        let waiting = u64::from(self.slot.waiting());
        let gone = totals.frames_in.saturating_sub(totals.frames_encoded + waiting);
        self.queue_dropped = self.queue_dropped.max(gone);
        Snapshot {
            elapsed: self.started.elapsed(),
            totals,
            dropped: Dropped { source: stat("dropped"), torn: stat("torn"), queue: self.queue_dropped },
            latency: self.meter.latency(),
            source: self.source_state.clone(),
            encoder: self.slot.current().map(|(factory, _)| factory).unwrap_or_default(),
            rtp: self.rtp,
            rtmp: self
                .publisher
                .as_ref()
                .map(|publisher| (publisher.link(), publisher.feed().counters(), publisher.connections())),
            recordings: self.recorder.used(),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop_camera.store(true, Ordering::Relaxed);
        teardown::stop(self.pipeline.clone().upcast());
    }
}

fn add_rtp(
    pipeline: &gst::Pipeline,
    tee: &gst::Element,
    rtp: &Rtp,
    codec: Codec,
    meter: &Arc<Meter>,
    tell: &Sender<Event>,
) -> Result<(), Failure> {
    let stages = rtp::stages(rtp, codec)?;
    let elements: Vec<&gst::Element> = stages.iter().map(|stage| &stage.element).collect();
    add_branch(pipeline, tee, &elements)?;
    let payloader = elements[elements.len() - 2].static_pad("src").expect("a payloader has a source pad");
    meter.watch_packets(&payloader);
    let Some(path) = rtp.sdp.clone() else { return Ok(()) };
    let (description, tell) = (Mutex::new(rtp::Description::new(rtp, SystemTime::now())), tell.clone());
    // Written by the streaming thread: it comes before the first packet, and again only where the parameter sets change.
    payloader.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(gst::EventView::Caps(caps)) = info.event().map(|event| event.view()) {
            let mut description = description.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if let Some(text) = description.of(&caps.caps_owned()) {
                let event = match rtp::write_whole(&path, &text) {
                    Ok(()) => Event::Sdp(path.clone()),
                    Err(error) => Event::Warning(format!("--rtp-sdp '{}': {error}", path.display())),
                };
                let _ = tell.send(event);
            }
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

fn add_rtmp(
    pipeline: &gst::Pipeline,
    tee: &gst::Element,
    rtmp: super::plan::Rtmp,
    tell: &Sender<Event>,
) -> Result<Publisher, Failure> {
    let appsink = gst_app::AppSink::builder().sync(false).async_(false).enable_last_sample(false).build();
    add_branch(pipeline, tee, &[appsink.upcast_ref()])?;
    let pad = appsink.static_pad("sink").expect("a sink has a sink pad");
    let request = move || request_key_frame(Some(&pad));
    let publisher = Publisher::new(rtmp, tell.clone(), request)?;
    let feed = publisher.feed();
    appsink.set_callbacks(
        gst_app::AppSinkCallbacks::builder()
            .new_sample(move |appsink| {
                feed.push(&appsink.pull_sample().map_err(|_| gst::FlowError::Eos)?);
                Ok(gst::FlowSuccess::Ok)
            })
            .build(),
    );
    Ok(publisher)
}

/// The recorder on the control plane, where the session has one.
fn start_control(
    plan: &Plan,
    recorder: &Arc<Recorder>,
    tell: &Sender<Event>,
) -> Result<Option<Control>, Failure> {
    let Some(nats) = &plan.nats else { return Ok(None) };
    let Some(identity) = Identity::of(&plan.input) else {
        let rule = "the segment's name makes no subject, so recordings cannot be asked for";
        let _ = tell.send(Event::Warning(format!("--shm-name: {rule}")));
        return Ok(None);
    };
    Control::start(&nats.url, &identity, recorder, tell).map(Some)
}

/// The recorder looks at what passes `output`; it is no branch of the pipeline, and cannot hold it up.
fn add_recorder(
    output: &gst::Pad,
    plan: &Plan,
    stamps: Arc<Stamps>,
    tell: &Sender<Event>,
) -> Result<Arc<Recorder>, Failure> {
    let pad = output.downgrade();
    let request_key_frame = move || request_key_frame(pad.upgrade().as_ref());
    let root = match &plan.record_dir {
        Some(folder) => Root::below(folder)
            .map_err(|error| configuration(format!("--record-dir '{}': {error}", folder.display())))?,
        None => Root::anywhere().map_err(configuration)?,
    };
    let recorder = Arc::new(Recorder::new(Surroundings {
        encoding: plan.encoding.clone(),
        label: plan.input.label(),
        root,
        stamps,
        request_key_frame: Box::new(request_key_frame),
        events: tell.clone(),
    }));
    let taking = recorder.clone();
    output.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        if let Some(buffer) = info.buffer() {
            taking.push(pad, buffer);
        }
        gst::PadProbeReturn::Ok
    });
    Ok(recorder)
}

/// `pad` is where what comes from the encoder goes in.
fn request_key_frame(pad: Option<&gst::Pad>) {
    if let Some(pad) = pad {
        pad.push_event(gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true).build());
    }
}

fn add_branch(
    pipeline: &gst::Pipeline,
    tee: &gst::Element,
    elements: &[&gst::Element],
) -> Result<(), Failure> {
    let failed = |error: gst::glib::BoolError| Failure::new(Exit::Pipeline, error.to_string());
    pipeline.add_many(elements).map_err(failed)?;
    gst::Element::link_many(elements).map_err(failed)?;
    tee.link(elements[0]).map_err(failed)
}

fn missing(factory: &str) -> Failure {
    Failure::new(Exit::Pipeline, format!("the GStreamer element '{factory}' is not installed"))
}

fn gave_up(reason: &str) -> Failure {
    Failure::new(Exit::Configuration, format!("RTMP: gave up: {reason}"))
}

/// The error behind a state change that failed.
fn error_of(bus: &gst::Bus) -> Failure {
    let unknown = || Failure::new(Exit::Pipeline, "the pipeline does not start");
    first_error(bus).map_or_else(unknown, failure_of)
}

/// Names and settings are what the source has errors for; all others are the pipeline's.
fn failure_of(trouble: Trouble) -> Failure {
    let exit = match trouble.factory.as_deref() {
        Some("cvmmapsrc") => Exit::Configuration,
        _ => Exit::Pipeline,
    };
    Failure::new(exit, trouble.to_string())
}

fn name_of(message: &gst::Message) -> String {
    message.src().map(|src| src.name().to_string()).unwrap_or_default()
}
