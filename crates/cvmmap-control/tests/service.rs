// SPDX-License-Identifier: MPL-2.0

//! A producer through starts and ends, with a server and without.

#[path = "../../../tests/common/nats.rs"]
mod nats;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cvmmap_control::proto::{GetSourceInfoResponse, SourceKind};
use cvmmap_control::service::{Identity, Producer, Refusal, SourceHandler};
use cvmmap_control::{Connection, Source, Subjects, block_on};
use cvmmap_ipc::FrameId;
use nats::Nats;

const PATIENCE: Duration = Duration::from_secs(30);

/// Counts who is asked; a seek takes as long as its target says, in ms.
#[derive(Default)]
struct Replay {
    asked: AtomicU32,
    sought: AtomicU32,
}

impl SourceHandler for Replay {
    fn reset_frame_count(&self) -> Result<(), Refusal> {
        Err(Refusal::unsupported())
    }

    fn info(&self) -> GetSourceInfoResponse {
        self.asked.fetch_add(1, Ordering::Relaxed);
        GetSourceInfoResponse { source_kind: SourceKind::Finite.into(), ..Default::default() }
    }

    fn seek(&self, target_ns: u64) -> Result<FrameId, Refusal> {
        self.sought.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(target_ns));
        Ok(FrameId { count: 0, timestamp_ns: target_ns })
    }
}

fn identity(instance: &str) -> Identity {
    let target = format!("cvmmap://{instance}").parse().unwrap();
    Identity { target, backend: "test".into(), version: "0".into() }
}

fn source(connection: &Connection, instance: &str) -> Source {
    let subjects = Subjects::new(identity(instance).target.nats_target_key());
    // What a producer refuses for its time does not depend on it.
    Source::new(connection.clone(), subjects).with_timeout(PATIENCE)
}

/// Asks until somebody answers; nobody may take a request and leave it.
fn info(source: &Source) -> GetSourceInfoResponse {
    let end = Instant::now() + PATIENCE;
    loop {
        let asking = source.clone();
        match block_on(async move { asking.info().await }, 2 * PATIENCE).unwrap() {
            Ok(info) => return info,
            Err(error) => {
                assert!(matches!(error.name(), "no-responders" | "not-connected"), "{error}");
                assert!(Instant::now() < end, "{error}");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

#[test]
fn producers_that_came_and_went_without_a_server_leave_nothing_behind() {
    let mut server = Nats::start();
    server.kill();
    let connection = Connection::open(&server.url().parse().unwrap()).unwrap();
    let handler = Arc::new(Replay::default());
    for _ in 0..200 {
        let producer = Producer::start(&connection, &identity("gone"), handler.clone());
        producer.online();
        producer.offline();
    }
    let end = Instant::now() + PATIENCE;
    while Arc::strong_count(&handler) > 1 {
        assert!(Instant::now() < end, "{} handlers are left", Arc::strong_count(&handler));
        std::thread::sleep(Duration::from_millis(5));
    }
    let here = Arc::new(Replay::default());
    let _producer = Producer::start(&connection, &identity("gone"), here.clone());
    server.restart();
    let source = source(&connection, "gone");
    for _ in 0..20 {
        assert_eq!(info(&source).source_kind, i32::from(SourceKind::Finite));
    }
    assert_eq!((handler.asked.load(Ordering::Relaxed), here.asked.load(Ordering::Relaxed)), (0, 20));
}

#[test]
fn a_producer_that_goes_answers_what_it_has_taken() {
    let server = Nats::start();
    let connection = Connection::open(&server.url().parse().unwrap()).unwrap();
    let handler = Arc::new(Replay::default());
    let producer = Producer::start(&connection, &identity("leaving"), handler.clone());
    let source = source(&connection, "leaving");
    info(&source);
    let asking = source.clone();
    let client = std::thread::spawn(move || block_on(async move { asking.seek(200).await }, PATIENCE));
    let end = Instant::now() + PATIENCE;
    while handler.sought.load(Ordering::Relaxed) == 0 {
        assert!(Instant::now() < end, "the seek did not come");
        std::thread::sleep(Duration::from_millis(1));
    }
    producer.offline();
    assert_eq!(client.join().unwrap().unwrap().unwrap().landed_timestamp_ns, 200);
    let gone = block_on(async move { source.info().await }, PATIENCE).unwrap();
    assert_eq!(gone.unwrap_err().name(), "no-responders");
}

#[test]
fn what_its_client_has_given_up_is_not_done_later() {
    let server = Nats::start();
    let connection = Connection::open(&server.url().parse().unwrap()).unwrap();
    let handler = Arc::new(Replay::default());
    let _producer = Producer::start(&connection, &identity("busy"), handler.clone());
    let source = source(&connection, "busy");
    info(&source);
    let clients: Vec<_> = (0..6)
        .map(|_| {
            let asking = source.clone();
            std::thread::spawn(move || block_on(async move { asking.seek(700).await }, 2 * PATIENCE).unwrap())
        })
        .collect();
    let answers: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    assert!(answers.iter().any(Result::is_ok));
    // One more begins in time, and more of them where they came one by one. The line is empty when a request of now is
    // served.
    let asking = source.clone();
    block_on(async move { asking.seek(0).await }, PATIENCE).unwrap().unwrap();
    let sought = handler.sought.load(Ordering::Relaxed);
    assert!(sought <= 6, "{sought} of 7 seeks were done");
}
