// SPDX-License-Identifier: MPL-2.0

//! A file of either format, as the thread that writes it sees it.

use std::fs::File;

use super::queue::Item;

/// One growing file.
pub trait Track: Send {
    /// Whether an item can follow what is in the file; what cannot begins another one. Everything fits into a new file.
    fn fits(&self, item: &Item) -> bool;

    /// Appends an item.
    ///
    /// # Errors
    /// The reason why nothing more can be written.
    fn write(&mut self, item: Item) -> Result<(), String>;

    /// To be called now and then while nothing comes.
    ///
    /// # Errors
    /// As [`Track::write`].
    fn idle(&mut self) -> Result<(), String>;

    /// Makes the file whole.
    ///
    /// # Errors
    /// As [`Track::write`]; what was written so far stays readable.
    fn finish(self: Box<Self>) -> Result<File, String>;
}
