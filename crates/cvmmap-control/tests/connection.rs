// SPDX-License-Identifier: MPL-2.0

//! A connection through the life of a real server.

#[path = "../../../tests/common/nats.rs"]
mod nats;

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cvmmap_control::{Connection, ControlError, Link, ServerUrl, Subscription, block_on};
use nats::Nats;

const PATIENCE: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

fn open(url: &str) -> Connection {
    Connection::open(&url.parse::<ServerUrl>().unwrap()).unwrap()
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn up(connection: &Connection) {
    wait_for("the server", || connection.link() == Link::Up);
}

fn ask(connection: &Connection, subject: &str) -> Result<Bytes, ControlError> {
    let (connection, subject) = (connection.clone(), subject.to_owned());
    let asked = async move { connection.ask(&subject, Bytes::new(), SECOND).await };
    block_on(asked, PATIENCE).unwrap()
}

fn listen(connection: &Connection, subject: &str) -> (Subscription, Receiver<Bytes>) {
    let (send, received) = channel();
    (connection.subscribe(subject, move |_, payload| drop(send.send(payload))), received)
}

/// Publishes as a client of a few lines does.
fn publish(port: u16, subject: &str, payload: &str) {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = payload.len();
    write!(stream, "CONNECT {{\"verbose\":false}}\r\nPUB {subject} {length}\r\n{payload}\r\nPING\r\n")
        .unwrap();
    let mut lines = BufReader::new(stream).lines();
    assert!(lines.any(|line| line.unwrap() == "PONG"));
}

/// Nobody knows when a subscription has reached the server, so it is sent until it arrives.
fn arrives(port: u16, subject: &str, received: &Receiver<Bytes>) {
    received.try_iter().for_each(drop);
    wait_for("a message", || {
        publish(port, subject, "here");
        received.recv_timeout(Duration::from_millis(50)).is_ok_and(|payload| payload == "here")
    });
}

#[test]
fn a_server_that_is_not_there_yet_is_found_when_it_comes() {
    let mut server = Nats::start();
    server.kill();
    let connection = open(&server.url());
    let (_subscription, received) = listen(&connection, "news");
    let error = ask(&connection, "cvmmap.x.producer.source.info").unwrap_err();
    assert_eq!(error.name(), "not-connected");
    assert!(error.to_string().starts_with(&format!("no connection to the NATS server {}", server.url())));
    server.restart();
    up(&connection);
    arrives(server.port(), "news", &received);
    assert_eq!(
        ask(&connection, "nobody").unwrap_err(),
        ControlError::NoResponders { subject: "nobody".into() }
    );
}

#[test]
fn a_server_that_is_killed_and_started_again_is_one_outage() {
    let mut server = Nats::start();
    let connection = open(&server.url());
    let (tell, told) = channel();
    let _watch = connection.watch(move |link| drop(tell.send(link)));
    let (_subscription, received) = listen(&connection, "news");
    up(&connection);
    arrives(server.port(), "news", &received);
    server.kill();
    wait_for("the outage", || connection.link() != Link::Up);
    // At once: well within the time that an answer may take.
    let error = ask(&connection, "nobody").unwrap_err();
    assert!(matches!(error, ControlError::NotConnected { .. }), "{error}");
    server.restart();
    up(&connection);
    arrives(server.port(), "news", &received);
    assert_eq!(ask(&connection, "nobody").unwrap_err().name(), "no-responders");
    let links: Vec<Link> = told.try_iter().collect();
    assert_eq!(links.iter().filter(|link| matches!(link, Link::Down(_))).count(), 1, "{links:?}");
    assert_eq!(connection.lost_messages(), 0);
}

#[test]
fn a_server_that_hangs_costs_the_timeout_and_no_more() {
    let server = Nats::start();
    let connection = open(&server.url());
    up(&connection);
    server.freeze();
    let error = ask(&connection, "nobody").unwrap_err();
    server.thaw();
    assert_eq!(error, ControlError::TimedOut { subject: "nobody".into(), after: SECOND });
    wait_for("the answer", || ask(&connection, "nobody").is_err_and(|error| error.name() == "no-responders"));
}

/// Connects, and returns how many connections the server has had by then.
fn connection_number(port: u16) -> u64 {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut info = String::new();
    BufReader::new(stream).read_line(&mut info).unwrap();
    let (_, id) = info.split_once("\"client_id\":").expect("a server tells its clients their numbers");
    id.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

#[test]
fn one_url_is_one_connection() {
    let server = Nats::start();
    let before = connection_number(server.port());
    let url: ServerUrl = server.url().parse().unwrap();
    assert!(!Connection::is_open(&url));
    let (one, other) = (open(&server.url()), open(&server.url()));
    up(&one);
    assert_eq!(other.link(), Link::Up);
    assert!(Connection::is_open(&url));
    assert_eq!(connection_number(server.port()), before + 2, "one between these two");
}

#[test]
fn users_and_passwords_of_the_url_are_used_and_never_shown() {
    let server = Nats::with_args(&["--user", "us:er", "--pass", "hunt@r2"]);
    let host = format!("127.0.0.1:{}", server.port());
    let connection = open(&format!("nats://us%3Aer:hunt%40r2@{host}"));
    up(&connection);
    for wrong in ["us%3Aer:wrong-s3cret@", "us%3Aer@", ""] {
        let connection = open(&format!("nats://{wrong}{host}"));
        wait_for("the refusal", || matches!(connection.link(), Link::Down(Some(_))));
        let error = ask(&connection, "nobody").unwrap_err().to_string();
        assert!(error.to_lowercase().contains("authorization"), "{error}");
        assert!(error.contains(&host) && !error.contains("s3cret"), "{error}");
        assert!(!format!("{:?} {:?}", connection.url(), connection.link()).contains("s3cret"));
    }
}

#[test]
fn a_token_of_the_url_is_used() {
    let server = Nats::with_args(&["--auth", "t0ken"]);
    up(&open(&format!("nats://t0ken@127.0.0.1:{}", server.port())));
}
