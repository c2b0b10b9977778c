// SPDX-License-Identifier: MPL-2.0

//! Memory for access units, used again and again: fresh pages cost more than what is copied into them.

use std::collections::BTreeMap;

use gst::prelude::*;

/// Pools by the size of their buffers, powers of two.
#[derive(Default)]
pub(super) struct Pools(BTreeMap<usize, gst::BufferPool>);

/// Smaller buffers are not worth a pool.
const SMALLEST: usize = 1 << 12;

impl Pools {
    pub fn buffer(&mut self, len: usize) -> Result<gst::Buffer, gst::FlowError> {
        let size = len.next_power_of_two().max(SMALLEST);
        if !self.0.contains_key(&size) {
            let pool = gst::BufferPool::new();
            let mut config = pool.config();
            config.set_params(None, u32::try_from(size).map_err(|_| gst::FlowError::Error)?, 0, 0);
            pool.set_config(config).map_err(|_| gst::FlowError::Error)?;
            pool.set_active(true).map_err(|_| gst::FlowError::Error)?;
            self.0.insert(size, pool);
        }
        let mut buffer = self.0[&size].acquire_buffer(None)?;
        buffer.get_mut().expect("nobody else has it").set_size(len);
        Ok(buffer)
    }
}

impl Drop for Pools {
    fn drop(&mut self) {
        for pool in self.0.values() {
            let _ = pool.set_active(false);
        }
    }
}
