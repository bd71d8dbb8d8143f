//! What a worker remembers of the requests that reached its application, so that the calls which the application makes
//! for them find their lane again. Core decides; here are the clock, the siblings' notes and the counters.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use ahash::RandomState;
use mesh_core::{
    fields::Fields,
    lane::{
        Carried, Found, Freshness, Known, MayLabel,
        correlation::{Correlation, Label},
        entry::again,
        find,
        plain::{self, Plain},
        trace::{Formats, TraceIds},
        unanimity::{Kind, Ticket, Unanimity},
    },
    model::lane::LaneGroup,
    snapshot::Surroundings,
};
use tokio::{sync::mpsc, time::Instant};

use super::{
    links::{Event, Links, Note, Told, What},
    oracle::Question,
};
use crate::{telemetry::worker::WorkerMetrics, wall_clock};

/// The memory of one worker.
pub struct Memory {
    state: RefCell<State>,
    links: Links,
    metrics: Arc<WorkerMetrics>,
    started: Instant,
    tokens: Cell<u64>,
}

/// A request that is about to reach the application.
pub struct Arrival<'a> {
    /// Its label.
    pub carried: Option<&'a Carried>,
    /// Its trace ids, where somebody would ask for them.
    pub ids: TraceIds,
    /// Whether its end is in sight.
    pub kind: Kind,
    /// Whether its calls are not of the pod's own lane.
    pub sender: Sender,
}

/// Who sent a request without label, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A mesh peer to a pod that is in a lane: the calls made for it are not of that lane.
    PeerToLane,
    /// Anybody else, or the request has a label.
    Other,
}

/// What was begun for a request.
#[derive(Default)]
struct Tickets {
    /// With the generation of unanimity.
    unanimity: Option<(u64, Ticket)>,
    plain: Option<plain::Ticket>,
}

impl Tickets {
    fn is_empty(&self) -> bool {
        self.unanimity.is_none() && self.plain.is_none()
    }
}

struct State {
    correlation: Correlation,
    plain: Plain,
    unanimity: Option<Unanimity>,
    /// Counts up whenever unanimity is switched on: tickets of before mean nothing.
    generation: u64,
    /// Tickets of the siblings' exchanges.
    of_siblings: HashMap<u64, Tickets>,
}

impl Memory {
    /// An empty memory for at most `capacity` trace ids.
    pub fn new(capacity: usize, links: Links, metrics: Arc<WorkerMetrics>) -> Self {
        let state = State {
            correlation: Correlation::new(capacity, RandomState::new()),
            plain: Plain::new(RandomState::new()),
            unanimity: None,
            generation: 0,
            of_siblings: HashMap::new(),
        };
        Memory { state: RefCell::new(state), links, metrics, started: Instant::now(), tokens: Cell::new(0) }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The label of a call that the application makes, from the first source that answers.
    pub fn find(&self, fields: &dyn Fields, snapshot: &Surroundings, may_label: &MayLabel) -> Option<Carried> {
        self.hear();
        let found = self.ask(fields, snapshot, may_label);
        self.links.learn(found.formats);
        if found.freshness == Freshness::Stale {
            self.metrics.lane_stale.add(1);
        }
        found.carried
    }

    fn ask(&self, fields: &dyn Fields, snapshot: &Surroundings, may_label: &MayLabel) -> Found {
        let now = self.now();
        let State { correlation, plain, unanimity, .. } = &mut *self.state.borrow_mut();
        let known = Known {
            workload: &snapshot.workload,
            may_label,
            correlation,
            plain: Some(plain),
            unanimity: unanimity.as_ref(),
            rederive: &|group| again(group, &snapshot.entries, fields, wall_clock::now()),
            now,
        };
        find(fields, &snapshot.lanes, known)
    }

    /// What the trace ids and carriers of a message mean, for one who has no call to make: without guesses and without
    /// the pod's own lane, and without counting. Says, too, whether its trace was seen in several lanes.
    pub fn look(&self, fields: &dyn Fields, groups: &[LaneGroup]) -> (Found, bool) {
        self.hear();
        let now = self.now();
        let State { correlation, .. } = &mut *self.state.borrow_mut();
        let ids = TraceIds::read(fields, groups);
        let ambiguous = ids.iter().any(|id| correlation.is_ambiguous(id));
        let known = Known {
            workload: &Default::default(),
            may_label: &MayLabel::All,
            correlation,
            plain: None,
            unanimity: None,
            rederive: &|_| None,
            now,
        };
        (find(fields, groups, known), ambiguous)
    }

    /// The questions for this worker; once.
    pub fn questions(&self) -> Option<mpsc::Receiver<Question>> {
        self.links.questions()
    }

    /// Formats of trace ids that the workload is known to forward.
    pub fn learned(&self) -> Formats {
        self.links.learned()
    }

    /// A request reached the application, as one of so many exchanges under way. `None` where nobody would ask for it.
    pub fn note(self: &Rc<Self>, groups: &[LaneGroup], arrival: Arrival<'_>, exchanges: usize) -> Option<Noted> {
        let Arrival { carried, ids, kind, sender } = arrival;
        let wants_all = self.switch(groups, exchanges);
        if carried.is_none() && !wants_all && sender == Sender::Other {
            return None;
        }
        let label = carried.map(|carried| self.state.borrow_mut().correlation.share(&Label::from(carried)));
        let of_group = |group: &LaneGroup| group.propagation.linger;
        let linger = match carried {
            Some(carried) => group_of(carried, groups).map(of_group),
            None => groups.iter().map(of_group).max(),
        };
        let linger = linger.unwrap_or_default();
        let token = self.links.number() << 48 | self.tokens.get();
        self.tokens.set(self.tokens.get() + 1);
        let event = Arc::new(Event { token, ids, label, kind, linger, sender });
        let tickets = self.begin(&event);
        let told = self.links.tell(&event, self.dropped());
        Some(Noted { memory: Rc::clone(self), event, tickets, told })
    }

    /// Switches unanimity on or off, as the groups say. Says whether it is on.
    fn switch(&self, groups: &[LaneGroup], exchanges: usize) -> bool {
        let wanted = groups.iter().any(|group| group.propagation.unanimity);
        let state = &mut *self.state.borrow_mut();
        match (wanted, &state.unanimity) {
            (true, None) => {
                let mut unanimity = Unanimity::default();
                if exchanges > 1 || self.links.has_siblings() {
                    unanimity.missed(self.now());
                }
                state.unanimity = Some(unanimity);
                state.generation += 1;
            }
            (false, Some(_)) => {
                state.unanimity = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
        wanted
    }

    fn begin(&self, event: &Event) -> Tickets {
        let now = self.now();
        let State { correlation, plain, unanimity, generation, .. } = &mut *self.state.borrow_mut();
        if let Some(label) = &event.label {
            let before = correlation.counts();
            event.ids.iter().for_each(|id| correlation.begin(id, label, now));
            let counts = correlation.counts();
            // What siblings noted is counted by them.
            if event.token >> 48 == self.links.number() {
                self.metrics.lane_ambiguous.add(counts.ambiguous - before.ambiguous);
            }
            self.metrics.lane_evicted.add(counts.evicted - before.evicted);
        }
        let begin = |unanimity: &mut Unanimity| unanimity.begin(event.label.clone(), event.kind, now);
        Tickets {
            unanimity: unanimity.as_mut().map(|unanimity| (*generation, begin(unanimity))),
            plain: (event.sender == Sender::PeerToLane).then(|| plain.begin(&event.ids, now)),
        }
    }

    fn end(&self, event: &Event, tickets: Tickets) {
        let now = self.now();
        let State { correlation, plain, unanimity, generation, .. } = &mut *self.state.borrow_mut();
        if event.label.is_some() {
            event.ids.iter().for_each(|id| correlation.end(id, event.linger, now));
        }
        if let Some(ticket) = tickets.plain {
            plain.end(ticket, &event.ids, event.linger, now);
        }
        if let (Some((of, ticket)), Some(unanimity)) = (tickets.unanimity, unanimity)
            && of == *generation
        {
            unanimity.end(ticket, now);
        }
    }

    fn lasts(&self, tickets: &Tickets) {
        let State { unanimity, generation, .. } = &mut *self.state.borrow_mut();
        if let (Some((of, ticket)), Some(unanimity)) = (&tickets.unanimity, unanimity)
            && of == generation
        {
            unanimity.lasts(ticket);
        }
    }

    /// Takes in what the siblings noted meanwhile.
    fn hear(&self) {
        if self.links.has_missed() {
            let now = self.now();
            let State { plain, unanimity, .. } = &mut *self.state.borrow_mut();
            plain.missed(now);
            if let Some(unanimity) = unanimity {
                unanimity.missed(now);
            }
        }
        while let Some(Note { event, what }) = self.links.hear() {
            match what {
                What::Began => {
                    let tickets = self.begin(&event);
                    if !tickets.is_empty() {
                        self.state.borrow_mut().of_siblings.insert(event.token, tickets);
                    }
                }
                What::Lasts => {
                    let Some(tickets) = self.state.borrow_mut().of_siblings.remove(&event.token) else { continue };
                    self.lasts(&tickets);
                    self.state.borrow_mut().of_siblings.insert(event.token, tickets);
                }
                What::Ended => {
                    let tickets = self.state.borrow_mut().of_siblings.remove(&event.token);
                    self.end(&event, tickets.unwrap_or_default());
                }
            }
        }
    }

    /// To be called now and then: takes in and passes on notes, lets go what has had its time.
    pub fn tick(&self) {
        self.links.flush();
        self.hear();
        let State { correlation, plain, .. } = &mut *self.state.borrow_mut();
        if !correlation.is_empty() {
            correlation.sweep(self.now());
        }
        plain.sweep(self.now());
        self.metrics.lane_entries.set(correlation.len() as u64);
    }

    fn dropped(&self) -> impl Fn() + '_ {
        || self.metrics.lane_notes_dropped.add(1)
    }
}

fn group_of<'g>(carried: &Carried, groups: &'g [LaneGroup]) -> Option<&'g LaneGroup> {
    match &carried.group {
        Some(name) => groups.iter().find(|group| group.name == *name),
        None => groups.iter().find(|group| group.lane(&carried.lane).is_some()),
    }
}

/// A request that is with the application. Its end is noted when this is dropped, however that comes.
pub struct Noted {
    memory: Rc<Memory>,
    event: Arc<Event>,
    tickets: Tickets,
    told: Told,
}

impl Noted {
    /// It turned out to be a tunnel, or a stream of events.
    pub fn lasts(&self) {
        if self.tickets.unanimity.is_some() && self.event.kind == Kind::Request {
            self.memory.lasts(&self.tickets);
            self.memory.links.tell_more(&self.event, What::Lasts, &self.told);
        }
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.memory.end(&self.event, std::mem::take(&mut self.tickets));
        self.memory.links.tell_more(&self.event, What::Ended, &self.told);
    }
}
