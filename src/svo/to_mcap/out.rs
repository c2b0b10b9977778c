// SPDX-License-Identifier: MPL-2.0

//! A file that a thread of its own writes, while more is put together.

use std::fs::File;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

/// Pieces that wait to be written; mostly they are chunks of MCAP.
const WAITING: usize = 2;

/// Takes bytes, and gives what holds them back to be filled again. What fails is told by a later call, or by
/// [`finish`](Self::finish).
pub struct Out {
    /// `None` once no more come.
    pieces: Option<SyncSender<Vec<u8>>>,
    spent: Receiver<Vec<u8>>,
    /// `None` once it has told what failed.
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Out {
    /// Writes where the file stands.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(file: &File) -> io::Result<Self> {
        let mut file = file.try_clone()?;
        let (pieces, coming) = sync_channel::<Vec<u8>>(WAITING);
        let (done, spent) = channel();
        let work = move || {
            for piece in coming {
                file.write_all(&piece)?;
                let _ = done.send(piece);
            }
            Ok(())
        };
        let thread = std::thread::Builder::new().name("mcap".into()).spawn(work)?;
        Ok(Self { pieces: Some(pieces), spent, thread: Some(thread) })
    }

    /// Waits until all is written.
    ///
    /// # Errors
    /// What the disk said.
    pub fn finish(mut self) -> io::Result<()> {
        drop(self.pieces.take());
        told(self.thread.take())
    }
}

impl Drop for Out {
    /// Nothing is written behind it: the next attempt begins the file anew.
    fn drop(&mut self) {
        drop(self.pieces.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn told(thread: Option<JoinHandle<io::Result<()>>>) -> io::Result<()> {
    let Some(thread) = thread else { return Err(io::Error::other("writing failed before")) };
    thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread of ours panicked")))
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut piece = self.spent.try_recv().unwrap_or_default();
        piece.clear();
        piece.extend_from_slice(bytes);
        if self.pieces.as_ref().is_none_or(|pieces| pieces.send(piece).is_err()) {
            // It ends before it is told to where it fails, and only there.
            told(self.thread.take())?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_are_written_in_their_order() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let mut out = Out::new(path.as_file()).unwrap();
        let pieces: Vec<Vec<u8>> = (0..100).map(|n| vec![n; usize::from(n) * 1000]).collect();
        pieces.iter().for_each(|piece| out.write_all(piece).unwrap());
        out.finish().unwrap();
        assert!(std::fs::read(path.path()).unwrap() == pieces.concat());
    }

    #[test]
    fn what_the_disk_says_is_told() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut out = Out::new(&full).unwrap();
        let failed = (0..100).find_map(|_| out.write(&[0; 1000]).err());
        assert_eq!(failed.expect("it fails in time").kind(), io::ErrorKind::StorageFull);
        assert!(out.finish().is_err());
        let mut out = Out::new(&full).unwrap();
        out.write_all(&[0; 1000]).unwrap();
        assert_eq!(out.finish().unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
