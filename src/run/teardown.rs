// SPDX-License-Identifier: MPL-2.0

//! Elements that may hang when they are stopped: drivers, and connections in the middle of a handshake.

use std::sync::mpsc::channel;
use std::time::Duration;

use gst::prelude::*;

/// What stops at all, stops within that.
const PATIENCE: Duration = Duration::from_millis(300);

/// Takes an element to NULL, and leaves it behind where that hangs; tells whether it stopped.
pub fn stop(element: gst::Element) -> bool {
    stop_within(element, PATIENCE)
}

/// As [`stop`], with another patience.
pub fn stop_within(element: gst::Element, patience: Duration) -> bool {
    let name = element.name();
    let (done, stopped) = channel();
    std::thread::spawn(move || {
        let _ = element.set_state(gst::State::Null);
        let _ = done.send(());
    });
    let stopped = stopped.recv_timeout(patience).is_ok();
    if !stopped {
        gst::warning!(gst::CAT_DEFAULT, "{name} does not stop; it is left behind");
    }
    stopped
}
