//! Where a stream may be ended so that its reader has only whole messages: behind an event (`text/event-stream`), behind
//! a message of gRPC, behind a frame of a WebSocket. Looks at lengths and line ends alone; keeps no bytes.

/// What is streamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Events, each ended by an empty line (HTML, 9.2.6).
    Events,
    /// Messages of gRPC, each behind a flag and a length of four bytes.
    Grpc,
    /// Frames of a WebSocket (RFC 6455, 5.2).
    WebSocket,
}

/// Follows a stream and knows whether it stands between two messages.
#[derive(Clone, Copy, Debug)]
pub struct Messages {
    kind: Kind,
    state: State,
    closed: Closed,
}

/// Whether a close frame began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// One did.
    Yes,
    /// None did.
    No,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between two messages.
    Between,
    /// Inside the fixed part of a message's head: so many bytes of it were read, which say this.
    Head { read: usize, bytes: [u8; HEAD_MAX] },
    /// Inside a message of which so many bytes follow.
    Body { left: u64 },
    /// Inside a line of an event.
    Line,
    /// Behind a line end: another one ends the event.
    LineEnd,
    /// Behind a carriage return that ended a line; a line feed that follows belongs to it.
    Return,
    /// Behind a carriage return that ended an event; likewise.
    LastReturn,
}

/// Longest fixed part of a head, bytes: of a WebSocket's frame, with its longest length.
const HEAD_MAX: usize = 10;
/// Bytes of a mask of a WebSocket's frame.
const MASK: u64 = 4;
/// Opcode of a close frame.
const CLOSE: u8 = 0x8;

impl Messages {
    /// A stream that begins.
    pub fn new(kind: Kind) -> Self {
        Messages { kind, state: State::Between, closed: Closed::No }
    }

    /// Whether everything read so far is whole.
    pub fn is_between(&self) -> bool {
        match self.state {
            State::Between => true,
            // A line feed that may follow belongs to the end of the event, and does no harm where it is missing.
            State::LastReturn => true,
            State::Head { .. } | State::Body { .. } | State::Line | State::LineEnd | State::Return => false,
        }
    }

    /// Whether a close frame of a WebSocket has begun.
    pub fn closed(&self) -> Closed {
        self.closed
    }

    /// Takes in all of `bytes`.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = self.step(bytes);
            bytes = &bytes[taken..];
        }
    }

    /// Takes in bytes until the stream stands between two messages, once at least one byte was taken. Returns how many
    /// bytes that are: all where none ends in them.
    pub fn pass_message(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() {
            taken += self.step(&bytes[taken..]);
            if self.is_between() {
                break;
            }
        }
        taken
    }

    /// Takes in a few bytes, at least one of those that are there, and never beyond the end of a message.
    fn step(&mut self, bytes: &[u8]) -> usize {
        match self.kind {
            Kind::Events => self.event(bytes),
            Kind::Grpc | Kind::WebSocket => self.framed(bytes),
        }
    }

    fn event(&mut self, bytes: &[u8]) -> usize {
        let byte = bytes[0];
        self.state = match (self.state, byte) {
            (State::Return, b'\n') => State::LineEnd,
            (State::LineEnd | State::Between | State::LastReturn, b'\n') => State::Between,
            (State::LineEnd | State::Return | State::Between | State::LastReturn, b'\r') => State::LastReturn,
            (_, b'\n') => State::LineEnd,
            (_, b'\r') => State::Return,
            _ => {
                // The rest of the line says nothing.
                self.state = State::Line;
                let rest = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                return rest.unwrap_or(bytes.len());
            }
        };
        1
    }

    fn framed(&mut self, bytes: &[u8]) -> usize {
        match self.state {
            State::Body { left } => {
                let taken = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                let left = left - taken as u64;
                self.state = if left == 0 { State::Between } else { State::Body { left } };
                taken
            }
            State::Head { mut read, bytes: mut head } => {
                head[read] = bytes[0];
                read += 1;
                self.state = self.head(read, head);
                1
            }
            State::Between | State::Line | State::LineEnd | State::Return | State::LastReturn => {
                let mut head = [0; HEAD_MAX];
                head[0] = bytes[0];
                self.state = State::Head { read: 1, bytes: head };
                1
            }
        }
    }

    /// The state behind so many bytes of a head.
    fn head(&mut self, read: usize, bytes: [u8; HEAD_MAX]) -> State {
        let length = match self.kind {
            Kind::Events => None,
            Kind::Grpc => (read == 5).then(|| big_endian(&bytes[1..5])),
            Kind::WebSocket => {
                let mask = if bytes[1] & 0x80 == 0 { 0 } else { MASK };
                let length = match (bytes[1] & 0x7f, read) {
                    (127, 10) => Some(big_endian(&bytes[2..10])),
                    (126, 4) => Some(big_endian(&bytes[2..4])),
                    (126 | 127, _) => None,
                    (short, _) => Some(u64::from(short)),
                };
                length.map(|length| length.saturating_add(mask))
            }
        };
        if length.is_some() && self.kind == Kind::WebSocket && bytes[0] & 0x0f == CLOSE {
            self.closed = Closed::Yes;
        }
        match length {
            None => State::Head { read, bytes },
            Some(0) => State::Between,
            Some(left) => State::Body { left },
        }
    }
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// A close frame of a server with status 1001, going away (RFC 6455, 7.4.1).
pub const GOING_AWAY: [u8; 4] = [0x88, 0x02, 0x03, 0xe9];

/// The same frame as a client sends it, behind a mask.
pub fn masked_going_away(mask: [u8; 4]) -> [u8; 8] {
    let [a, b, c, d] = mask;
    [0x88, 0x82, a, b, c, d, 0x03 ^ a, 0xe9 ^ b]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(first: u8, masked: bool, length: usize) -> Vec<u8> {
        let bit = if masked { 0x80 } else { 0 };
        let mut frame = vec![first];
        match length {
            0..=125 => frame.push(bit | length as u8),
            126..=65_535 => {
                frame.push(bit | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(bit | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(std::iter::repeat_n(0xaa, length + if masked { 4 } else { 0 }));
        frame
    }

    fn message(length: usize) -> Vec<u8> {
        let mut message = vec![0];
        message.extend((length as u32).to_be_bytes());
        message.extend(std::iter::repeat_n(7, length));
        message
    }

    fn samples(kind: Kind) -> Vec<Vec<u8>> {
        match kind {
            Kind::Events => ["data: a\n\n", "id: 1\r\ndata: b\r\n\r\n", ": c\r\r", "data: x\ndata: y\n\n", "\n"]
                .iter()
                .map(|event| event.as_bytes().to_vec())
                .collect(),
            Kind::Grpc => [0, 1, 5, 300].into_iter().map(message).collect(),
            Kind::WebSocket => vec![
                frame(0x81, false, 0),
                frame(0x82, true, 0),
                frame(0x01, false, 125),
                frame(0x80, true, 126),
                frame(0x82, false, 70_000),
                frame(0x89, true, 3),
            ],
        }
    }

    #[test]
    fn stream_stands_between_messages_exactly_behind_each_of_them() {
        for kind in [Kind::Events, Kind::Grpc, Kind::WebSocket] {
            for sample in samples(kind) {
                let mut messages = Messages::new(kind);
                assert!(messages.is_between());
                let (last, before) = sample.split_last().unwrap();
                for byte in before {
                    messages.pass(&[*byte]);
                    // Behind "\r\n\r" the event is whole already.
                    let is_whole = kind == Kind::Events && sample.ends_with(b"\r\n\r\n") && messages.is_between();
                    assert!(!messages.is_between() || is_whole, "{kind:?} {sample:?}");
                }
                messages.pass(&[*last]);
                assert!(messages.is_between(), "{kind:?} {:?}", &sample[..sample.len().min(20)]);
            }
        }
    }

    #[test]
    fn close_frame_is_noticed_in_either_direction_and_nothing_else() {
        let mut messages = Messages::new(Kind::WebSocket);
        samples(Kind::WebSocket).iter().for_each(|frame| messages.pass(frame));
        assert_eq!(messages.closed(), Closed::No);
        for close in [GOING_AWAY.to_vec(), masked_going_away([1, 2, 3, 4]).to_vec(), frame(0x88, true, 0)] {
            let mut messages = messages;
            messages.pass(&close);
            assert_eq!((messages.closed(), messages.is_between()), (Closed::Yes, true), "{close:?}");
        }
        let unmasked: Vec<u8> =
            masked_going_away([9, 8, 7, 6])[6..].iter().zip([9, 8]).map(|(byte, mask)| byte ^ mask).collect();
        assert_eq!(unmasked, GOING_AWAY[2..]);
    }

    proptest! {
        #[test]
        fn cut_of_the_bytes_changes_nothing(
            kind in prop_oneof![Just(Kind::Events), Just(Kind::Grpc), Just(Kind::WebSocket)],
            picks in proptest::collection::vec(0_usize..8, 1..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let samples = samples(kind);
            let stream: Vec<u8> = picks.iter().flat_map(|pick| samples[pick % samples.len()].clone()).collect();
            let cut = cut.index(stream.len());
            let (mut whole, mut parts) = (Messages::new(kind), Messages::new(kind));
            whole.pass(&stream);
            parts.pass(&stream[..cut]);
            parts.pass(&stream[cut..]);
            prop_assert_eq!(whole.state, parts.state);
            // From anywhere, the next boundary is behind the message there, and the rest is whole messages.
            let mut from = Messages::new(kind);
            from.pass(&stream[..cut]);
            let taken = from.pass_message(&stream[cut..]);
            prop_assert!(from.is_between());
            from.pass(&stream[cut + taken..]);
            prop_assert!(from.is_between());
        }

        #[test]
        fn arbitrary_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            for kind in [Kind::Events, Kind::Grpc, Kind::WebSocket] {
                let mut messages = Messages::new(kind);
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let taken = messages.pass_message(rest);
                    prop_assert!(taken > 0);
                    rest = &rest[taken..];
                }
            }
        }
    }
}
