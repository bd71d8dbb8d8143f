//! Properties over arbitrary input: pieces do not matter, nothing panics, and what is forwarded is one message that
//! means what was received.

use std::num::NonZeroUsize;

use bytes::BytesMut;
use mesh_core::relay::Passage;
use proptest::{collection::vec, prelude::*, sample::select};

use crate::net::http1::{
    Asked, BodyDecoder, BodyEvent, Framing, HeadLimits, HeadReader, Malformed, Persistence, RequestHead, RequestPlan,
    write_chunk_head, write_chunk_tail, write_last_chunk, write_request_head,
};

const LIMITS: (usize, usize) = (600, 12);

/// One message as far as the input goes.
#[derive(Debug, PartialEq)]
struct Message {
    head: String,
    framing: Framing,
    body: Vec<u8>,
    trailers: Vec<(Vec<u8>, Vec<u8>)>,
    whole: bool,
}

/// Reads everything out of the pieces: messages, and why it stopped.
fn read_all(pieces: &[&[u8]]) -> (Vec<Message>, Option<Malformed>) {
    let mut session = Session::new();
    for piece in pieces {
        session.buffer.extend_from_slice(piece);
        if let Err(error) = session.advance() {
            return (session.messages, Some(error));
        }
    }
    (session.messages, None)
}

struct Session {
    reader: HeadReader,
    buffer: BytesMut,
    decoder: Option<BodyDecoder>,
    messages: Vec<Message>,
}

impl Session {
    fn new() -> Session {
        let reader = HeadReader::new(HeadLimits::new(LIMITS.0, LIMITS.1));
        Session { reader, buffer: BytesMut::new(), decoder: None, messages: Vec::new() }
    }

    fn advance(&mut self) -> Result<(), Malformed> {
        loop {
            let Some(decoder) = &mut self.decoder else {
                let Some(head) = self.reader.request(&mut self.buffer)? else { return Ok(()) };
                self.decoder = Some(BodyDecoder::new(head.framing()));
                let (head, framing) = (format!("{head:?}"), head.framing());
                self.messages.push(Message { head, framing, body: vec![], trailers: vec![], whole: false });
                continue;
            };
            let message = self.messages.last_mut().expect("a decoder belongs to a message");
            match decoder.decode(&mut self.buffer)? {
                BodyEvent::More => return Ok(()),
                BodyEvent::Data(data) => message.body.extend_from_slice(&data),
                BodyEvent::Trailers(trailers) => {
                    message.trailers.extend(trailers.iter().map(|(name, value)| (name.to_vec(), value.to_vec())))
                }
                BodyEvent::End => {
                    message.whole = true;
                    self.decoder = None;
                }
            }
        }
    }
}

fn cut(text: &[u8], cuts: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut at: Vec<usize> = cuts.iter().map(|index| index.index(text.len() + 1)).collect();
    at.extend([0, text.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| text[pair[0]..pair[1]].to_vec()).collect()
}

/// Field lines that pull in different directions; most heads made of a few of them are accepted, many are not.
fn line() -> impl Strategy<Value = String> {
    let odd = select(vec![
        "Content-Length: 5",
        "Content-Length: 0",
        "content-length: 5 ",
        "Content-Length: 05",
        "Content-Length: +5",
        "Transfer-Encoding: chunked",
        "transfer-encoding:Chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding:\tchunked",
        "Transfer_Encoding: chunked",
        "Connection: close",
        "Connection: keep-alive, x-a",
        "Connection: upgrade",
        "Upgrade: websocket",
        "Upgrade: h2c",
        "TE: trailers",
        "Connection: TE",
        "Trailer: x",
        "Expect: 100-continue",
        "Keep-Alive: 3",
        "Host: b",
        "X-A: 1",
        "X-A:",
        "X-B:\t a b \t",
        "Cookie: a=b; c=d",
        "X-C: Content-Length: 7",
        " folded",
        "X-D: \u{e9}",
        "X-E : 1",
    ]);
    prop_oneof![8 => odd.prop_map(str::to_owned), 1 => "[A-Za-z-]{1,6}: ?[ -~]{0,9}", 1 => "[ -~\\r\\n\\t\\x00]{0,9}"]
}

fn chunked_body() -> impl Strategy<Value = String> {
    let chunk = prop_oneof![
        "[a-z]{1,20}".prop_map(|data| format!("{:x}\r\n{data}\r\n", data.len())),
        "[a-z]{1,9}".prop_map(|data| format!("00{:X};e=\"x\"\r\n{data}\r\n", data.len())),
    ];
    (vec(chunk, 0..4), select(vec!["", "A: b\r\n", "Host: b\r\n", "A: b\r\nC:\r\n", "A : b\r\n"]))
        .prop_map(|(chunks, trailers)| format!("{}0\r\n{trailers}\r\n", chunks.concat()))
}

fn body() -> impl Strategy<Value = String> {
    prop_oneof![3 => Just(String::new()), 3 => Just("hello".to_owned()), 4 => chunked_body(), 1 => "[ -~\\r\\n]{0,20}"]
}

fn message() -> impl Strategy<Value = String> {
    let start = select(vec![
        "GET / HTTP/1.1",
        "POST /a?b HTTP/1.1",
        "PUT http://c:8/d HTTP/1.1",
        "GET http://c HTTP/1.1",
        "HEAD / HTTP/1.0",
        "OPTIONS * HTTP/1.1",
        "CONNECT c:1 HTTP/1.1",
        "GET / HTTP/2.0",
        "GET  / HTTP/1.1",
        "\r\nGET / HTTP/1.1",
    ]);
    let end = select(vec!["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n"]);
    let framed = prop_oneof![
        3 => (Just("Content-Length: 5\r\n"), Just("hello".to_owned())),
        3 => (Just("Transfer-Encoding: chunked\r\n"), chunked_body()),
        2 => (Just(""), Just(String::new())),
        2 => (Just(""), body()),
    ];
    (start, vec(line(), 0..4), framed, end).prop_map(|(start, lines, (framing, body), end)| {
        let lines: String = lines.iter().map(|line| format!("{line}{end}")).collect();
        format!("{start}\r\nHost: a\r\n{framing}{lines}\r\n{body}")
    })
}

pub(super) fn stream() -> impl Strategy<Value = Vec<u8>> {
    vec(message(), 1..4).prop_map(|messages| messages.concat().into_bytes())
}

/// Forwards a message as the data path does and returns what goes upstream.
fn forward(head: &RequestHead, message: &Message) -> Vec<u8> {
    let mut out = BytesMut::new();
    let framing = head.framing();
    let plan = RequestPlan { target: None, host: None, framing, persistence: Persistence::Keep, extra: &[] };
    write_request_head(&mut out, head, &plan, |_| Passage::Keep);
    if framing != Framing::Chunked {
        out.extend_from_slice(&message.body);
        return out.to_vec();
    }
    for chunk in message.body.chunks(7) {
        write_chunk_head(&mut out, NonZeroUsize::new(chunk.len()).expect("chunks are not empty"));
        out.extend_from_slice(chunk);
        write_chunk_tail(&mut out);
    }
    write_last_chunk(&mut out, None, |_| Passage::Keep);
    out.to_vec()
}

/// Forwards the first message of the input if it is whole: method, body, and what goes upstream.
pub(super) fn forward_first(text: &[u8]) -> Option<(String, Vec<u8>, Vec<u8>)> {
    let message = read_all(&[text]).0.into_iter().next().filter(|message| message.whole)?;
    let head = HeadReader::new(HeadLimits::new(LIMITS.0, LIMITS.1)).request(&mut BytesMut::from(text));
    let head = head.expect("read before").expect("whole");
    let upstream = forward(&head, &message);
    Some((head.method().to_owned(), message.body, upstream))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_read_the_same_in_any_pieces(text in stream(), cuts in vec(any::<prop::sample::Index>(), 0..6)) {
        let pieces = cut(&text, &cuts);
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        prop_assert_eq!(read_all(&[&text]), read_all(&pieces));
    }

    #[test]
    fn requests_read_the_same_byte_by_byte(text in stream()) {
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        prop_assert_eq!(read_all(&[&text]), read_all(&bytes));
    }

    #[test]
    fn a_forwarded_request_is_one_request_with_the_same_framing_and_body(text in stream()) {
        let (messages, _) = read_all(&[&text]);
        let mut reader = HeadReader::new(HeadLimits::new(LIMITS.0, LIMITS.1));
        let mut buffer = BytesMut::from(&text[..]);
        if let (Some(message), Ok(Some(head))) = (messages.first().filter(|m| m.whole), reader.request(&mut buffer)) {
            let upstream = forward(&head, message);
            let (again, error) = read_all(&[&upstream]);
            prop_assert_eq!(error, None, "{:?}", String::from_utf8_lossy(&upstream));
            prop_assert_eq!(again.len(), 1);
            prop_assert!(again[0].whole);
            prop_assert_eq!(again[0].framing, message.framing);
            prop_assert_eq!(&again[0].body, &message.body);
            let (authority, method) = (head.authority().map(str::to_owned), head.method().to_owned());
            let forwarded = reader.request(&mut BytesMut::from(&upstream[..])).expect("read before").expect("whole");
            prop_assert_eq!(forwarded.authority().map(str::to_owned), authority);
            prop_assert_eq!(forwarded.method(), method);
            prop_assert_eq!((forwarded.path(), forwarded.query()), (head.path(), head.query()));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(text in vec(any::<u8>(), 0..200), size in 1_usize..20) {
        let pieces: Vec<&[u8]> = text.chunks(size).collect();
        read_all(&pieces);
        for framing in [Framing::Chunked, Framing::Length(50), Framing::UntilClose] {
            let (mut decoder, mut buffer) = (BodyDecoder::new(framing), BytesMut::from(&text[..]));
            while let Ok(BodyEvent::Data(_) | BodyEvent::Trailers(_)) = decoder.decode(&mut buffer) {}
        }
    }

    #[test]
    fn arbitrary_responses_never_panic_and_read_the_same_in_pieces(
        status in "HTTP/1\\.[01] [1-5][0-9]{2}( [ -~]{0,5})?\r?\n", lines in vec(line(), 0..4), size in 1_usize..9,
        asked in select(vec![Asked::Head, Asked::Connect, Asked::Upgrade, Asked::Plain]),
    ) {
        let text = format!("{status}{}\r\n", lines.iter().map(|line| format!("{line}\r\n")).collect::<String>());
        let read = |size: usize| {
            let (mut reader, mut buffer) = (HeadReader::new(HeadLimits::default()), BytesMut::new());
            for piece in text.as_bytes().chunks(size) {
                buffer.extend_from_slice(piece);
                match reader.response(&mut buffer, asked) {
                    Ok(None) => {}
                    Ok(Some(head)) => return format!("{head:?}"),
                    Err(error) => return format!("{error:?}"),
                }
            }
            String::new()
        };
        prop_assert_eq!(read(text.len()), read(size));
    }

    #[test]
    fn decoding_undoes_encoding(body in vec(any::<u8>(), 0..5_000), chunk in 1_usize..700, piece in 1_usize..300) {
        let mut encoded = BytesMut::new();
        for data in body.chunks(chunk) {
            write_chunk_head(&mut encoded, NonZeroUsize::new(data.len()).expect("chunks are not empty"));
            encoded.extend_from_slice(data);
            write_chunk_tail(&mut encoded);
        }
        write_last_chunk(&mut encoded, None, |_| Passage::Keep);
        let (mut decoder, mut buffer, mut decoded) = (BodyDecoder::new(Framing::Chunked), BytesMut::new(), Vec::new());
        for piece in encoded.chunks(piece) {
            buffer.extend_from_slice(piece);
            while let BodyEvent::Data(data) = decoder.decode(&mut buffer).expect("we wrote it") {
                decoded.extend_from_slice(&data);
            }
        }
        prop_assert!(decoder.is_done() && buffer.is_empty());
        prop_assert_eq!(decoded, body);
    }
}
