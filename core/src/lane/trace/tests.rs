//! Every format against a simple writer of it, and all of them against arbitrary bytes.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;

use super::*;

fn read(name: &str, value: &str) -> Option<u128> {
    trace_id(&(&[(name, value)] as &[_]), &[]).map(TraceId::get)
}

fn configured(name: &str) -> Vec<LaneGroup> {
    let mut group = LaneGroup::new("g".parse().unwrap());
    group.propagation.trace_headers.push(name.to_owned());
    vec![group]
}

/// What a stack writes for an id, in each format.
fn written(id: u128) -> Vec<(&'static str, String)> {
    let text = format!("{id:032x}");
    vec![
        (TRACEPARENT, format!("00-{text}-00f067aa0ba902b7-01")),
        (TRACEPARENT, format!("cc-{text}-00f067aa0ba902b7-01-what-is-later")),
        (B3, format!("{text}-00f067aa0ba902b7-1-05e3ac9a4f6e3b90")),
        (B3, format!("{text}-00f067aa0ba902b7")),
        (B3_TRACE_ID, text.to_uppercase()),
        (UBER, format!("{id:x}:00f067aa0ba902b7:0:1")),
        (UBER, format!("{text}%3A00f067aa0ba902b7%3A0%3A1")),
        (SW8, format!("1-{}-{}-3-c2Vydg==-aQ==-L3g=-YjoxOjgw", STANDARD.encode(&text), STANDARD.encode("s"))),
        (EAGLEEYE, text.clone()),
        ("x-own", format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])),
    ]
}

proptest! {
    #[test]
    fn every_format_means_the_same_canonical_id(id in 1_u128..) {
        for (name, value) in written(id) {
            let fields: &[(&str, &str)] = &[(name, &value)];
            let found = trace_id(&fields, &configured("x-own"));
            prop_assert_eq!(found.map(TraceId::get), Some(id), "{}: {}", name, value);
            prop_assert_eq!(found.unwrap().to_string(), format!("{id:032x}"));
        }
    }

    #[test]
    fn ids_of_64_bits_are_padded_on_the_left(id in 1_u64..) {
        let high = 0x640c_fd8d_0000_0000_u64;
        let cases = [
            (B3, format!("{id:016x}-00f067aa0ba902b7-0")),
            (B3_TRACE_ID, format!("{id:016x}")),
            (UBER, format!("{id:x}:1:0:0")),
            (DATADOG, id.to_string()),
        ];
        for (name, value) in cases {
            prop_assert_eq!(read(name, &value), Some(u128::from(id)), "{}: {}", name, value);
        }
        let tags = format!("_dd.p.dm=-1,_dd.p.tid={high:016x}");
        let fields: &[(&str, &str)] = &[(DATADOG, &id.to_string()), (DATADOG_TAGS, &tags)];
        let long = u128::from(high) << 64 | u128::from(id);
        prop_assert_eq!(trace_id(&fields, &[]).map(TraceId::get), Some(long));
    }

    #[test]
    fn arbitrary_text_is_read_without_harm(values in proptest::collection::vec("[ -~]{0,80}", 8), other in "\\PC{0,80}") {
        let names = [TRACEPARENT, B3, B3_TRACE_ID, UBER, SW8, DATADOG, DATADOG_TAGS, EAGLEEYE];
        let mut fields: Vec<(&str, &str)> = names.iter().copied().zip(values.iter().map(String::as_str)).collect();
        fields.push(("x-own", &other));
        let ids = TraceIds::read(&fields.as_slice(), &configured("x-own"));
        prop_assert!(ids.iter().count() <= IDS_MAX);
        prop_assert!(ids.iter().all(|id| id.get() != 0));
    }

    #[test]
    fn arbitrary_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for parse in [traceparent, b3, b3_id, uber, sw8, TraceId::from_text] {
            if let Some(id) = parse(&bytes) {
                prop_assert_ne!(id.get(), 0);
            }
        }
    }

    #[test]
    fn damaged_header_is_no_id_or_another_one(id in 1_u128.., at in 0_usize..200, byte in b' '..=b'~') {
        for (name, value) in written(id) {
            let mut damaged = value.clone().into_bytes();
            let at = at % damaged.len();
            damaged[at] = byte;
            let damaged = String::from_utf8(damaged).unwrap();
            // Never a panic; the id changes only with its own digits.
            let found = read(name, &damaged);
            if found == Some(id) {
                prop_assert!(damaged.len() == value.len());
            }
        }
    }
}

#[test]
fn zero_and_malformed_ids_are_none() {
    let zero = "0".repeat(32);
    let cases = [
        (TRACEPARENT, format!("00-{zero}-00f067aa0ba902b7-01")),
        (TRACEPARENT, "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01".to_owned()),
        (TRACEPARENT, "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
        (TRACEPARENT, "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01".to_owned()),
        (TRACEPARENT, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more".to_owned()),
        (TRACEPARENT, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7".to_owned()),
        (B3, "0".to_owned()),
        (B3, "d".to_owned()),
        (B3, format!("{zero}-00f067aa0ba902b7-1")),
        (B3, "4bf92f35-00f067aa0ba902b7-1".to_owned()),
        (B3, "4bf92f3577b34da6a3ce929d0e0e4736".to_owned()),
        (B3_TRACE_ID, "4bf92f".to_owned()),
        (UBER, "4bf92f".to_owned()),
        (UBER, "0:1:0:1".to_owned()),
        (UBER, ":1:0:1".to_owned()),
        (UBER, format!("1{zero}:1:0:1")),
        (SW8, "1-MTIz".to_owned()),
        (SW8, "2-MTIz-MTIz-3".to_owned()),
        (SW8, "1-?-MTIz-3".to_owned()),
        (SW8, "1--MTIz-3".to_owned()),
        (DATADOG, "0".to_owned()),
        (DATADOG, "-1".to_owned()),
        (DATADOG, "18446744073709551616".to_owned()),
        (EAGLEEYE, zero.clone()),
        (EAGLEEYE, String::new()),
        (EAGLEEYE, "x".repeat(257)),
        ("x-request-id", "4bf92f3577b34da6a3ce929d0e0e4736".to_owned()),
    ];
    for (name, value) in cases {
        assert_eq!(read(name, &value), None, "{name}: {value}");
    }
}

#[test]
fn skywalking_ids_are_told_apart_by_their_whole_text() {
    let id = |text: &str| read(SW8, &format!("1-{}-cw==-0-c2Vydg==-aQ==-L3g=-YjoxOjgw", STANDARD.encode(text)));
    let one = id("0d7d7d70a1fb4c0a9ffc1a4ee5fd4c6f.76.16957891234560001");
    assert!(one.is_some());
    assert_eq!(one, id("0d7d7d70a1fb4c0a9ffc1a4ee5fd4c6f.76.16957891234560001"));
    assert_ne!(one, id("0d7d7d70a1fb4c0a9ffc1a4ee5fd4c6f.76.16957891234560002"));
    assert_eq!(hash(b"a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964, "the published value for one letter");
}

#[test]
fn ids_of_mixed_stacks_are_all_kept_in_order() {
    let fields: &[(&str, &str)] = &[
        (SW8, "1-YS4xLjE=-cw==-0-c2Vydg==-aQ==-L3g=-YjoxOjgw"),
        (TRACEPARENT, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        (B3_TRACE_ID, "4bf92f3577b34da6a3ce929d0e0e4736"),
    ];
    let ids = TraceIds::read(&fields, &[]);
    assert_eq!(ids.iter().count(), 2);
    assert_eq!(ids.first().unwrap().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(ids.formats(), Formats::of(&[Format::Traceparent, Format::B3Headers, Format::Sw8]));
}
