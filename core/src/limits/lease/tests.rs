//! Three proxies and a store in simulated time: calls and answers are lost, late or both, the store ends, forgets,
//! pauses; whatever happens, no window is used beyond its amount.

mod steps;

use std::{collections::BTreeMap, time::Duration};

use super::*;
use crate::{
    limits::{Ask, Key, Ledger, Place, Quota, Reservation, Store, Why, shares::Part, store::Reach},
    model::model_route::{Counted, Limit, LimitMode, LimitStore, OnStoreDown, Usage},
};

/// Milliseconds between ticks, as the proxy has them.
const TICK: u64 = 100;
const DOWN_AFTER: u64 = 1_000;

fn place() -> LimitStore {
    LimitStore::Redis { url: "redis://r:6379".into(), password: None }
}

struct Proxy {
    ledger: Ledger,
    holder: Holder,
    store: std::sync::Arc<Store>,
    name: String,
    calls: u64,
    /// Its clock less the store's, milliseconds.
    skew: i64,
    next_tick: u64,
    answered: u64,
    reachable: bool,
    /// Calls that arrive after the proxy gave them up.
    late: Vec<Call>,
    /// With their keys.
    open: Vec<(usize, Reservation)>,
}

struct World {
    pool: Pool,
    run: u64,
    /// Milliseconds of the store's clock.
    time: u64,
    proxies: Vec<Proxy>,
    limits: Vec<Limit>,
    on_down: OnStoreDown,
    /// By key, limit and window.
    used: BTreeMap<(usize, usize, u64), u64>,
}

impl World {
    fn new(proxies: usize, limits: Vec<Limit>, on_down: OnStoreDown) -> World {
        let mut world = World {
            pool: Pool::default(),
            run: 1,
            time: 1_800_000_000_000,
            proxies: Vec::new(),
            limits,
            on_down,
            used: BTreeMap::new(),
        };
        (0..proxies).for_each(|number| world.join(number as i64 * 3_777 - 5_000));
        world
    }

    fn join(&mut self, skew: i64) {
        let ledger = Ledger::default();
        let store = ledger.store(&Place::of_models(&place(), self.on_down));
        let name = format!("p{}", self.proxies.len());
        let (next_tick, answered) = (self.time, self.time);
        let holder = Holder::new(store.clone());
        let (late, open) = (Vec::new(), Vec::new());
        self.proxies.push(Proxy {
            ledger,
            holder,
            store,
            name,
            calls: 0,
            skew,
            next_tick,
            answered,
            reachable: true,
            late,
            open,
        });
    }

    fn now(&self, proxy: usize) -> Duration {
        Duration::from_millis(self.time.saturating_add_signed(self.proxies[proxy].skew))
    }

    /// One call; false when it was not answered.
    fn call(&mut self, at: usize, beat: Beat, cells: Vec<CellAsk>) -> bool {
        let (now, time, run) = (self.now(at), self.time * 1_000, self.run.to_string());
        let proxy = &mut self.proxies[at];
        proxy.calls += 1;
        let shares = proxy.holder.beat().1;
        let call = Call { proxy: proxy.name.clone(), number: proxy.calls, run, shares, beat, cells };
        if !proxy.reachable {
            proxy.late.push(call);
            return false;
        }
        let Some(answer) = self.pool.call(&call, time) else { return false };
        proxy.holder.hear(&call.cells, &answer, now);
        proxy.store.set_reach(Reach::Up);
        proxy.answered = self.time;
        true
    }

    fn look(&mut self, at: usize, occasion: Occasion) {
        let now = self.now(at);
        let proxy = &mut self.proxies[at];
        let mut calls = proxy.holder.asks(&proxy.ledger, occasion, now);
        let last = match occasion {
            Occasion::Tick => calls.pop().unwrap_or_default(),
            Occasion::Thirst => Vec::new(),
        };
        let answered = calls.into_iter().all(|cells| self.call(at, Beat::None, cells));
        if occasion == Occasion::Tick && answered {
            let beat = self.proxies[at].holder.beat().0;
            self.call(at, beat, last);
        }
        let proxy = &mut self.proxies[at];
        if self.time - proxy.answered > DOWN_AFTER {
            proxy.store.set_reach(Reach::Down);
        }
    }

    /// Time passes; proxies tick, one after the other.
    fn pass(&mut self, millis: u64) {
        let end = self.time + millis;
        while let Some(at) = (0..self.proxies.len()).min_by_key(|at| self.proxies[*at].next_tick) {
            let next = self.proxies[at].next_tick;
            if next > end {
                break;
            }
            self.time = self.time.max(next);
            self.proxies[at].next_tick = next + TICK + at as u64;
            self.look(at, Occasion::Tick);
        }
        self.time = end;
    }

    /// One request; whether it was let through, or why not.
    fn request(&mut self, at: usize, tokens: u64) -> Result<(), Why> {
        self.request_of(0, at, tokens)
    }

    /// As [`World::request`], of another key.
    fn request_of(&mut self, key: usize, at: usize, tokens: u64) -> Result<(), Why> {
        let now = self.now(at);
        let place = place();
        let (limits, on_store_down) = (&self.limits, self.on_down);
        let quota = Quota { route: "r", target: Some("t"), limits, store: &place, on_store_down };
        let ask = Ask { input: tokens, output: 0, rates: None };
        let reserved = self.proxies[at].ledger.reserve(&quota, &Key::of_target("r", &key.to_string()), &ask, now);
        if self.proxies[at].ledger.take_thirst() {
            self.look(at, Occasion::Thirst);
        }
        let reservation = reserved.map_err(|refused| refused.why)?;
        for (nth, hold) in reservation.holds.iter().enumerate() {
            if hold.limit.of == Counted::Concurrent {
                continue;
            }
            let used = self.used.entry((key, nth, hold.window)).or_default();
            *used += hold.taken;
            assert!(*used <= hold.limit.amount, "{used} of {} in window {}", hold.limit.amount, hold.window);
        }
        let streams = self.limits.iter().any(|limit| limit.of == Counted::Concurrent);
        if streams {
            self.proxies[at].open.push((key, reservation));
            let of_key = |(of, _): &&(usize, Reservation)| *of == key;
            let open: usize = self.proxies.iter().map(|proxy| proxy.open.iter().filter(of_key).count()).sum();
            let most = self.limits.iter().find(|limit| limit.of == Counted::Concurrent).map_or(0, |limit| limit.amount);
            assert!(open as u64 <= most, "{open} streams of {most}");
        } else {
            reservation.settle(&Usage { input: tokens, output: 0, cached: 0 }, None, now);
        }
        Ok(())
    }

    fn set_reachable(&mut self, reachable: bool) {
        self.proxies.iter_mut().for_each(|proxy| proxy.reachable = reachable);
    }

    /// Calls that were given up arrive after all.
    fn arrive_late(&mut self, at: usize) {
        let time = self.time * 1_000;
        for call in std::mem::take(&mut self.proxies[at].late) {
            if call.run == self.run.to_string() {
                let _ = self.pool.call(&call, time);
            }
        }
    }

    fn taken(&mut self, at: usize, count: usize, tokens: u64) -> usize {
        self.taken_of(0, at, count, tokens)
    }

    fn taken_of(&mut self, key: usize, at: usize, count: usize, tokens: u64) -> usize {
        (0..count).filter(|_| self.request_of(key, at, tokens).is_ok()).count()
    }

    /// How many requests at once are let through before the store is heard of them.
    fn burst(&mut self, key: usize, at: usize) -> usize {
        self.set_reachable(false);
        let taken = self.taken_of(key, at, 1_000, 1);
        self.set_reachable(true);
        taken
    }

    /// These proxies have one request each, of a key of its own, and everybody hears of it.
    fn use_limits(&mut self, proxies: std::ops::Range<usize>) {
        for at in proxies {
            self.taken_of(1_000, at, 1, 1);
        }
        self.pass(1_000);
    }
}

fn limit(of: Counted, amount: u64, window: u64) -> Limit {
    Limit { of, amount, window: Duration::from_secs(window), mode: LimitMode::Enforce }
}

#[test]
fn one_proxy_alone_uses_the_whole_amount_while_others_are_idle() {
    let mut world = World::new(3, vec![limit(Counted::Requests, 100, 60)], OnStoreDown::Open);
    world.pass(2_000);
    let mut taken = 0;
    for _ in 0..30 {
        taken += world.taken(0, 10, 1);
        world.pass(100);
    }
    assert_eq!(taken, 100);
    let others: Vec<_> = (1..3).map(|at| world.request(at, 1)).collect();
    assert_eq!(others, [Err(Why::Used), Err(Why::Used)], "they know without having asked");
}

#[test]
fn demand_of_all_is_served_from_one_amount() {
    for amount in [10, 100, 1_000, 100_000] {
        let mut world = World::new(3, vec![limit(Counted::Requests, amount, 60)], OnStoreDown::Open);
        world.pass(1_000);
        let mut taken = 0;
        for _ in 0..60 {
            for at in 0..3 {
                taken += world.taken(at, (amount as usize / 50).max(1) * (at + 1), 1);
            }
            world.pass(100);
        }
        assert!(taken as u64 <= amount && taken as u64 * 100 >= amount * 98, "{taken} of {amount}");
    }
}

#[test]
fn windows_begun_while_the_store_is_down_are_shared_fairly() {
    let mut world = World::new(3, vec![limit(Counted::Requests, 90, 60)], OnStoreDown::Open);
    world.pass(5_000);
    world.set_reachable(false);
    world.pass(61_000);
    let taken: Vec<usize> = (0..3).map(|at| world.taken(at, 100, 1)).collect();
    assert_eq!(taken, [30, 30, 30]);
}

#[test]
fn what_was_left_when_the_store_went_down_is_shared() {
    let mut world = World::new(3, vec![limit(Counted::Requests, 900, 86_400)], OnStoreDown::Open);
    world.pass(1_000);
    for _ in 0..10 {
        for at in 0..3 {
            world.taken(at, 10, 1);
        }
        world.pass(200);
    }
    world.set_reachable(false);
    world.pass(30_000);
    let taken: Vec<usize> = (0..3).map(|at| world.taken(at, 900, 1)).collect();
    assert!(taken.iter().all(|taken| *taken >= 90), "{taken:?} of 600");
}

#[test]
fn closed_store_refuses_while_it_is_down_and_serves_again_after() {
    let mut world = World::new(3, vec![limit(Counted::Requests, 90, 60)], OnStoreDown::Closed);
    world.pass(5_000);
    assert_eq!(world.taken(0, 5, 1), 5);
    world.set_reachable(false);
    world.pass(2_000);
    assert_eq!(world.request(0, 1), Err(Why::StoreDown));
    world.set_reachable(true);
    world.pass(2_000);
    assert_eq!(world.taken(0, 5, 1), 5);
}

#[test]
fn store_that_forgot_everything_goes_on_within_the_amount() {
    let mut world = World::new(3, vec![limit(Counted::Requests, 900, 86_400)], OnStoreDown::Open);
    world.pass(1_000);
    let mut taken = 0;
    for round in 0..200 {
        for at in 0..3 {
            taken += world.taken(at, 2, 1);
        }
        match round {
            20 => world.set_reachable(false),
            40 => {
                world.pool.lose();
                world.run += 1;
                world.set_reachable(true);
            }
            _ => {}
        }
        world.pass(100);
    }
    assert_eq!(taken, 900);
}

#[test]
fn lease_of_a_proxy_that_vanished_is_used_by_others() {
    let mut world = World::new(3, vec![limit(Counted::Requests, 900, 86_400)], OnStoreDown::Open);
    world.pass(1_000);
    assert_eq!(world.taken(2, 30, 1), 30);
    world.pass(1_000);
    world.proxies.pop();
    world.pass(40_000);
    let mut taken = 0;
    for _ in 0..200 {
        taken += world.taken(0, 10, 1);
        world.pass(100);
    }
    assert_eq!(taken, 870);
}

#[test]
fn streams_are_leased_and_come_back() {
    let mut world = World::new(3, vec![limit(Counted::Concurrent, 12, 0)], OnStoreDown::Open);
    world.pass(2_000);
    for round in 0..300 {
        for at in 0..3 {
            world.taken(at, 1 + round % 5, 1);
            let leaving = world.proxies[at].open.len().div_ceil(2);
            world.proxies[at].open.drain(..leaving).for_each(|(_, stream)| stream.cancel());
        }
        world.pass(100);
    }
    world.proxies.iter_mut().for_each(|proxy| proxy.open.clear());
    world.pass(5_000);
    let mut open = 0;
    for _ in 0..50 {
        open += world.taken(1, 12, 1);
        world.pass(100);
    }
    assert_eq!(open, 12, "one proxy gets all seats in the end");
}

#[test]
fn proxies_that_never_call_take_no_share_of_a_window_without_store() {
    let mut world = World::new(50, vec![limit(Counted::Requests, 9_000, 60)], OnStoreDown::Open);
    world.pass(2_000);
    world.use_limits(0..3);
    world.set_reachable(false);
    world.pass(58_000);
    let taken: Vec<usize> = (0..3).map(|at| world.taken(at, 9_000, 1)).collect();
    assert_eq!(taken, [2_295; 3], "three quarters among three, and one fiftieth of the last quarter");
    let idle: usize = (3..50).map(|at| world.taken(at, 9_000, 1)).sum();
    assert!(idle > 0 && idle + 3 * 2_295 <= 9_000, "those who begin now have the rest: {idle}");
}

#[test]
fn sharer_begins_a_key_that_is_new_to_it_with_much_of_the_limit() {
    let mut world = World::new(50, vec![limit(Counted::Requests, 1_000, 60)], OnStoreDown::Open);
    world.pass(2_000);
    assert_eq!(world.burst(1, 0), 10, "while nobody calls, all are alike");
    world.pass(1_000);
    assert_eq!(world.burst(2, 0), 755, "the only one that calls");
    world.use_limits(0..4);
    let taken: Vec<usize> = (0..4).map(|at| world.burst(3, at)).collect();
    assert_eq!(taken, [98; 4], "several that call");
    assert_eq!(world.burst(3, 49), 5, "and one that does not");
}

#[test]
fn who_has_not_called_for_a_minute_shares_no_more() {
    let mut world = World::new(3, vec![limit(Counted::Requests, 900, 60)], OnStoreDown::Open);
    world.pass(2_000);
    world.use_limits(0..3);
    for _ in 0..130 {
        world.taken(0, 1, 1);
        world.pass(500);
    }
    let shares: Vec<_> = world.proxies.iter().map(|proxy| proxy.store.shares()).collect();
    let part = |at: usize| (shares[at].sharers, shares[at].part);
    assert_eq!([part(0), part(1), part(2)], [(1, Part::Sharing), (1, Part::Idle), (1, Part::Idle)]);
    world.set_reachable(false);
    world.pass(61_000);
    let taken: Vec<usize> = (0..3).map(|at| world.taken(at, 900, 1)).collect();
    assert_eq!(taken, [750, 75, 75]);
}

#[test]
fn share_of_a_key_in_use_grows_for_nobody_when_others_become_idle() {
    for streams in 1..=15 {
        let mut world = World::new(4, vec![limit(Counted::Concurrent, 15, 0)], OnStoreDown::Open);
        world.pass(2_000);
        world.use_limits(0..2);
        world.taken_of(1, 0, streams, 1);
        while world.proxies[1].store.shares().sharers != 1 {
            world.taken_of(2, 1, 1, 1);
            world.proxies[1].open.drain(..).for_each(|(_, stream)| stream.cancel());
            world.pass(100);
        }
        world.burst(1, 1);
    }
}
