//! What a proxy that runs short of memory or descriptors gives up first, and how long it waits for clients that hardly move.
//! Pure.
//!
//! In this order: connections on which nothing is under way, exchanges whose client hardly sends or takes anything, new
//! exchanges. What moves is served as long as there is room for it at all.

use std::time::Duration;

/// Share of a budget, percent, from which on less is read at a time and slow clients are waited for less long.
const TIGHT_FROM: usize = 70;
/// … from which on they are hardly waited for any more.
const SHORT_FROM: usize = 85;
/// … from which on nothing begins: what was let in before may still take more.
const OVER_FROM: usize = 125;
/// Fewer places of an instance than this are few.
const PLACES_FEW: u32 = 16;

/// How much of a budget is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Plenty is left.
    #[default]
    None,
    /// 70 % is used.
    Tight,
    /// 85 % is used.
    Short,
    /// All of it is: nothing begins that may last.
    Full,
    /// A quarter more than all of it is: nothing begins.
    Over,
}

impl Pressure {
    /// Of a budget of which so much is used; a budget of 0 is none.
    pub fn of(used: usize, budget: usize) -> Self {
        let percent = used.saturating_mul(100).checked_div(budget).unwrap_or_default();
        match percent {
            OVER_FROM.. => Pressure::Over,
            100.. => Pressure::Full,
            SHORT_FROM.. => Pressure::Short,
            TIGHT_FROM.. => Pressure::Tight,
            0.. => Pressure::None,
        }
    }

    /// Of the places of an instance. Of few there are no last ones to be kept: whoever finds none waits in line.
    pub fn of_places(used: u32, places: u32) -> Self {
        if places < PLACES_FEW { Pressure::None } else { Pressure::of(used as usize, places as usize) }
    }

    /// Label for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Pressure::None => "none",
            Pressure::Tight => "tight",
            Pressure::Short => "short",
            Pressure::Full => "full",
            Pressure::Over => "over",
        }
    }
}

/// What is awaited of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// The rest of a request whose length was said.
    SizedRequest,
    /// The rest of a request that may go on as long as it likes.
    OpenRequest,
    /// That it takes more of its answer.
    Taking,
}

/// A client that moves fewer bytes a second than this hardly moves.
const RATE_MIN: u64 = 128;

/// How long a client that hardly moves is waited for; `None` = as long as the other limits allow.
///
/// A request of known length is an upload, which has no reason to pause. One without may be a stream whose client has
/// nothing to say: it holds next to nothing, and is given up only when nothing new could begin otherwise. A client may take
/// its answer slowly for as long as there is room for what waits.
pub fn patience(awaited: Awaited, pressure: Pressure) -> Option<Duration> {
    let seconds = match (awaited, pressure) {
        (Awaited::SizedRequest, Pressure::None) => 20,
        (Awaited::SizedRequest, Pressure::Tight) => 10,
        (Awaited::SizedRequest, Pressure::Short | Pressure::Full | Pressure::Over) => 3,
        (Awaited::OpenRequest, Pressure::None | Pressure::Tight | Pressure::Short) => return None,
        (Awaited::OpenRequest, Pressure::Full | Pressure::Over) => 10,
        (Awaited::Taking, Pressure::None) => 300,
        (Awaited::Taking, Pressure::Tight) => 10,
        (Awaited::Taking, Pressure::Short | Pressure::Full | Pressure::Over) => 2,
    };
    Some(Duration::from_secs(seconds))
}

/// Follows how fast one client moves while something is awaited of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Creep {
    awaited: Awaited,
    since: Duration,
    looked: Duration,
    bytes: u64,
}

impl Creep {
    /// Something is awaited from now on; so many bytes have moved.
    pub fn begin(awaited: Awaited, now: Duration, bytes: u64) -> Self {
        Creep { awaited, since: now, looked: now, bytes }
    }

    /// What is awaited.
    pub fn awaited(&self) -> Awaited {
        self.awaited
    }

    /// Looks again; true where the client was waited for long enough.
    pub fn look(&mut self, now: Duration, bytes: u64, pressure: Pressure) -> bool {
        let (passed, moved) = (now.saturating_sub(self.looked), bytes.saturating_sub(self.bytes));
        if moved as f64 >= RATE_MIN as f64 * passed.as_secs_f64() {
            self.since = now;
        }
        (self.looked, self.bytes) = (now, bytes);
        patience(self.awaited, pressure).is_some_and(|patience| now.saturating_sub(self.since) >= patience)
    }
}

/// Exchanges that one connection may have under way while memory is short.
pub const EXCHANGES_SHORT: u32 = 64;

/// How much of a request is there when it is decided whether it is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtHand {
    /// All of it, or as much as its connection has room for.
    Whole,
    /// Its head; the rest is still to come.
    Part,
}

/// Exchanges under way in a worker, and connections, that are served whatever memory says: where tables alone fill the budget,
/// nothing would be served otherwise.
pub const ALWAYS: usize = 16;

/// Why a new exchange is refused, if it is: those that may last long before the others, so that requests which are there can
/// be served although what was let in before goes on taking memory. `others` are under way on its connection.
pub fn refuses(memory: Pressure, others: u32, at_hand: AtHand) -> Option<Shed> {
    match (memory, at_hand) {
        (Pressure::None | Pressure::Tight, _) => None,
        (Pressure::Short, AtHand::Part) => Some(Shed::MemoryOfUpload),
        (Pressure::Full, AtHand::Part) | (Pressure::Over, _) => Some(Shed::Memory),
        (Pressure::Short | Pressure::Full, AtHand::Whole) => {
            (others > EXCHANGES_SHORT).then_some(Shed::MemoryOfConnection)
        }
    }
}

/// Why an exchange is not sent to an instance of whose connections or exchanges so much is taken, if it is not: the last
/// places are for requests that are there, since whoever sends slowly keeps a place for long.
pub fn refuses_place(places: Pressure, at_hand: AtHand) -> Option<Shed> {
    (places >= Pressure::Short && at_hand == AtHand::Part).then_some(Shed::PlacesOfUpload)
}

/// Descriptors that are never given to connections of callers and to those made for them: listeners, control streams, the
/// admin port, files, and what the runtimes need.
pub const DESCRIPTORS_RESERVED: usize = 96;
/// Connections of callers that are allowed however few descriptors there are.
const CONNECTIONS_MIN: usize = 16;

/// Connections of callers that `descriptors` allow: each may need one to an instance, too.
pub fn connections(descriptors: usize) -> usize {
    (descriptors.saturating_sub(DESCRIPTORS_RESERVED) / 2).max(CONNECTIONS_MIN)
}

/// What a process needs besides the memory that it asks for: program, stacks, kernel tables, bytes.
const OVERHEAD: usize = 20 * 1024 * 1024;
/// Part of the rest that may be asked for, percent: what the allocator cannot give back at once is not counted.
const USABLE: usize = 50;
/// Least budget, bytes.
const BUDGET_MIN: usize = 16 * 1024 * 1024;
/// Budget where the memory of the process is not limited, bytes.
pub const BUDGET_UNLIMITED: usize = 1024 * 1024 * 1024;

/// Bytes that a process may have asked for whose memory is limited to `limit`, where it is.
pub fn budget(limit: Option<usize>) -> usize {
    limit.map_or(BUDGET_UNLIMITED, |limit| (limit.saturating_sub(OVERHEAD) / 100 * USABLE).max(BUDGET_MIN))
}

/// Why something was given up, refused or cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// A new exchange: the memory budget is used up.
    Memory,
    /// A new exchange of a connection with many under way, while memory is short.
    MemoryOfConnection,
    /// A new exchange whose request is not there yet, while memory is short.
    MemoryOfUpload,
    /// A new exchange whose request is not there yet, while the instance has few places left.
    PlacesOfUpload,
    /// A connection that waited: others need its place.
    Idle,
    /// A new connection: as many as the listener may have are busy.
    Connections,
    /// A new connection: its caller has as many as one may have.
    ConnectionsOfPeer,
    /// An exchange whose client hardly sends its request.
    SlowRequest,
    /// An exchange whose client hardly takes its answer.
    SlowAnswer,
    /// A connection whose head does not become whole.
    SlowHead,
}

impl Shed {
    /// Every reason, in order of declaration.
    pub const ALL: [Shed; 10] = [
        Shed::Memory,
        Shed::MemoryOfConnection,
        Shed::MemoryOfUpload,
        Shed::PlacesOfUpload,
        Shed::Idle,
        Shed::Connections,
        Shed::ConnectionsOfPeer,
        Shed::SlowRequest,
        Shed::SlowAnswer,
        Shed::SlowHead,
    ];

    /// Label for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Shed::Memory => "memory",
            Shed::MemoryOfConnection => "memory_of_connection",
            Shed::MemoryOfUpload => "memory_of_upload",
            Shed::PlacesOfUpload => "places_of_upload",
            Shed::Idle => "idle_connection",
            Shed::Connections => "connections",
            Shed::ConnectionsOfPeer => "connections_of_peer",
            Shed::SlowRequest => "slow_request",
            Shed::SlowAnswer => "slow_answer",
            Shed::SlowHead => "slow_head",
        }
    }
}

impl From<Awaited> for Shed {
    fn from(awaited: Awaited) -> Self {
        match awaited {
            Awaited::SizedRequest | Awaited::OpenRequest => Shed::SlowRequest,
            Awaited::Taking => Shed::SlowAnswer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn pressure_grows_with_what_is_used_and_there_is_none_without_budget() {
        for (used, pressure) in [
            (0, Pressure::None),
            (69, Pressure::None),
            (70, Pressure::Tight),
            (85, Pressure::Short),
            (99, Pressure::Short),
            (100, Pressure::Full),
            (124, Pressure::Full),
            (125, Pressure::Over),
            (usize::MAX, Pressure::Over),
        ] {
            assert_eq!(Pressure::of(used, 100), pressure, "{used}");
            assert_eq!(Pressure::of(used, 0), Pressure::None);
        }
    }

    #[test]
    fn nobody_is_waited_for_longer_when_there_is_less_room() {
        let all = [Pressure::None, Pressure::Tight, Pressure::Short, Pressure::Full, Pressure::Over];
        for awaited in [Awaited::SizedRequest, Awaited::OpenRequest, Awaited::Taking] {
            let waits = all.map(|pressure| patience(awaited, pressure).unwrap_or(Duration::MAX));
            assert!(waits.is_sorted_by(|longer, shorter| longer >= shorter), "{awaited:?}: {waits:?}");
        }
    }

    #[test]
    fn client_that_hardly_moves_is_given_up_and_one_that_moves_is_not() {
        let begin = Creep::begin(Awaited::SizedRequest, Duration::ZERO, 0);
        let given_up = |rate: u64, pressure| {
            let mut creep = begin;
            (1..=1_000).find(|second| creep.look(Duration::from_secs(*second), second * rate, pressure))
        };
        assert_eq!(given_up(RATE_MIN, Pressure::None), None);
        assert_eq!(given_up(RATE_MIN - 1, Pressure::None), Some(20));
        assert_eq!(given_up(0, Pressure::Full), Some(3));
    }

    #[test]
    fn pause_that_ends_in_time_counts_for_nothing() {
        let mut creep = Creep::begin(Awaited::Taking, Duration::ZERO, 0);
        assert!(!creep.look(Duration::from_secs(9), 0, Pressure::Tight));
        assert!(!creep.look(Duration::from_secs(10), 1_000_000, Pressure::Tight));
        assert!(!creep.look(Duration::from_secs(19), 1_000_000, Pressure::Tight));
        assert!(creep.look(Duration::from_secs(20), 1_000_000, Pressure::Tight));
    }

    #[test]
    fn requests_that_are_there_are_served_for_longer_than_those_that_are_still_to_come() {
        let cases = [
            (Pressure::Tight, 1_000, AtHand::Part, None),
            (Pressure::Short, 1, AtHand::Part, Some(Shed::MemoryOfUpload)),
            (Pressure::Short, EXCHANGES_SHORT, AtHand::Whole, None),
            (Pressure::Short, EXCHANGES_SHORT + 1, AtHand::Whole, Some(Shed::MemoryOfConnection)),
            (Pressure::Full, 1, AtHand::Whole, None),
            (Pressure::Full, 1, AtHand::Part, Some(Shed::Memory)),
            (Pressure::Over, 1, AtHand::Whole, Some(Shed::Memory)),
        ];
        for (memory, others, at_hand, refused) in cases {
            assert_eq!(refuses(memory, others, at_hand), refused, "{memory:?} {others} {at_hand:?}");
        }
    }

    #[test]
    fn last_places_of_an_instance_are_for_requests_that_are_there() {
        assert_eq!(refuses_place(Pressure::Tight, AtHand::Part), None);
        assert_eq!(refuses_place(Pressure::Short, AtHand::Part), Some(Shed::PlacesOfUpload));
        assert_eq!(refuses_place(Pressure::Full, AtHand::Whole), None);
        assert_eq!(Pressure::of_places(16, 16), Pressure::Full);
        // With all but none of a few taken, whoever comes waits in line.
        assert_eq!(Pressure::of_places(1, 1), Pressure::None);
    }

    #[test]
    fn budget_and_connections_follow_the_limits_of_the_process() {
        assert_eq!(budget(None), BUDGET_UNLIMITED);
        assert_eq!(budget(Some(96 * MIB)) / MIB, 37);
        assert_eq!(budget(Some(0)), BUDGET_MIN);
        assert_eq!((connections(256), connections(20_000), connections(0)), (80, 9_952, CONNECTIONS_MIN));
    }
}
