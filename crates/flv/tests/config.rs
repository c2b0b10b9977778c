// SPDX-License-Identifier: MPL-2.0

//! Configuration records as x264, x265 and AAC encoders write them, and what is wrong with damaged ones.

use flv::VideoCodec::{H264, H265};
use flv::audio::aac_rate_and_channels;
use flv::config::VideoConfig;

/// x265enc ! h265parse, stream-format hvc1, 64x64.
const HVCC: &str = "0101600000009000000000003ff000fcfdf8f800000f03\
    2000010018\
    40010c01ffff01600000030090000003000003003f959809\
    210001002f\
    42010101600000030090000003000003003fa020810596566924cafff000100016a0c0c0c080000003008000000f0422\
    0001000744\
    01c172b42240";
/// x264enc ! h264parse, stream-format avc.
const AVCC: &str = "01640014ffe1001b67640014acd94426c05a8303035280000003008000001e478a14cb01000568ebecb22c";

/// Where the parts of the records end, counted by hand.
const HVCC_PARTS: [(usize, &str); 10] = [
    (23, "its fixed part"),
    (26, "an array's header"),
    (28, "a parameter set's length"),
    (52, "a parameter set"),
    (55, "an array's header"),
    (57, "a parameter set's length"),
    (104, "a parameter set"),
    (107, "an array's header"),
    (109, "a parameter set's length"),
    (116, "a parameter set"),
];
const AVCC_PARTS: [(usize, &str); 6] = [
    (6, "its fixed part"),
    (8, "a parameter set's length"),
    (35, "a parameter set"),
    (36, "the number of PPS"),
    (38, "a parameter set's length"),
    (43, "a parameter set"),
];

fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().map(|digit| (digit as char).to_digit(16).unwrap() as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// VPS, SPS and PPS of the real record, each with its array's header.
fn hvcc_arrays() -> [Vec<u8>; 3] {
    let record = hex(HVCC);
    [23..52, 52..104, 104..116].map(|array| record[array].to_vec())
}

fn hvcc(arrays: &[&[u8]]) -> Vec<u8> {
    let mut record = hex(HVCC)[..22].to_vec();
    record.push(arrays.len() as u8);
    record.extend(arrays.concat());
    record
}

#[test]
fn records_of_real_encoders_are_taken() {
    let config = VideoConfig { nal_length_bytes: 4, parameter_sets: [0, 1, 1] };
    assert_eq!(H264.check_config(&hex(AVCC)), Ok(config));
    let config = VideoConfig { nal_length_bytes: 4, parameter_sets: [1, 1, 1] };
    assert_eq!(H265.check_config(&hex(HVCC)), Ok(config));
    // High profile avcC may go on with chroma format and bit depths.
    let mut longer = hex(AVCC);
    longer.extend([0xfd, 0xf8, 0xf8, 0]);
    assert!(H264.check_config(&longer).is_ok());
}

#[test]
fn every_truncation_says_where_the_record_ends() {
    for (codec, name, record, parts) in
        [(H264, "avcC", hex(AVCC), &AVCC_PARTS[..]), (H265, "hvcC", hex(HVCC), &HVCC_PARTS)]
    {
        assert_eq!(record.len(), parts.last().unwrap().0);
        for cut in 0..record.len() {
            let (_, part) = parts.iter().find(|(end, _)| cut < *end).unwrap();
            let error = codec.check_config(&record[..cut]).unwrap_err();
            assert_eq!(error.to_string(), format!("{name} of {cut} bytes ends within {part}"));
        }
    }
}

#[test]
fn only_version_1_is_taken() {
    // What a caller passes that mistakes Annex B for a record begins with 0.
    for version in [0, 2, 255] {
        for (codec, name, mut record) in [(H264, "avcC", hex(AVCC)), (H265, "hvcC", hex(HVCC))] {
            record[0] = version;
            let error = codec.check_config(&record).unwrap_err();
            assert_eq!(error.to_string(), format!("{name} version {version} is not 1"));
        }
    }
}

#[test]
fn lengths_of_3_bytes_are_refused_and_the_others_are_told() {
    for (codec, name, mut record, at) in [(H264, "avcC", hex(AVCC), 4), (H265, "hvcC", hex(HVCC), 21)] {
        for bytes in [1, 2, 4] {
            record[at] = record[at] & !3 | (bytes - 1);
            assert_eq!(codec.check_config(&record).unwrap().nal_length_bytes, bytes);
        }
        record[at] = record[at] & !3 | 2;
        let error = codec.check_config(&record).unwrap_err();
        let message = format!("{name} says NAL unit lengths of 3 bytes; 1, 2 and 4 are allowed");
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn each_missing_parameter_set_is_named() {
    let [vps, sps, pps] = hvcc_arrays();
    let missing = |codec: flv::VideoCodec, record: &[u8]| codec.check_config(record).unwrap_err().to_string();
    for (arrays, name) in [([&sps, &pps], "VPS"), ([&vps, &pps], "SPS"), ([&vps, &sps], "PPS")] {
        let message = format!("hvcC holds no {name}; a decoder cannot begin without it");
        assert_eq!(missing(H265, &hvcc(&arrays.map(Vec::as_slice))), message);
        // An array without content is no parameter set either.
        let nal_type = b" !\""[["VPS", "SPS", "PPS"].iter().position(|other| *other == name).unwrap()];
        assert_eq!(missing(H265, &hvcc(&[arrays[0], arrays[1], &[nal_type, 0, 0]])), message);
    }
    assert_eq!(missing(H265, &hvcc(&[])), "hvcC holds no VPS; a decoder cannot begin without it");

    let avcc = hex(AVCC);
    let no_sps = [&avcc[..5], &[0xe0], &avcc[35..]].concat();
    assert_eq!(missing(H264, &no_sps), "avcC holds no SPS; a decoder cannot begin without it");
    let no_pps = [&avcc[..35], &[0]].concat();
    assert_eq!(missing(H264, &no_pps), "avcC holds no PPS; a decoder cannot begin without it");
}

#[test]
fn arrays_come_in_any_order_and_number() {
    let [vps, sps, pps] = hvcc_arrays();
    let sei = [0xa7, 0, 1, 0, 3, 0x4e, 1, 5];
    for (arrays, parameter_sets) in [
        (vec![&pps[..], &sps, &vps], [1, 1, 1]),
        (vec![&sps, &vps, &pps], [1, 1, 1]),
        (vec![&sei, &vps, &sps, &pps, &pps, &sei], [1, 1, 2]),
    ] {
        let config = VideoConfig { nal_length_bytes: 4, parameter_sets };
        assert_eq!(H265.check_config(&hvcc(&arrays)), Ok(config));
    }
    // Two in one array, which says that it is complete; the reserved bit is not part of the type.
    let two = [&[0xe2, 0, 2][..], &pps[3..], &pps[3..]].concat();
    assert_eq!(H265.check_config(&hvcc(&[&vps, &sps, &two])).unwrap().parameter_sets, [1, 1, 2]);

    let avcc = hex(AVCC);
    let (sps, pps) = (&avcc[6..35], &avcc[36..]);
    let many = [&avcc[..5], &[0xe2], sps, sps, &[3], pps, pps, pps].concat();
    assert_eq!(H264.check_config(&many).unwrap().parameter_sets, [0, 2, 3]);
}

#[test]
fn records_are_not_taken_for_each_other() {
    assert!(H265.check_config(&hex(AVCC)).is_err());
    assert!(H264.check_config(&hex(HVCC)).is_err());
}

/// Bits, written as 0 and 1 with spaces between the fields, to bytes.
fn bits(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').map(|byte| byte - b'0').collect();
    let byte = |bits: &[u8]| bits.iter().enumerate().fold(0, |byte, (i, bit)| byte | bit << (7 - i));
    digits.chunks(8).map(byte).collect()
}

#[test]
fn aac_config_tells_rate_and_channels() {
    for (config, expected) in [
        (vec![0x12, 0x10], Some((44100, 2))),
        (vec![0x11, 0x88], Some((48000, 1))),
        // 5.1, and 7.1, whose configuration is 7.
        (bits("00010 0011 0110 000"), Some((48000, 6))),
        (bits("00010 0011 0111 000"), Some((48000, 8))),
        (bits("00010 1100 0001 000"), Some((7350, 1))),
        // The rate itself follows index 15: 0x00a8c0 = 43200.
        (bits("00010 1111 000000001010100011000000 0010 000"), Some((43200, 2))),
        // Object type 31: 32 + 10 = 42, USAC.
        (bits("11111 001010 0100 0010 0"), Some((44100, 2))),
        (bits("11111 001010 1111 000000001011101110000000 0001 0"), Some((48000, 1))),
        // HE-AAC says the core's rate first.
        (vec![0x2b, 0x11, 0x88, 0x00], Some((24000, 2))),
        // Channels by a program config element, reserved channels, reserved rates.
        (bits("00010 0100 0000 000"), None),
        (bits("00010 0100 1000 000"), None),
        (bits("00010 1101 0010 000"), None),
        (bits("00010 1110 0010 000"), None),
    ] {
        assert_eq!(aac_rate_and_channels(&config), expected, "{config:02x?}");
    }
}

#[test]
fn aac_config_that_ends_early_tells_nothing() {
    for config in [vec![0x12, 0x10], bits("11111 001010 1111 000000001011101110000000 0001 0")] {
        for cut in 0..config.len() {
            assert_eq!(aac_rate_and_channels(&config[..cut]), None, "{cut} of {config:02x?}");
        }
    }
}
