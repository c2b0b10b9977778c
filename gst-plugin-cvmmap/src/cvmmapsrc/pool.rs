// SPDX-License-Identifier: MPL-2.0

//! Which buffer pool the pictures come from.

use gst::prelude::*;

use super::CAT;

/// Configures downstream's pool, or one of our own where that does not take our caps, or `own` says so.
pub(super) fn choose(
    query: &mut gst::query::Allocation,
    info: &gst_video::VideoInfo,
    own: bool,
) -> Result<(), gst::LoggableError> {
    let (caps, _) = query.get_owned();
    let caps = caps.ok_or_else(|| gst::loggable_error!(CAT, "allocation without caps"))?;
    let video_meta = query.find_allocation_meta::<gst_video::VideoMeta>().is_some();
    let (proposed, size, min, max) =
        query.allocation_pools().next().filter(|_| !own).unwrap_or((None, info.size() as u32, 0, 0));
    let allocator = query.allocation_params().next();
    let size = size.max(info.size() as u32);

    let configure = |pool: &gst::BufferPool| {
        let mut config = pool.config();
        config.set_params(Some(&caps), size, min, max);
        if let Some((allocator, params)) = &allocator {
            config.set_allocator(allocator.as_ref(), Some(params));
        }
        if video_meta && pool.has_option(gst_video::BUFFER_POOL_OPTION_VIDEO_META) {
            config.add_option(gst_video::BUFFER_POOL_OPTION_VIDEO_META);
        }
        pool.set_config(config)
    };
    let pool = match proposed.filter(|pool| configure(pool).is_ok()) {
        Some(pool) => pool,
        None => {
            let pool = gst_video::VideoBufferPool::new().upcast();
            configure(&pool).map_err(|error| gst::loggable_error!(CAT, "buffer pool: {error}"))?;
            pool
        }
    };
    if query.allocation_pools().next().is_some() {
        query.set_nth_allocation_pool(0, Some(&pool), size, min, max);
    } else {
        query.add_allocation_pool(Some(&pool), size, min, max);
    }
    Ok(())
}
