//! Targets that follow a script.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::timeout,
};

/// What a target says to one request.
#[derive(Clone)]
pub(super) struct Say {
    bytes: Vec<u8>,
    then: Then,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Next,
    Close,
    Hang,
}

const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

fn chunks(events: &[&str]) -> String {
    events.iter().map(|event| format!("{:x}\r\n{event}\r\n", event.len())).collect()
}

impl Say {
    pub(super) fn answer(status: u16, media: &str, body: &str) -> Say {
        let length = body.len();
        let text = format!("HTTP/1.1 {status} X\r\ncontent-type: {media}\r\ncontent-length: {length}\r\n\r\n{body}");
        Say { bytes: text.into_bytes(), then: Then::Next }
    }

    /// These bytes; the connection stays open.
    pub(super) fn raw(text: &str) -> Say {
        Say { bytes: text.as_bytes().to_vec(), then: Then::Hang }
    }

    /// A stream that ends in order.
    pub(super) fn events(events: &[&str]) -> Say {
        Say { bytes: format!("{STREAM}{}0\r\n\r\n", chunks(events)).into_bytes(), then: Then::Next }
    }

    /// A stream whose connection ends.
    pub(super) fn cut(events: &[&str]) -> Say {
        Say { bytes: format!("{STREAM}{}", chunks(events)).into_bytes(), then: Then::Close }
    }

    /// A stream that goes silent.
    pub(super) fn hang(events: &[&str]) -> Say {
        Say { then: Then::Hang, ..Say::cut(events) }
    }
}

/// A request as a target got it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) head: String,
    pub(super) body: String,
}

/// A target that follows a script.
pub(super) struct Scripted {
    pub(super) address: SocketAddr,
    seen: Rc<RefCell<Vec<Seen>>>,
    connections: Rc<Cell<usize>>,
    closed: Rc<Notify>,
}

impl Scripted {
    /// One that answers its requests with these, one after the other.
    pub(super) async fn new(script: Vec<Say>) -> Scripted {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("its number");
        let (seen, closed) = (Rc::<RefCell<Vec<Seen>>>::default(), Rc::new(Notify::new()));
        let script = Rc::new(RefCell::new(VecDeque::from(script)));
        let (noted, told) = (Rc::clone(&seen), Rc::clone(&closed));
        let connections = Rc::new(Cell::new(0));
        let counted = Rc::clone(&connections);
        tokio::task::spawn_local(async move {
            while let Ok((io, _)) = listener.accept().await {
                counted.set(counted.get() + 1);
                tokio::task::spawn_local(serve(io, Rc::clone(&script), Rc::clone(&noted), Rc::clone(&told)));
            }
        });
        Scripted { address, seen, connections, closed }
    }

    /// Connections that were made to it.
    pub(super) fn connections(&self) -> usize {
        self.connections.get()
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    /// Whether the proxy ends a connection within this time.
    pub(super) async fn closed_within(&self, limit: Duration) -> bool {
        timeout(limit, self.closed.notified()).await.is_ok()
    }
}

async fn serve(
    mut io: TcpStream,
    script: Rc<RefCell<VecDeque<Say>>>,
    seen: Rc<RefCell<Vec<Seen>>>,
    closed: Rc<Notify>,
) {
    let mut buffer = Vec::new();
    loop {
        let Some(request) = request(&mut io, &mut buffer).await else { return closed.notify_one() };
        seen.borrow_mut().push(request);
        let Some(say) = script.borrow_mut().pop_front() else { return };
        if io.write_all(&say.bytes).await.is_err() {
            return closed.notify_one();
        }
        match say.then {
            Then::Next => {}
            Then::Close => return,
            Then::Hang => {
                let mut rest = [0; 64];
                while matches!(io.read(&mut rest).await, Ok(1..)) {}
                return closed.notify_one();
            }
        }
    }
}

async fn request(io: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    loop {
        let text = String::from_utf8_lossy(buffer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            if head.contains("transfer-encoding: chunked") {
                if let (body, true) = unchunk(body) {
                    buffer.clear();
                    return Some(Seen { head: format!("{head}\r\n"), body });
                }
                if io.read_buf(buffer).await.ok()? == 0 {
                    return None;
                }
                continue;
            }
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
            if body.len() >= length {
                let seen = Seen { head: format!("{head}\r\n"), body: body[..length].to_owned() };
                *buffer = body.as_bytes()[length..].to_vec();
                return Some(seen);
            }
        }
        if io.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// Text of a chunked body, and whether it is whole.
pub(super) fn unchunk(mut rest: &str) -> (String, bool) {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size, 16) else { break };
        if size == 0 {
            return (body, true);
        }
        body.push_str(after.get(..size).unwrap_or(after));
        rest = after.get(size + 2..).unwrap_or_default();
    }
    (body, false)
}
