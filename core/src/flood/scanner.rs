//! Heads of HTTP/2 frames, found in bytes as they come (RFC 9113 4.1).

/// Length of a frame's head, bytes.
const HEAD: usize = 9;
/// What a client says before its first frame, bytes (RFC 9113 3.4).
const PREFACE: u32 = 24;
/// Flag of the last frame of a stream, on DATA and HEADERS.
const END_STREAM: u8 = 0x1;
/// Flag of the last frame of a header block, on HEADERS, CONTINUATION and PUSH_PROMISE.
const END_HEADERS: u8 = 0x4;

/// Kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes of a body.
    Data,
    /// Head or trailers.
    Headers,
    /// Says how a stream relates to others; nobody heeds it.
    Priority,
    /// A stream is given up.
    Reset,
    /// Settings, or that they were taken in.
    Settings,
    /// Asks whether somebody is there, or says so.
    Ping,
    /// No stream follows.
    GoAway,
    /// More may be sent.
    WindowUpdate,
    /// More of a header block.
    Continuation,
    /// Pushed requests, which no client sends, and what is not known.
    Other,
}

impl Kind {
    fn of(byte: u8) -> Self {
        match byte {
            0 => Kind::Data,
            1 => Kind::Headers,
            2 => Kind::Priority,
            3 => Kind::Reset,
            4 => Kind::Settings,
            6 => Kind::Ping,
            7 => Kind::GoAway,
            8 => Kind::WindowUpdate,
            9 => Kind::Continuation,
            _ => Kind::Other,
        }
    }
}

/// Head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Kind.
    pub kind: Kind,
    /// Bytes of payload, padding included.
    pub length: u32,
    /// It is said to be the last of its stream.
    pub ends_stream: bool,
    /// It is said to be the last of its header block.
    pub ends_headers: bool,
}

/// Follows the frames of one direction.
#[derive(Debug)]
pub struct Scanner {
    head: [u8; HEAD],
    have: usize,
    skip: u32,
    block: Block,
}

/// Where the last header block stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    /// Further frames of it follow.
    Open,
    /// Its last frame began; the rest of that is skipped.
    Ending,
    /// Other frames came since.
    Past,
}

impl Scanner {
    /// Of what a client sends: its preface comes first.
    pub fn of_client() -> Self {
        Scanner { skip: PREFACE, ..Scanner::of_server() }
    }

    /// Of what a server sends.
    pub fn of_server() -> Self {
        Scanner { head: [0; HEAD], have: 0, skip: 0, block: Block::Past }
    }

    /// Whether a header block has begun of which not every byte is there.
    pub fn is_inside_block(&self) -> bool {
        self.block == Block::Open || (self.block == Block::Ending && self.skip > 0)
    }

    /// Takes in what came next, and gives every frame whose head is complete.
    pub fn scan(&mut self, mut bytes: &[u8], mut each: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = bytes.len().min(self.skip as usize);
                self.skip -= skipped as u32;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = bytes.len().min(HEAD - self.have);
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have < HEAD {
                return;
            }
            let frame = self.frame();
            self.skip = frame.length;
            self.have = 0;
            self.block = match frame.kind {
                Kind::Headers | Kind::Continuation if frame.ends_headers => Block::Ending,
                Kind::Headers | Kind::Continuation => Block::Open,
                Kind::Data | Kind::Priority | Kind::Reset | Kind::Settings => Block::Past,
                Kind::Ping | Kind::GoAway | Kind::WindowUpdate | Kind::Other => Block::Past,
            };
            each(frame);
        }
    }

    fn frame(&self) -> Frame {
        let [a, b, c, kind, flags, ..] = self.head;
        let kind = Kind::of(kind);
        Frame {
            kind,
            length: u32::from_be_bytes([0, a, b, c]),
            ends_stream: flags & END_STREAM != 0 && matches!(kind, Kind::Data | Kind::Headers),
            ends_headers: flags & END_HEADERS != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 1]);
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(4, 0, &[]));
        bytes.extend(frame(1, 0, b"head"));
        bytes.extend(frame(9, 4, b""));
        bytes.extend(frame(8, 0, &[0x80, 0, 1, 2]));
        bytes.extend(frame(0, 1, &[7; 300]));
        bytes.extend(frame(77, 0, b"?"));
        for size in [1, 2, 8, 9, 10, 13, 100, bytes.len()] {
            let mut scanner = Scanner::of_client();
            let mut found = Vec::new();
            for piece in bytes.chunks(size) {
                scanner.scan(piece, |frame| found.push((frame.kind, frame.length, frame.ends_stream)));
            }
            let expected = [
                (Kind::Settings, 0, false),
                (Kind::Headers, 4, false),
                (Kind::Continuation, 0, false),
                (Kind::WindowUpdate, 4, false),
                (Kind::Data, 300, true),
                (Kind::Other, 1, false),
            ];
            assert_eq!(found, expected, "in pieces of {size}");
            assert!(!scanner.is_inside_block());
        }
    }

    #[test]
    fn header_block_lasts_until_the_last_byte_of_its_last_frame() {
        let mut scanner = Scanner::of_server();
        scanner.scan(&frame(1, 0, b"head"), |_| {});
        assert!(scanner.is_inside_block());
        let last = frame(9, 4, b"rest");
        scanner.scan(&last[..11], |_| {});
        assert!(scanner.is_inside_block());
        scanner.scan(&last[11..], |_| {});
        assert!(!scanner.is_inside_block());
        // A body that comes slowly is none.
        scanner.scan(&frame(0, 0, b"body")[..11], |_| {});
        assert!(!scanner.is_inside_block());
    }
}
