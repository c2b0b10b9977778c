// SPDX-License-Identifier: MPL-2.0

//! What producers do to streams: resets, crashes, segments that shrink, pictures that grow.

use std::time::Duration;

use cvmmap_ipc::clock::unix_now_ns;

use super::{PRODUCER_BACK_MS, first_after, one_session, recovered};
use crate::suite::frames::{self, Published, Shown, percentile};
use crate::suite::line::{Line, Setup, normal};
use crate::suite::rig::{Rig, Step, Trouble, ms};

/// The frame at which faults begin: three seconds at the usual rate.
const BEGIN: u64 = 90;
const RESETS: usize = 50;
const RESET_EVERY: u64 = 3;
/// Fifty resets in five seconds, and what a loaded machine adds.
const STORM_MS: f64 = 6_000.0;
/// From a fault of one frame to the next picture: it should be a few frames.
const NEXT_PICTURE_MS: f64 = 1_000.0;
const AFTER: u64 = 45;
const DEAD: Duration = Duration::from_secs(2);

fn both(faults: &[String]) -> Setup {
    Setup { rtmp: Some("h264"), faults: faults.to_vec(), ..Setup::default() }
}

/// Fifty resets in five seconds: sessions go on, time rises, the picture behind each is a key frame.
pub fn reset_storm(rig: &mut Rig) -> Step {
    let setup = both(&[format!("reset@{BEGIN}+{RESET_EVERY}x{RESETS}")]);
    let interval_ns = setup.interval_ns();
    let mut line = Line::start(rig, setup)?;
    line.wait_for_frame(rig, BEGIN + RESETS as u64 * RESET_EVERY + AFTER)?;
    let ended = line.finish(rig)?;
    let resets: Vec<Published> =
        ended.published.iter().filter(|frame| frame.count == 0 && frame.n > 0).copied().collect();
    rig.equals("resets", Some(resets.len() as f64), RESETS as f64, "resets");
    let [Some(first), Some(last)] = [resets.first(), resets.last()] else {
        return Err(Trouble::Failed("the producer was never reset".into()));
    };
    rig.at_most("time from the first to the last", Some(ms(last.unix_ns - first.unix_ns)), STORM_MS, "ms");
    one_session(rig, &ended);
    for (name, shown) in [("RTP", ended.rtp_shown()), ("RTMP", ended.rtmp_shown())] {
        let usual = normal(rig, name, &shown, first.unix_ns, interval_ns)?;
        let begun = first_of_each(&shown, &resets);
        let seen = begun.len() as f64;
        rig.at_least(
            &format!("{name}: resets between two pictures"),
            Some(seen),
            RESETS as f64 / 2.0,
            "resets",
        );
        let keyless = begun.iter().filter(|one| !one.picture.key).count() as f64;
        let what = format!("{name}: first pictures behind a reset that are no key frames");
        rig.equals(&what, Some(keyless), 0.0, "pictures");
        let waits = waits(&shown, &resets);
        rig.number(&format!("{name}: reset to next picture, p50"), percentile(&waits, 50).map(ms), "ms");
        rig.number(&format!("{name}: reset to next picture, longest"), percentile(&waits, 100).map(ms), "ms");
        recovered(rig, name, &usual, &frames::published_in(&shown, last.unix_ns..u64::MAX));
    }
    Ok(())
}

/// Pictures that are the first of those behind a reset.
fn first_of_each(shown: &[Shown], resets: &[Published]) -> Vec<Shown> {
    let epoch = |one: &Shown| resets.partition_point(|reset| reset.n <= one.n);
    shown.windows(2).filter(|pair| epoch(&pair[0]) != epoch(&pair[1])).map(|pair| pair[1]).collect()
}

/// From each of these frames to the first picture that is not older.
fn waits(shown: &[Shown], since: &[Published]) -> Vec<u64> {
    let wait = |from: &Published| {
        let next = shown.iter().find(|one| one.n >= from.n)?;
        Some(next.picture.unix_ns.saturating_sub(from.unix_ns))
    };
    since.iter().filter_map(wait).collect()
}

/// The producer is killed, and another one starts under its name.
pub fn crash(rig: &mut Rig) -> Step {
    let setup = both(&[]);
    let interval_ns = setup.interval_ns();
    let mut line = Line::start(rig, setup)?;
    line.wait_for_pictures(rig, BEGIN as usize)?;
    let killed = unix_now_ns();
    line.sim().kill();
    rig.pass(DEAD)?;
    let started = unix_now_ns();
    line.produce(rig)?;
    line.wait_for(rig, "pictures of the second producer", |line| {
        [line.rtp_pictures(), line.rtmp_pictures()]
            .iter()
            .all(|pictures| pictures.iter().filter(|one| one.unix_ns >= started).count() >= AFTER as usize)
    })?;
    let ended = line.finish(rig)?;
    one_session(rig, &ended);
    let published = ended.published.iter().find(|frame| frame.unix_ns >= started);
    let published = published.ok_or_else(|| Trouble::Failed("the second producer's log is empty".into()))?;
    rig.number(
        "start of the second producer to its first frame",
        Some(ms(published.unix_ns - started)),
        "ms",
    );
    for (name, shown) in [("RTP", ended.rtp_shown()), ("RTMP", ended.rtmp_shown())] {
        let usual = normal(rig, name, &shown, killed, interval_ns)?;
        let after = frames::published_in(&shown, started..u64::MAX);
        let back = first_after(&after, started);
        let what = format!("{name}: start of the second producer to the first picture");
        rig.at_most(&what, back, PRODUCER_BACK_MS, "ms");
        let since = first_after(&after, published.unix_ns);
        rig.number(&format!("{name}: first frame published to the first picture"), since, "ms");
        rig.holds(
            &format!("{name}: the first picture is a key frame"),
            after.first().is_some_and(|one| one.picture.key),
        );
        recovered(rig, name, &usual, &after);
    }
    Ok(())
}

/// The segment is cut off under the streamer, again and again.
pub fn shrink(rig: &mut Rig) -> Step {
    const EVERY: u64 = 15;
    const TIMES: u64 = 6;
    let setup = both(&[format!("shrink@{BEGIN}+{EVERY}x{TIMES}")]);
    let interval_ns = setup.interval_ns();
    let mut line = Line::start(rig, setup)?;
    line.wait_for_frame(rig, BEGIN + EVERY * TIMES + AFTER)?;
    let ended = line.finish(rig)?;
    one_session(rig, &ended);
    // The frame behind each cut: the one that was cut may or may not have been read by then.
    let next: Vec<Published> = ended
        .published
        .iter()
        .filter(|frame| frame.n > BEGIN && frame.n <= BEGIN + EVERY * TIMES)
        .filter(|frame| (frame.n - BEGIN - 1).is_multiple_of(EVERY))
        .copied()
        .collect();
    rig.equals("cuts", Some(next.len() as f64), TIMES as f64, "cuts");
    let begin = next.first().map_or(0, |frame| frame.unix_ns);
    for (name, shown) in [("RTP", ended.rtp_shown()), ("RTMP", ended.rtmp_shown())] {
        let waits = waits(&shown, &next);
        rig.equals(
            &format!("{name}: cuts behind which pictures came"),
            Some(waits.len() as f64),
            TIMES as f64,
            "cuts",
        );
        let longest = percentile(&waits, 100).map(ms);
        let what = format!("{name}: longest time from the frame behind a cut to a picture");
        rig.at_most(&what, longest, NEXT_PICTURE_MS, "ms");
        let usual = normal(rig, name, &shown, begin, interval_ns)?;
        let last = next.last().map_or(0, |frame| frame.unix_ns);
        recovered(rig, name, &usual, &frames::published_in(&shown, last..u64::MAX));
    }
    Ok(())
}

/// Pictures become twice as wide and high in the running session.
pub fn grow(rig: &mut Rig) -> Step {
    let setup = both(&[format!("grow@{BEGIN}=2")]);
    let (small, interval_ns) = (setup.size, setup.interval_ns());
    let large = (2 * small.0, 2 * small.1);
    let mut line = Line::start(rig, setup)?;
    line.wait_for_frame(rig, BEGIN + AFTER)?;
    line.wait_for(rig, "pictures of the new size", |line| {
        [line.rtp_pictures(), line.rtmp_pictures()]
            .iter()
            .all(|pictures| pictures.iter().filter(|one| one.width == large.0).count() >= 30)
    })?;
    let ended = line.finish(rig)?;
    one_session(rig, &ended);
    let headers = ended.rtmp_summary["configurations"].as_f64();
    rig.equals("RTMP sequence headers that differ", headers, 2.0, "headers");
    let grown = ended.published.iter().find(|frame| frame.n == BEGIN);
    let grown =
        grown.ok_or_else(|| Trouble::Failed("the producer's log has no frame of the change".into()))?;
    for (name, shown) in [("RTP", ended.rtp_shown()), ("RTMP", ended.rtmp_shown())] {
        let size = |one: &Shown| (one.picture.width, one.picture.height);
        let wanted = |one: &Shown| if one.n < BEGIN { small } else { large };
        let wrong = shown.iter().filter(|one| size(one) != wanted(one)).count();
        rig.equals(&format!("{name}: pictures of the wrong size"), Some(wrong as f64), 0.0, "pictures");
        let after: Vec<Shown> = shown.iter().filter(|one| size(one) == large).copied().collect();
        rig.at_least(
            &format!("{name}: pictures of the new size"),
            Some(after.len() as f64),
            30.0,
            "pictures",
        );
        rig.holds(
            &format!("{name}: the first of them is a key frame"),
            after.first().is_some_and(|one| one.picture.key),
        );
        let first = first_after(&after, grown.unix_ns);
        rig.at_most(&format!("{name}: change to the first picture"), first, PRODUCER_BACK_MS, "ms");
        normal(rig, name, &shown, grown.unix_ns, interval_ns)?;
    }
    Ok(())
}
