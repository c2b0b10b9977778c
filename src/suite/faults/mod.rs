// SPDX-License-Identifier: MPL-2.0

//! What goes wrong on purpose, and what must hold all the same. The control plane's fault (NATS away and back) comes
//! with the control plane.

use super::{Spec, rows};

/// The rows in the order they run.
pub const ROWS: &[Spec] = rows![];
