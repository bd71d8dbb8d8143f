//! The store's side of leases. Redis runs the same as a script (`mesh-proxy`, `limits/lease.lua`); whoever changes one
//! changes the other.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Answer, Beat, CELLS_MAX, Call, CellAnswer, CellAsk, CellWindow, GONE, NEWS_MAX, News, PAUSE, REMEMBERED, RETURN,
    SILENCE,
};
use crate::limits::shares::{Part, Shares, idle_start, sharer_start};

#[derive(Clone, Debug)]
struct Proxy {
    /// Everything up to here was told to it, and worked in.
    told: u64,
    /// When it joined.
    joined: u64,
    /// Since when it asks for a sharer's share, or has one; `None` = it is idle.
    sharer: Option<u64>,
    /// Of its last call.
    number: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Lease {
    held: u64,
    spent: u64,
}

#[derive(Clone, Debug, Default)]
struct Cell {
    leases: BTreeMap<String, Lease>,
    tight: Option<u64>,
}

/// The state of a store.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    run: Option<String>,
    /// When it began, or may have lost what it knew.
    lost: u64,
    /// Most proxies that somebody knew then.
    remembered: u64,
    /// Since when calls come again.
    resumed: u64,
    /// Last call.
    called: u64,
    /// Most sharers that somebody knew then.
    remembered_sharers: u64,
    /// When the last proxy joined, became a sharer, or was one no more.
    changed: u64,
    /// Proxies that each one knows of at least.
    base: u64,
    /// Sharers that each one knows of at least.
    base_sharers: u64,
    /// Proxies that are told of: not fewer before everybody said again what it keeps.
    shown: u64,
    /// Sharers that are told of.
    shown_sharers: u64,
    proxies: BTreeMap<String, Proxy>,
    cells: BTreeMap<CellWindow, Cell>,
    tight: BTreeSet<(u64, CellWindow)>,
    loose: BTreeSet<(u64, CellWindow)>,
}

/// What holds for all cells of a call.
struct Now {
    time: u64,
    /// Proxies.
    count: u64,
    /// Of them, sharers, and those who ask to be.
    sharers: u64,
    /// Everybody has heard everything up to here.
    heard_by_all: u64,
    /// Those who knew the store before may still be silent.
    lost_lately: bool,
    /// Who is gone is known.
    settled: bool,
}

impl Pool {
    /// Answers a call at `now`, microseconds; `None` = it comes late.
    pub fn call(&mut self, call: &Call, now: u64) -> Option<Answer> {
        if self.proxies.get(&call.proxy).is_some_and(|proxy| call.number <= proxy.number) {
            return None;
        }
        let time = now.max(self.called + 1);
        self.note_run(call, time);
        self.note_proxy(call, time);
        self.note_beat(call, time);
        let now = self.now(time);
        let cells = call.cells.iter().take(CELLS_MAX).map(|ask| self.cell(call, ask, &now)).collect();
        let news = match call.beat {
            Beat::None => None,
            Beat::Heard(told) => Some(self.news(call, told, &now)),
            Beat::Leave => {
                self.proxies.remove(&call.proxy);
                None
            }
        };
        Some(Answer { time, anew: self.lost.max(self.changed), cells, news })
    }

    /// Whether this is the store that it was.
    fn note_run(&mut self, call: &Call, time: u64) {
        if self.run.as_ref() != Some(&call.run) {
            self.lost = time;
            (self.remembered, self.remembered_sharers) = (0, 0);
            self.resumed = time;
            self.run = Some(call.run.clone());
        }
        if time - self.called > SILENCE {
            self.resumed = time;
        }
        self.called = time;
        self.remembered = self.remembered.max(call.shares.proxies);
        self.remembered_sharers = self.remembered_sharers.max(call.shares.sharers);
    }

    fn is_remembering(&self, time: u64) -> bool {
        time - self.lost < REMEMBERED
    }

    fn note_proxy(&mut self, call: &Call, time: u64) {
        let sharer = (call.shares.part != Part::Idle).then_some(time);
        if let Some(proxy) = self.proxies.get_mut(&call.proxy) {
            proxy.number = call.number;
            if proxy.sharer.is_none() && sharer.is_some() {
                self.changed = time;
            }
            proxy.sharer = sharer.and(proxy.sharer.or(sharer));
            return;
        }
        let mut told = time;
        if call.shares.proxies > 0 {
            if !self.is_remembering(time) {
                self.lost = time;
                (self.remembered, self.remembered_sharers) = (call.shares.proxies, call.shares.sharers);
            }
            told = self.lost - 1;
        }
        self.changed = time;
        self.proxies.insert(call.proxy.clone(), Proxy { told, joined: time, sharer, number: call.number });
    }

    fn note_beat(&mut self, call: &Call, time: u64) {
        let Beat::Heard(told) = call.beat else { return };
        if let Some(proxy) = self.proxies.get_mut(&call.proxy) {
            proxy.told = proxy.told.max(told);
        }
        if time - self.resumed > PAUSE {
            self.proxies.retain(|name, proxy| *name == call.proxy || proxy.told + GONE >= time);
        }
        // Of windows that are over nobody needs to hear.
        self.tight.retain(|(_, at)| !at.is_long_over(time));
    }

    fn now(&mut self, time: u64) -> Now {
        let (remembered, remembered_sharers) =
            if self.is_remembering(time) { (self.remembered, self.remembered_sharers) } else { (0, 0) };
        let count = remembered.max(self.proxies.len() as u64);
        let sharers = self.proxies.values().filter(|proxy| proxy.sharer.is_some()).count();
        let sharers = remembered_sharers.max(sharers as u64);
        let heard_by_all = self.proxies.values().map(|proxy| proxy.told).min().unwrap_or(0);
        let all_back = self.proxies.len() as u64 >= self.remembered && heard_by_all >= self.lost;
        let lost_lately = time - self.lost < RETURN || self.is_remembering(time) && !all_back;
        if count < self.base || sharers < self.base_sharers {
            // Shares will grow, and leases were given that leave no room for that.
            self.changed = time;
        }
        if self.base == 0 || (heard_by_all >= self.changed && !lost_lately) {
            (self.base, self.base_sharers) = (count, sharers);
            (self.shown, self.shown_sharers) = (count, sharers);
        }
        (self.base, self.base_sharers) = (self.base.min(count), self.base_sharers.min(sharers));
        (self.shown, self.shown_sharers) = (self.shown.max(count), self.shown_sharers.max(sharers));
        Now { time, count, sharers, heard_by_all, lost_lately, settled: time - self.resumed > PAUSE && !lost_lately }
    }

    fn cell(&mut self, call: &Call, ask: &CellAsk, now: &Now) -> CellAnswer {
        let mut cell = self.cells.remove(&ask.at).unwrap_or_default();
        cell.leases.remove(&call.proxy);
        let mut free = self.free(&cell, &call.proxy, ask, now);
        if ask.more > free && now.settled {
            self.reclaim(&mut cell, ask);
            free = self.free(&cell, &call.proxy, ask, now);
        }
        let seen = now.heard_by_all >= ask.at.start();
        let most = if now.lost_lately && ask.at.start() < self.lost {
            0
        } else if now.lost_lately || !seen {
            call.shares.of_window(ask.amount).saturating_sub(ask.keep)
        } else {
            free
        };
        let unspent = ask.keep.saturating_sub(ask.spent);
        let fair = match cell.tight {
            // Some is left for the next one that begins to ask.
            None => ((free + unspent) / (now.sharers + 1).min(now.count)).saturating_sub(unspent),
            Some(_) => 0,
        };
        let extra = ask.more.max(fair).min(free).min(most);
        let held = ask.keep + extra;
        let wanted = ask.more > extra && seen && !now.lost_lately;
        let all = self.committed(&cell, &call.proxy, ask, now).saturating_add(held);
        if cell.tight.is_none() && (wanted || all > ask.amount) {
            cell.tight = Some(now.time);
            self.loose.retain(|(_, at)| *at != ask.at);
            self.tight.insert((now.time, ask.at));
        }
        cell.leases.insert(call.proxy.clone(), Lease { held, spent: ask.spent });
        let sum: u64 = cell.leases.values().map(|lease| lease.held).sum();
        if ask.at.length == 0 && cell.tight.is_some() && 2 * sum <= ask.amount && all <= ask.amount {
            cell.tight = None;
            self.tight.retain(|(_, at)| *at != ask.at);
            self.loose.insert((now.time, ask.at));
        }
        self.cells.insert(ask.at, cell);
        CellAnswer { held, left: ask.amount.saturating_sub(sum) }
    }

    /// What the proxy may get beyond what it keeps.
    fn free(&self, cell: &Cell, proxy: &str, ask: &CellAsk, now: &Now) -> u64 {
        let others: u64 = cell.leases.values().map(|lease| lease.held).sum();
        let (sharers, idle) = self.without_lease(cell, proxy, now);
        let kept_free = match cell.tight {
            None => self.kept_free(ask.amount, sharers, idle),
            Some(tight) => {
                let untold = self.proxies.iter().filter(|(name, held)| *name != proxy && held.told < tight).count();
                let sharers = sharers.min(untold as u64);
                self.kept_free(ask.amount, sharers, idle.min(untold as u64 - sharers))
            }
        };
        ask.amount.saturating_sub(others).saturating_sub(kept_free).saturating_sub(ask.keep)
    }

    /// Other proxies that may use a share without a lease: sharers, and idle ones. `cell` is without the lease of the
    /// proxy that asks.
    fn without_lease(&self, cell: &Cell, proxy: &str, now: &Now) -> (u64, u64) {
        let is_sharer = |name: &str| self.proxies.get(name).is_some_and(|known| known.sharer.is_some());
        let with = cell.leases.keys().filter(|name| self.proxies.contains_key(*name)).count();
        let sharers_with = cell.leases.keys().filter(|name| is_sharer(name)).count() as u64;
        let without = now.count.saturating_sub(1).saturating_sub(with as u64);
        let sharers = now.sharers.saturating_sub(u64::from(is_sharer(proxy))).saturating_sub(sharers_with).min(without);
        (sharers, without - sharers)
    }

    /// What is kept free for so many proxies that leased nothing.
    fn kept_free(&self, amount: u64, sharers: u64, idle: u64) -> u64 {
        let for_sharers = sharers.saturating_mul(sharer_start(amount, self.base, self.base_sharers));
        for_sharers.saturating_add(idle.saturating_mul(idle_start(amount, self.base, self.base_sharers)))
    }

    /// What the others hold or may use of a cell that is not tight. Who joined while it was in use, or began to use
    /// limits, makes it more.
    fn committed(&self, cell: &Cell, proxy: &str, ask: &CellAsk, now: &Now) -> u64 {
        let others: u64 = cell.leases.values().map(|lease| lease.held).sum();
        let (sharers, idle) = self.without_lease(cell, proxy, now);
        others.saturating_add(self.kept_free(ask.amount, sharers, idle))
    }

    /// Takes from proxies that are gone what they did not use.
    fn reclaim(&self, cell: &mut Cell, ask: &CellAsk) {
        for (_, lease) in cell.leases.iter_mut().filter(|(name, _)| !self.proxies.contains_key(*name)) {
            lease.held = if ask.at.length == 0 { 0 } else { lease.held.min(lease.spent) };
        }
    }

    fn news(&self, call: &Call, told: u64, now: &Now) -> News {
        let joined = self.proxies.get(&call.proxy).map_or(now.time, |proxy| proxy.joined);
        let sharer = self.proxies.get(&call.proxy).and_then(|proxy| proxy.sharer);
        let others = self.proxies.iter().filter(|(name, _)| **name != call.proxy);
        let others_told = others.map(|(_, other)| other.told).min();
        let is_known = |since: u64| !now.lost_lately && others_told.is_none_or(|told| told >= since);
        let mut until = now.time;
        let mut told_of = |list: &BTreeSet<(u64, CellWindow)>| {
            let news: Vec<_> = list.iter().filter(|(when, _)| *when > told).take(NEWS_MAX).collect();
            if let (NEWS_MAX, Some((last, _))) = (news.len(), news.last()) {
                until = until.min(last - 1);
            }
            news.into_iter().map(|(_, at)| *at).collect::<Vec<_>>()
        };
        let (tight, loose) = (told_of(&self.tight), told_of(&self.loose));
        // What is tight must be told before a share grows.
        let (least, least_sharers) = if until < now.time { (call.shares.proxies, call.shares.sharers) } else { (0, 0) };
        // Who shares already goes on, by the numbers that hold now.
        let has_share = call.shares.proxies > 0 || is_known(joined);
        let proxies = if has_share { self.shown.max(least) } else { 0 };
        let part = match (call.shares.part, sharer) {
            (Part::Asking, Some(since)) if proxies > 0 && is_known(since) => Part::Sharing,
            (part, _) => part,
        };
        News { shares: Shares { proxies, sharers: self.shown_sharers.max(least_sharers), part }, until, tight, loose }
    }

    /// What all proxies hold of a cell.
    pub fn held(&self, at: &CellWindow) -> u64 {
        self.cells.get(at).map_or(0, |cell| cell.leases.values().map(|lease| lease.held).sum())
    }

    /// Forgets everything, as a store without disk does when it ends.
    pub fn lose(&mut self) {
        *self = Pool::default();
    }
}
