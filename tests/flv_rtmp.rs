// SPDX-License-Identifier: MPL-2.0

//! RTMP servers and players of others take what `flvh265mux ! rtmp2sink` publishes, and it is what was sent.
//!
//! Neither FFmpeg (with `-copyts`) nor nginx's relay changes a time, so times are compared as they stand; nginx's
//! recorder counts from its first frame.

mod common;

use common::flv::*;
use common::readers::{Facts, VideoFrame};
use common::*;
use gst::prelude::*;

fn video_of(sent: &[Sent]) -> Vec<VideoFrame> {
    let frame = |&Sent { dts, pts, key, size }: &Sent| VideoFrame { dts, pts, key, size };
    sent.iter().map(frame).collect()
}

/// What a player has of a publication: from a frame on, to almost the end.
#[derive(Debug, PartialEq)]
struct Part {
    /// The index of its first picture.
    from: usize,
    /// Of the end, tags of both streams.
    missing: usize,
}

/// Every frame that a player has from its first one on is what was sent, bytes' number and times included.
fn part_of(publisher: &Publisher, player: &Facts) -> Part {
    let sent = video_of(&publisher.sent());
    let first = *player.pictures().first().expect("a picture");
    let from =
        sent.iter().position(|frame| *frame == first).unwrap_or_else(|| panic!("{first:?} was not sent"));
    let to = from + player.pictures().len();
    assert_eq!(player.pictures(), &sent[from..to]);
    let sent_audio: Vec<_> = publisher.sent_audio().iter().map(|sent| (sent.dts, sent.size)).collect();
    let audio: Vec<_> = player.sounds().iter().map(|sound| (sound.dts, sound.size)).collect();
    let audio_missing = match audio.first() {
        Some(first) => {
            let from = sent_audio.iter().position(|frame| frame == first).expect("a frame that was sent");
            assert_eq!(audio, sent_audio[from..][..audio.len()]);
            sent_audio.len() - from - audio.len()
        }
        None => sent_audio.len(),
    };
    Part { from, missing: sent.len() - to + audio_missing }
}

/// From its first key frame on it shows the encoder's pictures, and complains of nothing.
fn shows_the_source(publisher: &Publisher, player: &Facts) {
    assert_eq!(player.errors, [""; 0]);
    let from = part_of(publisher, player).from;
    let leading = player.pictures().iter().position(|frame| frame.key).expect("a key frame");
    let pictures = player.pictures().len() - leading;
    assert_eq!(player.shown(), &publisher.shown()[from + leading..][..pictures]);
    if publisher.with_audio() {
        // Of 1024 samples each.
        assert_eq!(player.decoded.as_ref().unwrap().samples, player.sounds().len() as u64 * 1024);
    }
}

fn describes(player: &Facts, dialect: Dialect, size: (u32, u32)) {
    let video = player.video.as_ref().expect("video");
    assert_eq!((video.codec.as_str(), (video.width, video.height)), (dialect.codec(), size));
    if let Some(audio) = &player.audio {
        assert_eq!((audio.codec.as_str(), audio.rate, audio.channels), ("aac", 44_100, Some(2)));
    }
}

const WHOLE: Part = Part { from: 0, missing: 0 };

/// What FFmpeg took as the server of a publisher that goes as fast as it can.
fn served(plan: &Plan) -> (Publisher, Facts) {
    let mut server = Listener::start();
    let publisher = Publisher::new(plan, &server.url());
    publisher.play();
    publisher.wait_for_end();
    let taken = readers::ffmpeg(server.file(), true);
    (publisher, taken)
}

#[test]
fn ffmpeg_takes_every_dialect_as_a_server() {
    for dialect in Dialect::ALL {
        for audio in [false, true] {
            println!("{dialect:?}, audio {audio}");
            let (publisher, taken) = served(&Plan::quick(dialect, audio));
            describes(&taken, dialect, (160, 120));
            assert_eq!(part_of(&publisher, &taken), WHOLE);
            shows_the_source(&publisher, &taken);
            assert_eq!(taken.shown().len(), 90);
            assert_eq!(taken.audio.is_some(), audio);
            assert_eq!(publisher.stat("timestamp-corrections"), 0);
        }
    }
}

#[test]
fn pictures_in_another_order_than_shown_keep_their_times() {
    for dialect in Dialect::ALL {
        println!("{dialect:?}");
        let mut plan = Plan::quick(dialect, false);
        plan.video = plan.video.replace(dialect.encoder(), dialect.reordering_encoder());
        let (publisher, taken) = served(&plan);
        assert_eq!(taken.errors, [""; 0]);
        assert_eq!(taken.shown(), publisher.shown());
        let (sent, frames) = (publisher.sent(), taken.pictures());
        assert_eq!(frames.len(), 90);
        assert!(frames.iter().any(|frame| frame.pts > frame.dts), "nothing is reordered");
        // Where the first decoding time is negative all times are moved, by the same.
        let shift = frames[0].pts - sent[0].pts;
        for (frame, sent) in frames.iter().zip(&sent) {
            let expected = (sent.pts + shift, sent.key, sent.size);
            assert_eq!((frame.pts, frame.key, frame.size), expected);
            assert!(frame.dts <= frame.pts, "{frame:?}");
        }
        assert!(frames.is_sorted_by_key(|frame| frame.dts), "{frames:?}");
    }
}

#[test]
fn chunks_of_65536_bytes_are_taken() {
    for dialect in Dialect::ALL {
        println!("{dialect:?}");
        let mut plan = Plan::quick(dialect, false);
        let quality = if dialect == Dialect::Avc { "pass=quant quantizer=5" } else { "qp=5" };
        plan.video = format!(
            "videotestsrc num-buffers=20 pattern=snow ! video/x-raw,format=I420,width=640,height=480,framerate=30/1 \
             ! {} {quality}",
            dialect.encoder()
        );
        plan.sink = "sync=false chunk-size=65536".into();
        let (publisher, taken) = served(&plan);
        assert!(publisher.sent().iter().any(|sent| sent.size > 65536), "no frame needs more than one chunk");
        assert_eq!(part_of(&publisher, &taken), WHOLE);
        shows_the_source(&publisher, &taken);

        // Paced, since nginx drops what a player does not fetch in time.
        plan.sink = "chunk-size=65536".into();
        let nginx = Nginx::start();
        let player = Recorder::start(&nginx.url("live"));
        nginx.wait_for_players(1);
        let publisher = Publisher::new(&plan, &nginx.url("live"));
        publisher.play();
        publisher.wait_for_end();
        let played = readers::ffmpeg(player.file(), true);
        assert!(part_of(&publisher, &played).missing <= LOST_BY_RTMP2SRC);
        shows_the_source(&publisher, &played);
    }
}

/// Stock rtmp2src may end before it has given out the last tag.
const LOST_BY_RTMP2SRC: usize = 1;
/// A late player's first one: in the middle of a group of pictures.
const LATE: usize = 35;

/// Through nginx's relay: early players have everything, late ones everything from a key frame on.
fn relayed(dialect: Dialect, audio: bool) {
    println!("{dialect:?}, audio {audio}");
    let nginx = Nginx::start();
    let url = nginx.url("live");
    let early = Recorder::start(&url);
    let mut early_ffmpeg = FfmpegPlayer::start(&url, 45);
    let avc = dialect == Dialect::Avc;
    // Stock flvdemux knows no H.265.
    let demuxers = if avc { &["flvh265demux", "flvdemux"][..] } else { &["flvh265demux"] };
    let watchers =
        || demuxers.iter().map(|demux| Watcher::start(&url, demux, dialect, audio)).collect::<Vec<_>>();
    let early_watchers = watchers();
    nginx.wait_for_players(2 + demuxers.len());

    let mut plan = Plan::live(dialect, audio);
    if !avc {
        // nginx replays H.264's header to those who come late, but not H.265's.
        plan.mux += " repeat-sequence-header=true";
    }
    let publisher = Publisher::new(&plan, &url);
    publisher.play();
    publisher.wait_for_sent(LATE);
    let late = Recorder::start(&url);
    let late_watchers = watchers();
    nginx.wait_for_players(3 + 2 * demuxers.len());
    late.wait_for_tags(80);
    publisher.finish();
    assert_eq!(publisher.stat("timestamp-corrections"), 0);

    let early = early.file();
    let [ffmpeg, pyav, mpegts] =
        [readers::ffmpeg(early, true), readers::pyav(early, true), readers::mpegts(early, None)];
    for played in [&ffmpeg, &pyav, &mpegts] {
        describes(played, dialect, (160, 120));
        let part = part_of(&publisher, played);
        assert!(part.from == 0 && part.missing <= LOST_BY_RTMP2SRC, "{part:?}");
    }
    shows_the_source(&publisher, &ffmpeg);
    shows_the_source(&publisher, &pyav);
    assert_eq!(mpegts.errors, [""; 0]);

    let played = readers::ffmpeg(early_ffmpeg.file(), true);
    describes(&played, dialect, (160, 120));
    assert_eq!((part_of(&publisher, &played).from, played.pictures().len()), (0, 45));
    shows_the_source(&publisher, &played);

    // Frames without a key frame come first.
    let late = late.file();
    let played = readers::mpegts(late, None);
    describes(&played, dialect, (160, 120));
    assert_eq!(played.errors, [""; 0]);
    let part = part_of(&publisher, &played);
    assert!(part.from >= LATE && part.missing <= LOST_BY_RTMP2SRC, "{part:?}");
    // FFmpeg does not open H.265 that begins without a header; the browser's player does.
    let file = if avc { late.into() } else { from_first_header(late).expect("a header") };
    let played = readers::ffmpeg(&file, true);
    shows_the_source(&publisher, &played);
    assert!(part_of(&publisher, &played).missing <= LOST_BY_RTMP2SRC);

    let sent = publisher.sent();
    let keys: Vec<_> = sent.iter().filter(|sent| sent.key).map(|sent| sent.pts).collect();
    let expected: Vec<_> = sent.iter().map(|sent| sent.pts).zip(publisher.shown()).collect();
    let early = early_watchers.into_iter().map(|watcher| (watcher, 0));
    for (watcher, earliest) in early.chain(late_watchers.into_iter().map(|watcher| (watcher, LATE))) {
        let shown = watcher.shown();
        // avdec_h264 also shows what comes before a key frame, broken.
        let leading = shown.iter().position(|(pts, _)| keys.contains(pts)).expect("a key frame");
        assert!(leading == 0 || earliest > 0);
        let shown = &shown[leading..];
        let from = expected.iter().position(|(pts, _)| *pts == shown[0].0).unwrap();
        assert!(from >= earliest, "begins with picture {from}");
        assert_eq!(shown, &expected[from..][..shown.len()]);
        assert!(expected.len() - from - shown.len() <= LOST_BY_RTMP2SRC);
    }
}

#[test]
fn nginx_relays_h264() {
    relayed(Dialect::Avc, false);
    relayed(Dialect::Avc, true);
}

#[test]
fn nginx_relays_h265_enhanced() {
    relayed(Dialect::Enhanced, false);
    relayed(Dialect::Enhanced, true);
}

#[test]
fn nginx_relays_h265_domestic() {
    relayed(Dialect::Domestic, false);
    relayed(Dialect::Domestic, true);
}

/// What nginx as it comes does for id 12, and not for hvc1: a late player's video begins with a key frame.
#[test]
fn nginx_with_its_defaults_gives_domestic_video_from_a_repeated_header_on() {
    let nginx = Nginx::start();
    let url = nginx.url("keyed");
    let mut plan = Plan::live(Dialect::Domestic, true);
    plan.mux += " repeat-sequence-header=true";
    let publisher = Publisher::new(&plan, &url);
    publisher.play();
    publisher.wait_for_sent(LATE);
    let mut ffmpeg = FfmpegPlayer::start(&url, 30);
    let late = Recorder::start(&url);
    nginx.wait_for_players(2);
    late.wait_for_tags(80);
    let played = readers::ffmpeg(ffmpeg.file(), true);
    publisher.finish();
    for played in [played, readers::ffmpeg(late.file(), true)] {
        describes(&played, Dialect::Domestic, (160, 120));
        shows_the_source(&publisher, &played);
        assert!(played.pictures()[0].key);
        assert!(part_of(&publisher, &played).from >= LATE);
    }
}

/// Why `repeat-sequence-header` is there.
#[test]
fn without_repeated_headers_nginx_gives_late_players_no_h265_to_decode() {
    for dialect in [Dialect::Enhanced, Dialect::Domestic] {
        let nginx = Nginx::start();
        let url = nginx.url("live");
        let publisher = Publisher::new(&Plan::live(dialect, false), &url);
        publisher.play();
        publisher.wait_for_sent(20);
        let late = Recorder::start(&url);
        // More than two key frames.
        late.wait_for_tags(40);
        publisher.finish();
        let late = late.file();
        assert_eq!(from_first_header(late), None);
        assert_eq!(readers::ffmpeg(late, true).shown(), [""; 0]);
        assert_eq!(readers::mpegts(late, None).pictures(), []);
    }
}

#[test]
fn nginx_records_h264_and_h265_domestic() {
    for dialect in [Dialect::Avc, Dialect::Domestic] {
        println!("{dialect:?}");
        let nginx = Nginx::start();
        let publisher = Publisher::new(&Plan::quick(dialect, true), &nginx.url("record"));
        publisher.play();
        publisher.wait_for_end();
        nginx.wait_for_unpublish();
        let file = nginx.dir().join("cam0.flv");
        let recorded = readers::ffmpeg(&file, true);
        describes(&recorded, dialect, (160, 120));
        // Its times count from the first frame, which is at 0 here.
        assert_eq!(part_of(&publisher, &recorded), WHOLE);
        shows_the_source(&publisher, &recorded);
        assert_eq!(readers::mpegts(&file, None).errors, [""; 0]);
    }
}

/// The size changes in mid-stream: 30 pictures of one, then as many of another.
struct Change {
    publisher: Publisher,
    frames: gst_app::AppSrc,
    samples: Vec<gst::Sample>,
}

impl Change {
    const PICTURES: usize = 30;

    fn new(dialect: Dialect, mux: &str, url: &str) -> Self {
        let mut samples = encode(dialect, (160, 120), Self::PICTURES, gst::ClockTime::ZERO);
        samples.extend(encode(dialect, (240, 160), Self::PICTURES, gst::ClockTime::SECOND));
        let plan = Plan { video: "appsrc name=frames format=time".into(), ..Plan::quick(dialect, false) };
        let plan = Plan { mux: mux.into(), ..plan };
        let publisher = Publisher::new(&plan, url);
        let frames = publisher.pipeline.by_name("frames").unwrap().downcast::<gst_app::AppSrc>().unwrap();
        Self { publisher, frames, samples }
    }

    fn push(&self, which: impl std::slice::SliceIndex<[gst::Sample], Output = [gst::Sample]>) {
        for sample in &self.samples[which] {
            self.frames.push_sample(sample).unwrap();
        }
    }

    fn finish(&self) {
        self.frames.end_of_stream().unwrap();
        self.publisher.wait_for_end();
        assert_eq!(self.publisher.stat("caps-changes"), 1);
        assert_eq!(self.publisher.shown().len(), 2 * Self::PICTURES);
    }
}

#[test]
fn a_new_configuration_reaches_ffmpeg_as_a_server() {
    for dialect in Dialect::ALL {
        println!("{dialect:?}");
        let mut server = Listener::start();
        let change = Change::new(dialect, "", &server.url());
        change.publisher.play();
        change.push(..);
        change.finish();
        let taken = readers::ffmpeg(server.file(), true);
        assert_eq!(part_of(&change.publisher, &taken), WHOLE);
        shows_the_source(&change.publisher, &taken);
    }
}

#[test]
fn a_new_configuration_reaches_nginx_and_its_players() {
    for dialect in Dialect::ALL {
        println!("{dialect:?}");
        let avc = dialect == Dialect::Avc;
        let nginx = Nginx::start();
        let url = nginx.url("live");
        let early = Recorder::start(&url);
        nginx.wait_for_players(1);
        let repeat = if avc { "" } else { "repeat-sequence-header=true" };
        let change = Change::new(dialect, repeat, &url);
        change.publisher.play();
        // In the middle of the second size's first group.
        let join = Change::PICTURES + 5;
        change.push(..join);
        early.wait_for_tags(join);
        let late = Recorder::start(&url);
        nginx.wait_for_players(2);
        change.push(join..);
        change.finish();

        let played = readers::ffmpeg(early.file(), true);
        let part = part_of(&change.publisher, &played);
        assert!(part.from == 0 && part.missing <= LOST_BY_RTMP2SRC, "{part:?}");
        shows_the_source(&change.publisher, &played);

        let late = late.file();
        let file = if avc { late.into() } else { from_first_header(late).expect("a header") };
        let played = readers::ffmpeg(&file, true);
        describes(&played, dialect, (240, 160));
        assert!(part_of(&change.publisher, &played).from >= Change::PICTURES);
        shows_the_source(&change.publisher, &played);
    }
}

/// The publisher's end after its server went away: an error of the sink, and a stop that does not hang.
fn fails(publisher: &Publisher) {
    let error = end(&publisher.pipeline).expect("an error, not EOS");
    println!("{error}");
    assert!(error.starts_with("sink: "), "{error}");
    stop(&publisher.pipeline);
}

#[test]
fn a_server_that_goes_away_is_an_error_and_no_hang() {
    for audio in [false, true] {
        let mut nginx = Nginx::start();
        let publisher = Publisher::new(&Plan::live(Dialect::Domestic, audio), &nginx.url("live"));
        publisher.play();
        publisher.wait_for_sent(20);
        nginx.process.kill();
        fails(&publisher);

        let mut server = Listener::start();
        let publisher = Publisher::new(&Plan::live(Dialect::Enhanced, audio), &server.url());
        publisher.play();
        publisher.wait_for_sent(20);
        server.kill();
        fails(&publisher);
    }
}
