//! Events put together from pieces, and what is copied for it.

use super::*;

const EVENTS: [&str; 5] = [
    ": hello\r\n\r\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"one\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\r\n\r\n",
    "data: [DONE]\n\n",
];

fn incoming() -> Incoming {
    incoming_for(Api::ChatCompletions)
}

fn incoming_for(client: Api) -> Incoming {
    let reading = Reading {
        client,
        target: Api::ChatCompletions,
        model: "small".to_owned(),
        id: "mesh-1".to_owned(),
        created: 1,
        delivery: Delivery::Stream,
        choices: 1,
        usage: UsageEvent::Passed,
        escalate: Escalate::default(),
        asked_for: AskedFor::Text,
    };
    let mut incoming = Incoming::new(reading);
    let head = http::Response::builder().header("content-type", "text/event-stream").body(()).expect("a head");
    incoming.head(head.into_parts().0, &mut |_| {});
    incoming
}

/// What comes of these pieces: each event, and whether it holds a token.
fn read(pieces: impl IntoIterator<Item = Bytes>) -> Vec<(Bytes, bool)> {
    let (mut incoming, mut came) = (incoming(), Vec::new());
    for piece in pieces {
        incoming.bytes(piece, &mut |what| match what {
            Came::Event(bytes) => came.push((bytes, false)),
            Came::Token(bytes) => came.push((bytes, true)),
            Came::Head | Came::Failed(_) => panic!("{what:?}"),
        });
    }
    incoming.end(std::time::Duration::ZERO, &mut |what| panic!("{what:?}"));
    came
}

#[test]
fn events_are_the_same_wherever_the_network_cut_them() {
    let stream = Bytes::from(EVENTS.concat());
    let expected: Vec<(Bytes, bool)> =
        EVENTS.iter().enumerate().map(|(place, event)| (Bytes::from(*event), place == 2)).collect();
    for first in 0..=stream.len() {
        assert_eq!(read([stream.slice(..first), stream.slice(first..)]), expected, "cut at {first}");
    }
    assert_eq!(read((0..stream.len()).map(|at| stream.slice(at..=at))), expected, "every byte alone");
}

#[test]
fn events_that_come_whole_are_passed_on_where_they_lie() {
    let stream = Bytes::from(EVENTS.concat());
    let lies_there = |bytes: &Bytes| stream.as_ptr_range().contains(&bytes.as_ptr());
    assert!(read([stream.clone()]).iter().all(|(bytes, _)| lies_there(bytes)));
    let cut = EVENTS[0].len() + EVENTS[1].len() + 20;
    let copied = read([stream.slice(..cut), stream.slice(cut..)]);
    assert_eq!(copied.iter().map(|(bytes, _)| lies_there(bytes)).collect::<Vec<_>>(), [true, true, false, true, true]);
}

#[test]
fn end_of_a_translation_is_written_once() {
    let end = |incoming: &mut Incoming| {
        let mut out = Vec::new();
        incoming.end(std::time::Duration::ZERO, &mut |what| match what {
            Came::Event(bytes) => out.extend_from_slice(&bytes),
            Came::Head | Came::Token(_) | Came::Failed(_) => panic!("{what:?}"),
        });
        Bytes::from(out)
    };
    let begun = |client| {
        let mut incoming = incoming_for(client);
        incoming.bytes(Bytes::from(EVENTS.concat()), &mut |_| {});
        assert!(incoming.is_finished());
        incoming
    };
    let mut broken = begun(Api::Messages);
    let taken = broken.take_end();
    assert!(String::from_utf8_lossy(&taken).contains("message_stop"), "{taken:?}");
    assert!(broken.take_end().is_empty());
    let mut whole = begun(Api::Messages);
    assert_eq!(end(&mut whole), taken);
    assert!(whole.take_end().is_empty());
    assert!(begun(Api::ChatCompletions).take_end().is_empty(), "nothing is translated");
}
