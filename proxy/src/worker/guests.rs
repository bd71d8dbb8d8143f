//! The connections of callers that a worker has, which of them only wait, and who must go when there is no place for others.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    net::IpAddr,
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use ahash::AHashMap;
use mesh_core::shedding::{Pressure, Shed};
use slab::Slab;

use super::Door;
use crate::telemetry::worker::Direction;

/// Connections that are ended at one look because memory is short: those that waited longest.
const ENDED_AT_ONCE: usize = 16;
/// A connection that waits for less long is not ended for that.
const WAITED_MIN: Duration = Duration::from_secs(1);
/// Parts of all connections that one listener may have: whatever comes to one, the other has some.
const DOOR_SHARE: (usize, usize) = (3, 4);

/// How many connections of callers a worker may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// At all listeners together.
    pub all: usize,
    /// At one listener.
    pub door: usize,
    /// Of one address, where callers are others than the application of this pod.
    pub peer: usize,
}

impl Places {
    /// One worker's part of those of a process.
    pub fn of(connections: usize, per_listener: usize, per_peer: usize, workers: usize) -> Self {
        let part = |count: usize| count.div_ceil(workers.max(1)).max(1);
        let all = part(connections);
        let door = part(per_listener).min((all / DOOR_SHARE.1 * DOOR_SHARE.0).max(1));
        Places { all, door, peer: part(per_peer) }
    }
}

impl Default for Places {
    fn default() -> Self {
        Places { all: usize::MAX, door: usize::MAX, peer: usize::MAX }
    }
}

/// One connection of a caller.
#[derive(Debug, Default)]
pub struct Guest {
    /// Since when nothing is under way on it, on the worker's clock.
    resting: Cell<Option<Duration>>,
    unwanted: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    exchanges: Cell<u32>,
}

impl Guest {
    /// Nothing is under way since `now`, or since it was said first.
    pub fn rests(&self, now: Duration) {
        if self.resting.get().is_none() {
            self.resting.set(Some(now));
        }
    }

    /// Something is under way.
    pub fn works(&self) {
        self.resting.set(None);
    }

    /// One more exchange is under way, until the result is dropped.
    pub fn begin(self: &Rc<Self>) -> Counted {
        self.exchanges.set(self.exchanges.get() + 1);
        Counted(Rc::clone(self))
    }

    /// Exchanges under way, where they are counted: those of HTTP/2.
    pub fn exchanges(&self) -> u32 {
        self.exchanges.get()
    }

    /// Returns when its place is needed for others.
    pub async fn unwanted(&self) {
        poll_fn(|cx| {
            if self.unwanted.get() {
                return Poll::Ready(());
            }
            let mut place = self.waker.borrow_mut();
            if !place.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *place = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    fn end(&self) {
        self.unwanted.set(true);
        self.resting.set(None);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// An exchange that is counted.
#[derive(Debug)]
pub struct Counted(Rc<Guest>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.exchanges.set(self.0.exchanges.get() - 1);
    }
}

#[derive(Debug)]
struct Seated {
    guest: Rc<Guest>,
    peer: IpAddr,
    door: Door,
}

/// Every connection of a worker's callers.
#[derive(Debug)]
pub struct Guests {
    places: Places,
    seated: RefCell<Slab<Seated>>,
    peers: RefCell<AHashMap<IpAddr, usize>>,
    doors: [Cell<usize>; Door::ALL.len()],
    pressure: Cell<Pressure>,
    /// The same of the listeners for each direction.
    door_pressure: [Cell<Pressure>; Direction::ALL.len()],
}

impl Guests {
    /// Nobody yet, with so many places.
    pub fn new(places: Places) -> Self {
        Guests {
            places,
            seated: RefCell::default(),
            peers: RefCell::default(),
            doors: Default::default(),
            pressure: Cell::default(),
            door_pressure: Default::default(),
        }
    }

    /// How many places are taken by connections on which something is under way, when that was looked at last.
    pub fn pressure(&self) -> Pressure {
        self.pressure.get()
    }

    /// The same of the places that listeners for this direction may have.
    pub fn pressure_at(&self, direction: Direction) -> Pressure {
        self.door_pressure[direction as usize].get()
    }

    /// Connections of callers.
    pub fn count(&self) -> usize {
        self.seated.borrow().len()
    }

    /// Whether one more may come to `door`. Where all places are taken, the connection that waits longest is told to go.
    pub fn has_place(&self, door: Door) -> Place {
        let Places { all, door: at_door, .. } = self.places;
        if self.doors[door as usize].get() >= at_door && self.staying(|one| one.door == door) >= at_door {
            return self.make_place(|one| one.door == door);
        }
        if self.seated.borrow().len() >= all && self.staying(|_| true) >= all {
            return self.make_place(|_| true);
        }
        Place::Free
    }

    fn make_place(&self, fits: impl Fn(&Seated) -> bool) -> Place {
        if self.end_longest(fits) { Place::Made } else { Place::None }
    }

    /// Connections that fit and were not told to go.
    fn staying(&self, fits: impl Fn(&Seated) -> bool) -> usize {
        self.seated.borrow().iter().filter(|(_, one)| !one.guest.unwanted.get() && fits(one)).count()
    }

    /// Tells the connection to go that waits longest of those that fit; false where none waits.
    fn end_longest(&self, fits: impl Fn(&Seated) -> bool) -> bool {
        let seated = self.seated.borrow();
        let waiting = seated.iter().filter_map(|(_, one)| one.guest.resting.get().map(|since| (since, one)));
        let Some((_, longest)) = waiting.filter(|(_, one)| fits(one)).min_by_key(|(since, _)| *since) else {
            return false;
        };
        longest.guest.end();
        true
    }

    /// Tells the connection to go that waits longest, wherever it came from; false where none waits.
    pub fn relieve(&self) -> bool {
        self.end_longest(|_| true)
    }

    /// Takes a new connection in; `bounded` = its caller may have only so many.
    ///
    /// # Errors
    /// Its caller has as many as one may have, and none of them waits.
    pub fn admit(self: &Rc<Self>, peer: IpAddr, door: Door, bounded: Bounded, now: Duration) -> Result<Seat, Shed> {
        let mut peers = self.peers.borrow_mut();
        let of_peer = peers.entry(peer).or_default();
        if bounded == Bounded::Yes && *of_peer >= self.places.peer && !self.end_longest(|one| one.peer == peer) {
            return Err(Shed::ConnectionsOfPeer);
        }
        *of_peer += 1;
        let at_door = &self.doors[door as usize];
        at_door.set(at_door.get() + 1);
        let guest = Rc::new(Guest::default());
        guest.rests(now);
        let position = self.seated.borrow_mut().insert(Seated { guest: Rc::clone(&guest), peer, door });
        Ok(Seat { guests: Rc::clone(self), position, guest })
    }

    /// Looks how many are busy, and ends some of those that wait while memory is short. Returns how many were ended.
    pub fn tick(&self, now: Duration, memory: Pressure) -> usize {
        let mut all = 0;
        let mut fullest = [0; Direction::ALL.len()];
        for door in Door::ALL {
            let busy = self.staying(|one| one.door == door && one.guest.resting.get().is_none());
            let fullest = &mut fullest[door.direction() as usize];
            (all, *fullest) = (all + busy, busy.max(*fullest));
        }
        self.pressure.set(Pressure::of(all, self.places.all));
        for (pressure, busy) in self.door_pressure.iter().zip(fullest) {
            pressure.set(Pressure::of(busy, self.places.door));
        }
        if memory < Pressure::Short {
            return 0;
        }
        let waits_long =
            |one: &Seated| one.guest.resting.get().is_some_and(|since| now.saturating_sub(since) >= WAITED_MIN);
        (0..ENDED_AT_ONCE).take_while(|_| self.end_longest(waits_long)).count()
    }
}

/// Whether there is a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// There is.
    Free,
    /// A connection that waited was told to go.
    Made,
    /// All are busy.
    None,
}

/// Whether the connections of one caller are limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bounded {
    /// They are.
    Yes,
    /// It is the application of this pod.
    No,
}

/// The place of one connection among those of a worker; free again when dropped.
#[derive(Debug)]
pub struct Seat {
    guests: Rc<Guests>,
    position: usize,
    /// What is known of the connection.
    pub guest: Rc<Guest>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Seated { peer, door, .. } = self.guests.seated.borrow_mut().remove(self.position);
        let at_door = &self.guests.doors[door as usize];
        at_door.set(at_door.get() - 1);
        let mut peers = self.guests.peers.borrow_mut();
        if let Some(count) = peers.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                peers.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests;
