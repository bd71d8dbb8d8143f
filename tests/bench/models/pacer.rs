//! Writes the tokens of paced streams, each stream in its own turn of the period, so that they do not come in bursts. A
//! thread that sleeps, because timers of an event loop are a millisecond coarse.

use std::{
    io::Write,
    net::TcpStream,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use super::chat;

/// Between two tokens of a stream.
pub(super) const PERIOD: Duration = Duration::from_millis(20);
/// Streams that are paced at the same time.
pub(super) const STREAMS: usize = 300;

/// A stream that has begun.
pub(super) struct Flow {
    socket: TcpStream,
    tokens: u64,
    left: u64,
}

impl Flow {
    /// A stream of `tokens` into a socket that does not block.
    pub(super) fn new(socket: TcpStream, tokens: u64) -> Flow {
        Flow { socket, tokens, left: tokens }
    }

    /// Writes the next token. Nothing comes back once the stream is over.
    fn step(mut self) -> Option<Flow> {
        let mut bytes = Vec::new();
        chat::chunk(&mut bytes, &chat::token(chat::now()));
        self.left -= 1;
        if self.left == 0 {
            chat::end(&mut bytes, self.tokens);
        }
        // A socket that takes no few hundred bytes ends the stream, which its reader finds cut.
        self.socket.write_all(&bytes).ok().filter(|()| self.left > 0).map(|()| self)
    }
}

/// Starts the thread; it ends with the last sender.
///
/// # Errors
/// When it cannot be started.
pub(super) fn start() -> anyhow::Result<mpsc::Sender<Flow>> {
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().name("pacer".into()).spawn(move || run(&receiver))?;
    Ok(sender)
}

fn run(receiver: &mpsc::Receiver<Flow>) {
    let mut turns: Vec<Option<Flow>> = (0..STREAMS).map(|_| None).collect();
    let step = PERIOD / STREAMS as u32;
    loop {
        let mut due = Instant::now();
        let Ok(first) = receiver.recv() else { return };
        turns[0] = Some(first);
        while turns.iter().any(Option::is_some) {
            for turn in 0..STREAMS {
                for flow in receiver.try_iter() {
                    // More than there are turns for end at once, and are found cut.
                    if let Some(free) = turns.iter_mut().find(|turn| turn.is_none()) {
                        *free = Some(flow);
                    }
                }
                // What a busy machine delayed is made up for, but not as one great burst.
                due = (due + step).max(Instant::now().checked_sub(PERIOD).unwrap_or(due));
                thread::sleep(due.saturating_duration_since(Instant::now()));
                turns[turn] = turns[turn].take().and_then(Flow::step);
            }
        }
    }
}
