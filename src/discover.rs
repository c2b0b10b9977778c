// SPDX-License-Identifier: MPL-2.0

//! `cvmmap-streamer discover`: which producers and streamers there are.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use cvmmap_control::ServerUrl;
use cvmmap_control::discovery::{Found, STREAMER};
use cvmmap_control::error::printable;
use cvmmap_control::producers::{Producer, Watch, look, services};
use cvmmap_control::url::default_url;
use cvmmap_ipc::PlaneKind;
use serde_json::{Value, json};

use crate::exit::Failure;
use crate::{interrupt, show, tell};

/// List the producers in shared memory and on a NATS server.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The NATS server, empty = shared memory alone; the environment variable CVMMAP_NATS_URL names another default
    #[arg(long, value_name = "URL", default_value_t = default_url(), hide_default_value = true)]
    nats_url: String,
    /// Go on with what comes, changes and goes, until SIGINT
    #[arg(long, conflicts_with = "streamers")]
    watch: bool,
    /// List the streamers that answer on the server instead
    #[arg(long)]
    streamers: bool,
    /// Print JSON: one document, or with --watch a line for each change
    #[arg(long)]
    json: bool,
}

/// How soon SIGINT is heard.
const TICK: Duration = Duration::from_millis(50);

/// Lists, and with `--watch` follows.
///
/// # Errors
/// [`Exit::Usage`](crate::exit::Exit::Usage) for a wrong URL. That nobody is there is no error.
pub fn run(args: &Args) -> Result<(), Failure> {
    let url = match args.nats_url.as_str() {
        "" => None,
        text => {
            Some(text.parse::<ServerUrl>().map_err(|error| Failure::usage(format!("--nats-url {error}")))?)
        }
    };
    if args.streamers {
        return streamers(args, url);
    }
    if args.watch {
        return watch(args, url.as_ref());
    }
    let producers = look(url.as_ref());
    if args.json {
        let list: Vec<Value> = producers.iter().map(report).collect();
        tell::result(json!({ "producers": list }));
    } else if producers.is_empty() {
        tell::talk("no producers");
    } else {
        let rows = [vec![heading()], producers.iter().map(row).collect()].concat();
        tell::result(show::table(&rows));
    }
    Ok(())
}

/// All that is known of a producer.
pub(crate) fn report(producer: &Producer) -> Value {
    let said = |key: &str| producer.service.as_ref().and_then(|found| found.get(key));
    let header = producer.segment.as_ref().map(|segment| &segment.header);
    let left = header.and_then(|header| header.plane(PlaneKind::Left));
    let planes = |header: &cvmmap_ipc::Metadata| -> Vec<&str> {
        header.planes.iter().flatten().map(|plane| plane.kind.name()).collect()
    };
    json!({
        "instance": producer.instance,
        "uri": producer.target.as_ref().map(ToString::to_string),
        "found_by": producer.found_by(),
        "width": left.map(|left| left.width),
        "height": left.map(|left| left.height),
        "format": left.map(|left| format!("{} {}", left.pixel_format, left.depth)),
        "version": header.map(|header| header.version.to_string()),
        "planes": header.map(planes),
        "frame_count": header.map(|header| header.frame.count),
        "shm_name": producer.shm_name,
        "zmq_endpoint": producer.zmq_endpoint,
        "nats_key": producer.nats_key,
        "backend": said("backend"),
        "build_version": said("build_version"),
        "service_id": producer.service.as_ref().map(|found| &found.id),
    })
}

fn heading() -> Vec<String> {
    ["NAME", "SIZE", "FORMAT", "VERSION", "FOUND BY", "NATS KEY", "BACKEND"].map(str::to_owned).to_vec()
}

fn row(producer: &Producer) -> Vec<String> {
    let report = report(producer);
    let size = match (&report["width"], &report["height"]) {
        (Value::Null, _) => "-".into(),
        (width, height) => format!("{width}x{height}"),
    };
    let name = producer.target.as_ref().map_or_else(|| printable(&producer.shm_name), ToString::to_string);
    let rest = ["format", "version", "found_by", "nats_key", "backend"].map(|key| show::cell(&report[key]));
    [vec![name, size], rest.to_vec()].concat()
}

fn streamers(args: &Args, url: Option<ServerUrl>) -> Result<(), Failure> {
    let url = url.ok_or_else(|| Failure::usage("--streamers: they are found on a server alone"))?;
    let shown = url.to_string();
    let found = services(url, STREAMER);
    if found.is_none() {
        tell::talk(format_args!("no server at {shown}"));
    }
    let found = found.unwrap_or_default();
    if args.json {
        let list: Vec<Value> = found.iter().map(service).collect();
        tell::result(json!({ "streamers": list }));
    } else if found.is_empty() {
        tell::talk("no streamers");
    } else {
        let row = |found: &Found| {
            let said = |key: &str| found.get(key).unwrap_or("-").to_owned();
            vec![said("instance_name"), said("nats_target_key"), found.version.clone(), found.id.clone()]
        };
        let heading = ["PRODUCER", "NATS KEY", "VERSION", "ID"].map(str::to_owned).to_vec();
        tell::result(show::table(&[vec![heading], found.iter().map(row).collect()].concat()));
    }
    Ok(())
}

fn service(found: &Found) -> Value {
    json!({
        "name": found.name,
        "id": found.id,
        "version": found.version,
        "metadata": found.metadata,
        "endpoints": found.endpoints,
    })
}

/// One line a change.
fn watch(args: &Args, url: Option<&ServerUrl>) -> Result<(), Failure> {
    let interrupted = interrupt::listen()?;
    // The list is looked at twice a second; of those that nobody has taken, the next is as good.
    let (send, lists) = sync_channel(1);
    let _watch = Watch::start(url, move |producers| drop(send.try_send(producers)));
    let mut known = Changes::default();
    while !interrupted.load(Ordering::Relaxed) && !tell::is_closed() {
        match lists.recv_timeout(TICK) {
            Ok(producers) => {
                for (change, producer) in known.take(&producers) {
                    let taken = if args.json {
                        tell::result(json!({ "change": change, "producer": report(&producer) }))
                    } else {
                        tell::result(format_args!("{change:7}  {}", row(&producer).join("  ")))
                    };
                    if !taken {
                        return Ok(());
                    }
                }
            }
            Err(RecvTimeoutError::Timeout) => (),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Ok(())
}

/// What was shown of each, by the names of its pictures.
#[derive(Default)]
struct Changes(BTreeMap<(String, String), Producer>);

impl Changes {
    fn take(&mut self, producers: &[Producer]) -> Vec<(&'static str, Producer)> {
        let name = |producer: &Producer| (producer.shm_name.clone(), producer.zmq_endpoint.clone());
        let mut changes = Vec::new();
        for (_, producer) in self.0.extract_if(.., |known, _| !producers.iter().any(|p| name(p) == *known)) {
            changes.push(("removed", producer));
        }
        for producer in producers {
            match self.0.insert(name(producer), producer.clone()) {
                None => changes.push(("added", producer.clone())),
                // Frames come and go; what people see of them is the same.
                Some(old) if row(&old) != row(producer) => changes.push(("changed", producer.clone())),
                Some(_) => (),
            }
        }
        changes
    }
}
