//! The lane that all requests in flight share: what an unlabelled call most likely belongs to, where a group allows the
//! guess.
//!
//! Every condition is kept up to date as requests come and go, so that asking costs the same however many there are. It
//! can still be wrong for work that outlives its request by more than [`QUIET`].

#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{
    correlation::Label,
    links::{List, Pair},
};

/// Requests in flight for longer say nothing: they may wait for work of others.
pub const YOUNG: Duration = Duration::from_secs(30);
/// So long after the end of a request of another lane (or baseline), its work may still go on.
pub const QUIET: Duration = Duration::from_secs(1);

/// Whether an exchange is a request with an end in sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is.
    Request,
    /// A WebSocket or other tunnel, or a stream of events: calls during it may be anybody's.
    Lasting,
}

/// An exchange in flight; give it back to [`Unanimity::end`].
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket(u32);

#[derive(Debug)]
struct Slot {
    lane: Option<Arc<Label>>,
    began: Duration,
    kind: Kind,
    order: Pair,
}

/// The exchanges in flight at one workload, with and without lane; begins with none.
#[derive(Debug, Default)]
pub struct Unanimity {
    slots: Vec<Slot>,
    free: Vec<u32>,
    order: List,
    lanes: HashMap<Option<Arc<Label>>, usize>,
    lasting: usize,
    /// The last end, and the last end of another lane than that.
    ended: [Option<(Option<Arc<Label>>, Duration)>; 2],
    blind_until: Duration,
}

impl Unanimity {
    /// Something in flight may be missing here, as it began before this was kept or its note was lost: silent until it
    /// has ended or would count for nothing.
    pub fn missed(&mut self, now: Duration) {
        self.blind_until = now + YOUNG;
    }

    /// An exchange began; `lane` is `None` for baseline.
    pub fn begin(&mut self, lane: Option<Arc<Label>>, kind: Kind, now: Duration) -> Ticket {
        *self.lanes.entry(lane.clone()).or_default() += 1;
        self.lasting += usize::from(kind == Kind::Lasting);
        let slot = Slot { lane, began: now, kind, order: Pair::default() };
        let place = match self.free.pop() {
            Some(place) => {
                self.slots[place as usize] = slot;
                place
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        self.order.push(&mut self.slots, place, order);
        Ticket(place)
    }

    /// It turned out to be no request with an end in sight.
    pub fn lasts(&mut self, ticket: &Ticket) {
        let slot = &mut self.slots[ticket.0 as usize];
        if slot.kind == Kind::Request {
            slot.kind = Kind::Lasting;
            self.lasting += 1;
        }
    }

    /// An exchange has ended.
    pub fn end(&mut self, ticket: Ticket, now: Duration) {
        let Ticket(place) = ticket;
        self.order.remove(&mut self.slots, place, order);
        let slot = &mut self.slots[place as usize];
        let lane = slot.lane.take();
        self.lasting -= usize::from(slot.kind == Kind::Lasting);
        self.free.push(place);
        if let Some(count) = self.lanes.get_mut(&lane) {
            *count -= 1;
            if *count == 0 {
                self.lanes.remove(&lane);
            }
        }
        match &mut self.ended {
            [Some((last, when)), _] if *last == lane => *when = now,
            [last, before] => *before = last.replace((lane, now)),
        }
    }

    /// Exchanges in flight.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The lane that everything in flight shares, if nothing speaks against it.
    pub fn lane(&self, now: Duration) -> Option<&Arc<Label>> {
        if now < self.blind_until || self.lasting > 0 || self.lanes.len() != 1 {
            return None;
        }
        let lane = self.lanes.keys().next()?.as_ref()?;
        let oldest = &self.slots[self.order.first()? as usize];
        let others = self.ended.iter().flatten().find(|(ended, _)| ended.as_ref() != Some(lane));
        let is_quiet = others.is_none_or(|(_, when)| now >= *when + QUIET);
        (now < oldest.began + YOUNG && is_quiet).then_some(lane)
    }
}

fn order(slot: &mut Slot) -> &mut Pair {
    &mut slot.order
}
