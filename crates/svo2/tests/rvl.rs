// SPDX-License-Identifier: MPL-2.0

//! Depth goes through RVL unchanged, into the bytes that the paper's algorithm makes, and nothing else comes out of bytes
//! that are not such. `tests/rvl.rs` of the workspace has Python judge the same.

use proptest::prelude::*;
use svo2::rvl::{RvlError, decode, encode};

/// Bytes worked out by hand, nibble by nibble.
#[test]
fn known_pictures_have_known_bytes() {
    let golden: [(&[u16], &[u8]); 6] = [
        (&[], &[]),
        // 3 zeros, 0 others.
        (&[0, 0, 0], &[0x00, 0x00, 0x00, 0x30]),
        // 0 zeros, 1 other; +1 is 2.
        (&[1], &[0x00, 0x00, 0x20, 0x01]),
        // 2, 2; +1500 is 3000, octal 5670: 8 f e 5; +2 is 4.
        (&[0, 0, 1500, 1502], &[0x40, 0xe5, 0x8f, 0x22]),
        // 0, 1; +5 is 10, octal 12: a 1; 1, 1; -2 is 3.
        (&[5, 0, 3], &[0x30, 0x11, 0xa1, 0x01]),
        // 0, 2; +65535 is 131070, octal 377776: e f f f f 3; -65534 is 131067, octal 377773: b f f f f 3.
        (&[65535, 1], &[0xf3, 0xff, 0xef, 0x02, 0x00, 0xf3, 0xff, 0xbf]),
    ];
    for (pixels, bytes) in golden {
        assert_eq!(encode(pixels), bytes, "{pixels:?}");
        assert_eq!(decode(bytes, pixels.len()).unwrap(), pixels);
    }
}

/// The paper's own encoder has signed pixels: beside 32768 its differences are others.
#[test]
fn differences_of_signed_pixels_are_understood() {
    // 0, 2; +32767 is 65534, octal 177776: e f f f f 1; to -32768 it is -65535, which is 131069, octal 377775: d f f f f 3.
    let bytes = [0xf1, 0xff, 0xef, 0x02, 0x00, 0xf3, 0xff, 0xdf];
    assert_eq!(decode(&bytes, 2).unwrap(), [32767, 32768]);
}

#[test]
fn what_is_wrong_is_said_with_the_place() {
    let refused = |bytes: &[u8], pixels| decode(bytes, pixels).unwrap_err();
    // 0, 1; +1.
    let one = [0x00, 0x00, 0x20, 0x01];
    assert_eq!(refused(&[], 3), RvlError::Short { pixels: 0, of: 3 });
    assert_eq!(refused(&one[..3], 1), RvlError::Short { pixels: 0, of: 1 });
    assert_eq!(refused(&[&one[..], &[0; 4]].concat(), 1), RvlError::Long { used: 4, of: 8 });
    assert_eq!(refused(&[&one[..], &[7]].concat(), 1), RvlError::Long { used: 4, of: 5 });
    assert_eq!(refused(&one, 0), RvlError::Long { used: 0, of: 4 });
    // The zeros that fill the word are an empty run.
    assert_eq!(refused(&one, 2), RvlError::Stuck { at: 1 });
    // 3 zeros, and 2 of them are wanted.
    assert_eq!(refused(&[0, 0, 0, 0x30], 2), RvlError::Run { at: 0, len: 3, of: 2 });
    // 0 zeros, 7 others.
    assert_eq!(refused(&[0, 0, 0, 0x07], 2), RvlError::Run { at: 0, len: 7, of: 2 });
    // 0, 1; a difference of 0 from 0.
    assert_eq!(refused(&[0, 0, 0, 0x01], 1), RvlError::Pixel { at: 0 });
    // 0, 1; 131072 is +65536: 8 8 8 8 8 4.
    assert_eq!(refused(&[0x84, 0x88, 0x88, 0x01], 1), RvlError::Pixel { at: 0 });
    // Eleven nibbles have 33 bits, and twelve are more than that.
    let long = refused(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0xf4, 0xff], 1);
    assert_eq!(long, RvlError::Number { at: 0 });
    assert_eq!(refused(&[0xff; 8], 1), RvlError::Number { at: 0 });
    for (error, shown) in [
        (RvlError::Short { pixels: 2, of: 3 }, "the data ends after 2 of 3 pixels"),
        (RvlError::Run { at: 1, len: 9, of: 3 }, "a run of 9 at pixel 1 of 3"),
        (RvlError::Long { used: 4, of: 8 }, "the last pixel is in byte 4 of 8"),
    ] {
        assert!(error.to_string().contains(shown), "{error}");
    }
}

/// Areas without depth, ramps with noise, and any numbers at all.
fn pictures() -> impl Strategy<Value = Vec<u16>> {
    let area = prop_oneof![
        (1..90usize).prop_map(|len| vec![0; len]),
        (any::<u16>(), -9..9i32, prop::collection::vec(0..4u16, 1..90)).prop_map(|(from, slope, noise)| {
            let at = |x: usize| from.wrapping_add_signed((slope * x as i32) as i16);
            noise.iter().enumerate().map(|(x, noise)| at(x).wrapping_add(*noise)).collect()
        }),
        prop::collection::vec(any::<u16>(), 1..30),
    ];
    prop::collection::vec(area, 0..12).prop_map(|areas| areas.concat())
}

proptest! {
    #[test]
    fn depth_goes_there_and_back(pixels in pictures()) {
        let bytes = encode(&pixels);
        prop_assert!(bytes.len().is_multiple_of(4));
        prop_assert_eq!(decode(&bytes, pixels.len()).unwrap(), pixels);
    }

    /// Whatever is decoded is encoded to the same bytes, but for the differences of signed pixels and what fills the last
    /// word: there is one coding of each picture.
    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64), pixels in 0..200usize) {
        if let Ok(decoded) = decode(&bytes, pixels) {
            prop_assert_eq!(decoded.len(), pixels);
            prop_assert_eq!(decode(&encode(&decoded), pixels).unwrap(), decoded);
        }
    }

    #[test]
    fn a_bent_byte_never_makes_a_picture_of_another_size(
        pixels in pictures(), at in any::<prop::sample::Index>(), bent in 1..=255u8,
    ) {
        let mut bytes = encode(&pixels);
        prop_assume!(!bytes.is_empty());
        let at = at.index(bytes.len());
        bytes[at] ^= bent;
        if let Ok(decoded) = decode(&bytes, pixels.len()) {
            prop_assert_eq!(decoded.len(), pixels.len());
        }
        prop_assert!(decode(&bytes[..bytes.len() - 1], pixels.len()).is_err());
    }
}
