// SPDX-License-Identifier: MPL-2.0

//! AMF0 values there and back, the bytes that are none, and what is taken from foreign metadata.

use flv::amf0::{Amf0Error, MAX_DEPTH, Value, read_script, write_script};
use flv::index::KeyFrame;
use flv::metadata::Described;
use proptest::collection::vec;
use proptest::prelude::*;

fn written(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.write(&mut bytes);
    bytes
}

/// The only value of these bytes.
fn read(mut bytes: &[u8]) -> Result<Value, Amf0Error> {
    let value = Value::read(&mut bytes)?;
    assert_eq!(bytes, [], "bytes are left");
    Ok(value)
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        (any::<f64>()).prop_map(Value::Number),
        any::<bool>().prop_map(Value::Boolean),
        ".{0,20}".prop_map(Value::String),
        Just(Value::Null),
        Just(Value::Undefined),
        any::<(f64, i16)>().prop_map(|(ms, zone)| Value::Date(ms, zone)),
    ];
    leaf.prop_recursive(MAX_DEPTH as u32, 64, 4, |inner| {
        // An empty name ends an object, so no field can have it.
        let fields = vec((".{1,12}", inner.clone()), 0..4);
        prop_oneof![
            fields.clone().prop_map(Value::Object),
            fields.prop_map(Value::EcmaArray),
            vec(inner, 0..4).prop_map(Value::StrictArray),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back_and_leaves_what_follows(value in any_value(), next in vec(any::<u8>(), 0..9)) {
        let bytes = [written(&value), next.clone()].concat();
        let mut rest = &bytes[..];
        prop_assert_eq!(Value::read(&mut rest), Ok(value));
        prop_assert_eq!(rest, next);
    }

    #[test]
    fn value_cut_anywhere_is_an_error(value in any_value()) {
        let bytes = written(&value);
        for cut in 0..bytes.len() {
            prop_assert_eq!(read(&bytes[..cut]), Err(Amf0Error::Truncated), "cut at {}", cut);
        }
    }

    #[test]
    fn script_data_reads_back(name in ".{0,20}", value in any_value()) {
        prop_assert_eq!(read_script(&write_script(&name, &value)), Ok((name, value)));
    }

    #[test]
    fn no_bytes_panic(bytes in vec(prop_oneof![0u8..18, any::<u8>()], 0..200)) {
        // What can be read can be written and means the same; NaN is not equal to itself, so bytes are compared.
        if let Ok(value) = Value::read(&mut &bytes[..]) {
            let again = written(&value);
            prop_assert_eq!(written(&read(&again).unwrap()), again);
        }
    }
}

#[test]
fn each_marker_has_its_layout() {
    let field = |value| vec![("a".to_owned(), value)];
    for (value, golden) in [
        (Value::Number(-2.5), &b"\x00\xc0\x04\0\0\0\0\0\0"[..]),
        (Value::Boolean(true), b"\x01\x01"),
        (Value::Boolean(false), b"\x01\x00"),
        (Value::from("\u{e9}"), b"\x02\0\x02\xc3\xa9"),
        (Value::Object(field(Value::Null)), b"\x03\0\x01a\x05\0\0\x09"),
        (Value::Undefined, b"\x06"),
        (Value::EcmaArray(field(true.into())), b"\x08\0\0\0\x01\0\x01a\x01\x01\0\0\x09"),
        (Value::StrictArray(vec![Value::Null, Value::Undefined]), b"\x0a\0\0\0\x02\x05\x06"),
        (Value::Date(1., -60), b"\x0b\x3f\xf0\0\0\0\0\0\0\xff\xc4"),
    ] {
        assert_eq!(written(&value), golden);
        assert_eq!(read(golden), Ok(value));
    }
    // Any byte but 0 is true.
    assert_eq!(read(b"\x01\xff"), Ok(Value::Boolean(true)));
}

#[test]
fn strings_above_65535_bytes_are_long_strings() {
    let value = Value::String("x".repeat(65535));
    assert_eq!(written(&value)[..4], *b"\x02\xff\xffx");
    assert_eq!(read(&written(&value)), Ok(value));
    let value = Value::String("x".repeat(65536));
    assert_eq!(written(&value)[..6], *b"\x0c\0\x01\0\0x");
    assert_eq!(read(&written(&value)), Ok(value));
    // A short one may stand in the long form.
    assert_eq!(read(b"\x0c\0\0\0\x02hi"), Ok("hi".into()));
}

#[test]
fn name_above_65535_bytes_is_cut_at_a_character() {
    // The euro sign has three bytes: it ends at 65535 or beyond it.
    for (before, kept) in [(65532, 65535), (65533, 65533)] {
        let name = format!("{}\u{20ac}!", "x".repeat(before));
        let cut = Value::Object(vec![(name[..kept].to_owned(), Value::Null)]);
        assert_eq!(read(&written(&Value::Object(vec![(name, Value::Null)]))), Ok(cut));
    }
}

fn nested(depth: usize, wrap: fn(Value) -> Value) -> Value {
    (0..depth).fold(Value::Null, |value, _| wrap(value))
}

#[test]
fn values_nested_too_deep_are_refused() {
    let wraps: [fn(Value) -> Value; 3] = [
        |value| Value::StrictArray(vec![value]),
        |value| Value::Object(vec![("a".to_owned(), value)]),
        |value| Value::EcmaArray(vec![("a".to_owned(), value)]),
    ];
    for wrap in wraps {
        assert_eq!(read(&written(&nested(MAX_DEPTH, wrap))), Ok(nested(MAX_DEPTH, wrap)));
        assert_eq!(read(&written(&nested(MAX_DEPTH + 1, wrap))), Err(Amf0Error::Depth));
    }
    // A million levels must not be a million frames of the stack.
    assert_eq!(Value::read(&mut &b"\x0a\0\0\0\x01".repeat(1 << 20)[..]), Err(Amf0Error::Depth));
}

#[test]
fn strict_array_whose_count_lies_ends_with_the_data() {
    assert_eq!(read(b"\x0a\xff\xff\xff\xff\x05\x05"), Err(Amf0Error::Truncated));
    assert_eq!(read(b"\x0a\0\0\0\x03\x05\x05"), Err(Amf0Error::Truncated));
    let mut rest = &b"\x0a\0\0\0\x01\x05\x06"[..];
    assert_eq!(Value::read(&mut rest), Ok(Value::StrictArray(vec![Value::Null])));
    assert_eq!(rest, b"\x06");
}

#[test]
fn count_of_an_ecma_array_is_ignored() {
    for count in [[0; 4], [0, 0, 0, 7], [0xff; 4]] {
        let bytes = [&b"\x08"[..], &count, b"\0\x01a\x05\0\x01b\x06\0\0\x09"].concat();
        let fields = vec![("a".to_owned(), Value::Null), ("b".to_owned(), Value::Undefined)];
        assert_eq!(read(&bytes), Ok(Value::EcmaArray(fields)));
    }
}

#[test]
fn markers_that_script_data_does_not_have_are_named() {
    // 4 movie clip, 7 reference, 9 object end, 13 unsupported ... 17 the switch to AMF3.
    for marker in [4, 7, 9].into_iter().chain(13..=255) {
        assert_eq!(read(&[marker, 0, 0, 0, 0]), Err(Amf0Error::Marker(marker)));
    }
    assert_eq!(read(b"\x03\0\0\x05"), Err(Amf0Error::ObjectEnd(5)));
    assert_eq!(Amf0Error::ObjectEnd(5).to_string(), "an object ends with marker 5 instead of 9");
    assert_eq!(read_script(b"\x05\x05"), Err(Amf0Error::Marker(5)));
    assert_eq!(read_script(b"\x02\0\x0aonMetaData"), Err(Amf0Error::Truncated));
}

#[test]
fn latin_1_title_does_not_hide_the_other_fields() {
    let body = b"\x02\0\x0aonMetaData\x08\0\0\0\x02\0\x05title\x02\0\x04caf\xe9\0\x08duration\x00\x40\x10\0\0\0\0\0\0\0\0\x09";
    let (name, value) = read_script(body).unwrap();
    assert_eq!(name, "onMetaData");
    assert_eq!(value.get("title"), Some(&"caf\u{fffd}".into()));
    assert_eq!(value.get("duration").and_then(Value::number), Some(4.));
}

#[test]
fn accessors_of_another_kind_find_nothing() {
    let array = Value::StrictArray(vec![Value::Null]);
    assert_eq!((array.get("a"), array.number(), array.fields()), (None, None, &[][..]));
    assert_eq!(Value::from(1.).elements(), []);
    let twice = Value::Object(vec![("a".to_owned(), 1.0.into()), ("a".to_owned(), 2.0.into())]);
    assert_eq!(twice.get("a"), Some(&Value::Number(1.)));
}

fn column(values: &[f64]) -> Value {
    Value::StrictArray(values.iter().map(|value| Value::Number(*value)).collect())
}

fn described(times: Value, positions: Value) -> Vec<KeyFrame> {
    let columns = vec![("filepositions".to_owned(), positions), ("times".to_owned(), times)];
    let fields = vec![("keyframes".to_owned(), Value::Object(columns))];
    Described::new(&Value::EcmaArray(fields)).key_frames
}

#[test]
fn duration_that_makes_no_sense_is_none() {
    for (duration, expected) in [
        (4.5.into(), Some(4.5)),
        (0.0.into(), None),
        ((-1.0).into(), None),
        (f64::NAN.into(), None),
        (f64::INFINITY.into(), None),
        ("4.5".into(), None),
    ] {
        let metadata = Value::Object(vec![("duration".to_owned(), duration)]);
        assert_eq!(Described::new(&metadata).duration, expected, "{metadata:?}");
    }
    assert_eq!(Described::new(&Value::Null), Described::default());
}

#[test]
fn index_that_makes_no_sense_is_empty() {
    let entry = |time, position| KeyFrame { time, position };
    let whole = [entry(0., 100), entry(2., 300), entry(4., 500)];
    assert_eq!(described(column(&[0., 2., 4.]), column(&[100., 300., 500.])), whole);
    // flvmux writes the first key frame twice, behind the metadata; FLVTool2 as time 0.
    assert_eq!(described(column(&[0., 0.]), column(&[100., 100.])), [entry(0., 100); 2]);
    // Of columns of different length what has a partner counts.
    assert_eq!(described(column(&[0., 2., 4., 6.]), column(&[100., 300., 500.])), whole);
    assert_eq!(described(column(&[0., 2., 4.]), column(&[100., 300., 500., 700.])), whole);
    for (times, positions) in [
        ([0., f64::NAN, 4.], [100., 300., 500.]),
        ([0., 2., f64::INFINITY], [100., 300., 500.]),
        ([-1., 2., 4.], [100., 300., 500.]),
        ([0., 2., 4.], [100., f64::NAN, 500.]),
        ([0., 2., 4.], [100., -300., 500.]),
        ([0., 4., 2.], [100., 300., 500.]),
        ([0., 2., 4.], [100., 500., 300.]),
    ] {
        assert_eq!(described(column(&times), column(&positions)), [], "{times:?} {positions:?}");
    }
    let strings = Value::StrictArray(vec!["0".into()]);
    assert_eq!(described(strings, column(&[100.])), []);
    assert_eq!(described(Value::Null, column(&[100.])), []);
}
