// SPDX-License-Identifier: MPL-2.0

//! Version and date of the plugin, from Cargo and git.

fn main() {
    gst_plugin_version_helper::info()
}
