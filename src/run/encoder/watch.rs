// SPDX-License-Identifier: MPL-2.0

//! Whether an encoder still puts out what is put in.

/// Frames that may go in while nothing comes out.
pub const PATIENCE: u32 = 60;

/// Counts frames since the last one that came out.
#[derive(Debug, Default)]
pub struct Watch {
    waiting: u32,
    delivered: bool,
}

impl Watch {
    /// A frame goes in; whether it still makes sense to wait for the encoder.
    pub fn input(&mut self) -> bool {
        self.waiting += 1;
        self.waiting <= PATIENCE
    }

    /// Something came out.
    pub fn output(&mut self) {
        self.waiting = 0;
        self.delivered = true;
    }

    /// Whether anything ever came out.
    pub fn delivered(&self) -> bool {
        self.delivered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixty_frames_go_in_before_the_encoder_is_given_up() {
        let mut watch = Watch::default();
        assert_eq!((0..100).take_while(|_| watch.input()).count(), 60);
    }

    #[test]
    fn an_encoder_that_goes_silent_later_is_given_up_too() {
        let mut watch = Watch::default();
        for _ in 0..1000 {
            assert!(watch.input());
            watch.output();
        }
        assert_eq!((0..100).take_while(|_| watch.input()).count(), 60);
    }
}
