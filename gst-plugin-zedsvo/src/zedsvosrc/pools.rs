// SPDX-License-Identifier: MPL-2.0

//! Memory for access units, used again and again: fresh pages cost more than what is copied into them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use gst::glib;
use gst::prelude::*;

/// Pools by the size of their buffers, powers of two.
#[derive(Default)]
pub(super) struct Pools(BTreeMap<usize, gst::BufferPool>);

/// Smaller buffers are not worth a pool.
const SMALLEST: usize = 1 << 12;

impl Pools {
    pub fn buffer(&mut self, len: usize) -> Result<gst::Buffer, gst::FlowError> {
        let size = len.next_power_of_two().max(SMALLEST);
        let pool = match self.0.entry(size) {
            Entry::Occupied(pool) => pool.into_mut(),
            Entry::Vacant(place) => place.insert(pool(size).map_err(|_| gst::FlowError::Error)?),
        };
        let mut buffer = pool.acquire_buffer(None)?;
        buffer.get_mut().expect("nobody else has it").set_size(len);
        Ok(buffer)
    }
}

fn pool(size: usize) -> Result<gst::BufferPool, glib::BoolError> {
    let pool = gst::BufferPool::new();
    let mut config = pool.config();
    let size = u32::try_from(size).map_err(|_| glib::bool_error!("{size} bytes are too many for a pool"))?;
    config.set_params(None, size, 0, 0);
    pool.set_config(config)?;
    pool.set_active(true)?;
    Ok(pool)
}

impl Drop for Pools {
    fn drop(&mut self) {
        for pool in self.0.values() {
            let _ = pool.set_active(false);
        }
    }
}
