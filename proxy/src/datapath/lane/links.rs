//! How workers tell each other what reached the application: a call and the request for which it is made may be on
//! different workers. Every worker has a bounded queue that its siblings fill without ever waiting; with one worker
//! nothing of this exists.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use mesh_core::lane::{
    correlation::Label,
    trace::{Formats, TraceIds},
    unanimity::Kind,
};
use tokio::sync::mpsc;

use super::{
    memory::Sender,
    oracle::{Oracle, QUESTIONS, Question},
};

/// Notes that wait for a worker: those of one tick at 40,000 requests per second of lanes. More are dropped and counted.
pub const NOTES: usize = 8_192;

/// A request that reached the application.
#[derive(Debug)]
pub struct Event {
    /// Number of the worker, and of the request there.
    pub token: u64,
    /// Its trace ids.
    pub ids: TraceIds,
    /// Its lane; `None` for baseline.
    pub label: Option<Arc<Label>>,
    /// Whether its end is in sight.
    pub kind: Kind,
    /// How long its ids mean the lane after its end.
    pub linger: Duration,
    /// Whether its calls are not of the pod's own lane.
    pub sender: Sender,
}

/// What happened to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It began.
    Began,
    /// No end is in sight.
    Lasts,
    /// It has ended.
    Ended,
}

/// One note.
#[derive(Debug)]
pub struct Note {
    /// The request.
    pub event: Arc<Event>,
    /// What happened.
    pub what: What,
}

struct Sibling {
    notes: mpsc::Sender<Note>,
    missed: Arc<AtomicU64>,
    /// Ends that found the queue full. Of requests whose beginning was told only, so no more than are in flight.
    late: RefCell<VecDeque<Note>>,
}

/// The siblings that know of a request, one bit each.
#[derive(Debug, Default)]
pub struct Told(u64);

/// What a worker needs to speak with its siblings, and to answer questions from outside.
pub struct Links {
    number: u64,
    notes: Option<RefCell<mpsc::Receiver<Note>>>,
    missed: Arc<AtomicU64>,
    missed_before: Cell<u64>,
    siblings: Vec<Sibling>,
    learned: Arc<AtomicU8>,
    questions: RefCell<Option<mpsc::Receiver<Question>>>,
}

impl Links {
    /// For each of `count` workers, and for who asks them.
    pub fn all(count: usize) -> (Vec<Links>, Oracle) {
        let learned = Arc::new(AtomicU8::new(0));
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel(NOTES)).unzip();
        let missed: Vec<Arc<AtomicU64>> = (0..count).map(|_| Arc::default()).collect();
        let mut workers = Vec::with_capacity(count);
        let links = receivers.into_iter().enumerate().map(|(number, receiver)| {
            let (ask, questions) = mpsc::channel(QUESTIONS);
            workers.push(ask);
            let sibling = |other: usize| Sibling {
                notes: senders[other].clone(),
                missed: Arc::clone(&missed[other]),
                late: RefCell::default(),
            };
            Links {
                number: number as u64,
                notes: (count > 1).then(|| RefCell::new(receiver)),
                missed: Arc::clone(&missed[number]),
                missed_before: Cell::new(0),
                siblings: (0..count).filter(|other| *other != number).map(sibling).collect(),
                learned: Arc::clone(&learned),
                questions: RefCell::new(Some(questions)),
            }
        });
        let links = links.collect();
        (links, Oracle::new(workers))
    }

    /// Number of the worker.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How many workers there are.
    pub fn count(&self) -> usize {
        self.siblings.len() + 1
    }

    /// Whether there are other workers.
    pub fn has_siblings(&self) -> bool {
        !self.siblings.is_empty()
    }

    /// The questions for this worker; once.
    pub fn questions(&self) -> Option<mpsc::Receiver<Question>> {
        self.questions.borrow_mut().take()
    }

    /// Remembers, for all workers, formats of trace ids that the workload forwards.
    pub fn learn(&self, formats: Formats) {
        let known = self.learned.load(Relaxed);
        if formats.bits() & !known != 0 {
            self.learned.fetch_or(formats.bits(), Relaxed);
        }
    }

    /// Formats of trace ids that the workload is known to forward.
    pub fn learned(&self) -> Formats {
        Formats::from_bits(self.learned.load(Relaxed))
    }

    /// Tells the siblings that a request began; `dropped` is called for each that has no room.
    pub fn tell(&self, event: &Arc<Event>, dropped: impl Fn()) -> Told {
        let mut told = Told::default();
        for (position, sibling) in self.siblings.iter().enumerate() {
            if sibling.flush() && sibling.send(Note { event: Arc::clone(event), what: What::Began }).is_ok() {
                told.0 |= 1 << position;
            } else {
                sibling.missed.fetch_add(1, Relaxed);
                dropped();
            }
        }
        told
    }

    /// Tells those who know of a request what became of it.
    pub fn tell_more(&self, event: &Arc<Event>, what: What, told: &Told) {
        for (position, sibling) in self.siblings.iter().enumerate() {
            if told.0 & 1 << position == 0 {
                continue;
            }
            let note = Note { event: Arc::clone(event), what };
            if !sibling.flush() {
                sibling.late.borrow_mut().push_back(note);
            } else if let Err(note) = sibling.send(note) {
                sibling.late.borrow_mut().push_back(note);
            }
        }
    }

    /// Sends what found a queue full.
    pub fn flush(&self) {
        for sibling in &self.siblings {
            sibling.flush();
        }
    }

    /// The next note for this worker.
    pub fn hear(&self) -> Option<Note> {
        self.notes.as_ref()?.borrow_mut().try_recv().ok()
    }

    /// Whether notes for this worker were dropped since it was last asked.
    pub fn has_missed(&self) -> bool {
        self.notes.is_some() && {
            let missed = self.missed.load(Relaxed);
            self.missed_before.replace(missed) != missed
        }
    }
}

impl Sibling {
    /// Sends what waits; false where some still does.
    fn flush(&self) -> bool {
        let mut late = self.late.borrow_mut();
        while let Some(note) = late.pop_front() {
            if let Err(note) = self.send(note) {
                late.push_front(note);
                return false;
            }
        }
        true
    }

    /// Without room, the note comes back; to a worker that is gone nothing needs to be told.
    fn send(&self, note: Note) -> Result<(), Note> {
        match self.notes.try_send(note) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(note)) => Err(note),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(token: u64) -> Arc<Event> {
        let (ids, label, linger) = (TraceIds::default(), None, Duration::ZERO);
        Arc::new(Event { token, ids, label, kind: Kind::Request, linger, sender: Sender::Other })
    }

    #[test]
    fn only_worker_tells_and_hears_nothing() {
        let (links, _) = Links::all(1);
        let told = links[0].tell(&event(1), || panic!("nobody to tell"));
        assert_eq!((told.0, links[0].hear().is_none(), links[0].has_missed()), (0, true, false));
    }

    #[test]
    fn full_queue_drops_beginnings_and_keeps_ends() {
        let (links, _) = Links::all(3);
        let dropped = Cell::new(0);
        let tell = |token| links[0].tell(&event(token), || dropped.set(dropped.get() + 1));
        let first = tell(0);
        let told: Vec<u64> = (1..NOTES as u64 + 10).map(|token| tell(token).0).collect();
        assert_eq!(first.0, 0b11);
        assert_eq!((told.iter().filter(|told| **told == 0).count(), dropped.get()), (10, 20));
        assert!(links[1].has_missed() && !links[1].has_missed() && links[2].has_missed());
        links[0].tell_more(&event(0), What::Ended, &first);
        links[0].tell_more(&event(9_999), What::Ended, &Told(0));
        let heard = |links: &Links| {
            std::iter::from_fn(|| links.hear()).map(|note| (note.event.token, note.what)).collect::<Vec<_>>()
        };
        assert_eq!(heard(&links[1]).len(), NOTES);
        links[0].flush();
        assert_eq!(heard(&links[1]), [(0, What::Ended)]);
    }

    #[test]
    fn what_one_worker_learns_all_know() {
        let (links, _) = Links::all(2);
        links[0].learn(Formats::from_bits(0b10));
        links[1].learn(Formats::from_bits(0b01));
        assert_eq!((links[0].learned().bits(), links[1].learned().bits()), (0b11, 0b11));
    }
}
