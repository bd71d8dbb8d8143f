//! What a worker remembers of the requests that reached its application, so that the calls which the application makes
//! for them find their lane again. Core decides; here are the clock, the siblings' notes and the counters.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    hash::RandomState,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use mesh_core::{
    fields::Fields,
    lane::{
        Carried, Found, Freshness, Known, MayLabel,
        correlation::{Correlation, Label},
        entry::again,
        find,
        trace::{Formats, TraceIds},
        unanimity::{Kind, Ticket, Unanimity},
    },
    model::lane::LaneGroup,
    snapshot::{Snapshot, Workload},
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
    /// When a request of a mesh peer without label last reached the application of a pod that is in a lane.
    unlabelled: Cell<Option<Duration>>,
}

/// For so long after a request without label reached a pod of a lane, the pod's own lane fills no absent label: the call
/// may belong to that request, which only a lane that is just being promoted or taken back gets at all.
const OWN_LANE_QUIET: Duration = Duration::from_secs(10);

struct State {
    correlation: Correlation,
    unanimity: Option<Unanimity>,
    /// Counts up whenever unanimity is switched on: tickets of before mean nothing.
    generation: u64,
    /// Tickets of the siblings' exchanges.
    of_siblings: HashMap<u64, (u64, Ticket)>,
}

impl Memory {
    /// An empty memory for at most `capacity` trace ids.
    pub fn new(capacity: usize, links: Links, metrics: Arc<WorkerMetrics>) -> Self {
        let state = State {
            correlation: Correlation::new(capacity, RandomState::new()),
            unanimity: None,
            generation: 0,
            of_siblings: HashMap::new(),
        };
        Memory {
            state: RefCell::new(state),
            links,
            metrics,
            started: Instant::now(),
            tokens: Cell::new(0),
            unlabelled: Cell::new(None),
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The label of a call that the application makes, from the first source that answers.
    pub fn find(&self, fields: &dyn Fields, snapshot: &Snapshot, may_label: &MayLabel) -> Option<Carried> {
        self.hear();
        let found = self.ask(fields, snapshot, may_label);
        self.links.learn(found.formats);
        if found.freshness == Freshness::Stale {
            self.metrics.lane_stale.add(1);
        }
        found.carried
    }

    /// A request of a mesh peer without label reached the application.
    pub fn unlabelled(&self) {
        self.unlabelled.set(Some(self.now()));
    }

    fn ask(&self, fields: &dyn Fields, snapshot: &Snapshot, may_label: &MayLabel) -> Found {
        let now = self.now();
        let State { correlation, unanimity, .. } = &mut *self.state.borrow_mut();
        let nowhere = Workload::default();
        let is_open = self.unlabelled.get().is_none_or(|last| now.saturating_sub(last) > OWN_LANE_QUIET);
        let known = Known {
            workload: if is_open { &snapshot.workload } else { &nowhere },
            may_label,
            correlation,
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
    pub fn note(
        self: &Rc<Self>,
        groups: &[LaneGroup],
        carried: Option<&Carried>,
        (ids, kind): (TraceIds, Kind),
        exchanges: usize,
    ) -> Option<Noted> {
        let wants_all = self.switch(groups, exchanges);
        if carried.is_none() && !wants_all {
            return None;
        }
        let label = carried.map(|carried| self.state.borrow_mut().correlation.share(&Label::from(carried)));
        let group = carried.and_then(|carried| group_of(carried, groups));
        let linger = group.map(|group| group.propagation.linger).unwrap_or_default();
        let token = self.links.number() << 48 | self.tokens.get();
        self.tokens.set(self.tokens.get() + 1);
        let event = Arc::new(Event { token, ids, label, kind, linger });
        let ticket = self.begin(&event);
        let told = self.links.tell(&event, self.dropped());
        Some(Noted { memory: Rc::clone(self), event, ticket, told })
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
                state.of_siblings.clear();
            }
            (true, Some(_)) | (false, None) => {}
        }
        wanted
    }

    fn begin(&self, event: &Event) -> Option<(u64, Ticket)> {
        let now = self.now();
        let State { correlation, unanimity, generation, .. } = &mut *self.state.borrow_mut();
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
        let ticket = unanimity.as_mut()?.begin(event.label.clone(), event.kind, now);
        Some((*generation, ticket))
    }

    fn end(&self, event: &Event, ticket: Option<(u64, Ticket)>) {
        let now = self.now();
        let State { correlation, unanimity, generation, .. } = &mut *self.state.borrow_mut();
        if event.label.is_some() {
            event.ids.iter().for_each(|id| correlation.end(id, event.linger, now));
        }
        if let (Some((of, ticket)), Some(unanimity)) = (ticket, unanimity)
            && of == *generation
        {
            unanimity.end(ticket, now);
        }
    }

    fn lasts(&self, ticket: Option<&(u64, Ticket)>) {
        let State { unanimity, generation, .. } = &mut *self.state.borrow_mut();
        if let (Some((of, ticket)), Some(unanimity)) = (ticket, unanimity)
            && of == generation
        {
            unanimity.lasts(ticket);
        }
    }

    /// Takes in what the siblings noted meanwhile.
    fn hear(&self) {
        if self.links.has_missed() {
            let now = self.now();
            if let Some(unanimity) = &mut self.state.borrow_mut().unanimity {
                unanimity.missed(now);
            }
        }
        while let Some(Note { event, what }) = self.links.hear() {
            match what {
                What::Began => {
                    let ticket = self.begin(&event);
                    if let Some(ticket) = ticket {
                        self.state.borrow_mut().of_siblings.insert(event.token, ticket);
                    }
                }
                What::Lasts => {
                    let ticket = self.state.borrow_mut().of_siblings.remove(&event.token);
                    self.lasts(ticket.as_ref());
                    if let Some(ticket) = ticket {
                        self.state.borrow_mut().of_siblings.insert(event.token, ticket);
                    }
                }
                What::Ended => {
                    let ticket = self.state.borrow_mut().of_siblings.remove(&event.token);
                    self.end(&event, ticket);
                }
            }
        }
    }

    /// To be called now and then: takes in and passes on notes, lets go what has had its time.
    pub fn tick(&self) {
        self.links.flush();
        self.hear();
        let correlation = &mut self.state.borrow_mut().correlation;
        if !correlation.is_empty() {
            correlation.sweep(self.now());
        }
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
    ticket: Option<(u64, Ticket)>,
    told: Told,
}

impl Noted {
    /// It turned out to be a tunnel, or a stream of events.
    pub fn lasts(&self) {
        if self.ticket.is_some() && self.event.kind == Kind::Request {
            self.memory.lasts(self.ticket.as_ref());
            self.memory.links.tell_more(&self.event, What::Lasts, &self.told);
        }
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.memory.end(&self.event, self.ticket.take());
        self.memory.links.tell_more(&self.event, What::Ended, &self.told);
    }
}
