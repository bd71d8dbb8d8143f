//! How an amount is shared out among proxies where the store has not spoken yet: of a window that just began, or of a key
//! that is new to a proxy.
//!
//! A proxy that had a request lately is a sharer; the others are idle, most of them for ever. A quarter of each amount is
//! for all proxies alike, so that an idle one can begin; the rest is for sharers. While nobody is a sharer, all are
//! alike. Sums never exceed the amount, whoever is told first of a change: who gets more waits until those who get less
//! have said that they know.

#[cfg(test)]
mod tests;

/// One of so many parts of an amount is for all alike.
const FOR_ALL: u64 = 4;

/// What a proxy is among those that know a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// It had no request lately.
    #[default]
    Idle,
    /// It had one, and is not told yet that everybody counts it.
    Asking,
    /// It has a sharer's share.
    Sharing,
}

impl Part {
    /// In the order of their numbers.
    pub const ALL: [Part; 3] = [Part::Idle, Part::Asking, Part::Sharing];
}

/// Among whom amounts are shared, as a proxy was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// Proxies that know the store; 0 = this one has no share yet.
    pub proxies: u64,
    /// Of them, those that had requests lately.
    pub sharers: u64,
    /// What this one is.
    pub part: Part,
}

impl Shares {
    /// What the proxy may use of a window in which the store was not heard.
    pub fn of_window(&self, amount: u64) -> u64 {
        let Shares { proxies, sharers, part } = *self;
        if proxies == 0 {
            return 0;
        }
        if proxies == 1 || sharers == 0 {
            return amount / proxies;
        }
        match part {
            Part::Idle | Part::Asking => alike(amount, proxies),
            Part::Sharing if sharers >= proxies => amount / proxies,
            Part::Sharing => alike(amount, proxies) + for_sharers(amount) / sharers,
        }
    }

    /// What the proxy may use of a key of which it leased nothing, in a window in which the store was heard. Less than
    /// the share of a window: who asks more than others must find something to lease.
    pub fn of_key(&self, amount: u64) -> u64 {
        let Shares { proxies, sharers, part } = *self;
        if proxies == 0 {
            return 0;
        }
        match part {
            Part::Idle | Part::Asking => idle_start(amount, proxies, sharers),
            Part::Sharing => sharer_start(amount, proxies, sharers),
        }
    }
}

fn alike(amount: u64, proxies: u64) -> u64 {
    amount / (FOR_ALL * proxies)
}

fn for_sharers(amount: u64) -> u64 {
    amount - amount / FOR_ALL
}

/// What is kept free of a key for a proxy that is no sharer and leased nothing.
pub(super) fn idle_start(amount: u64, proxies: u64, sharers: u64) -> u64 {
    match (proxies, sharers) {
        (0 | 1, _) => amount,
        (_, 0) => amount / (2 * proxies),
        (_, _) => alike(amount, proxies),
    }
}

/// What is kept free of a key for a sharer that leased nothing.
pub(super) fn sharer_start(amount: u64, proxies: u64, sharers: u64) -> u64 {
    match (proxies, sharers) {
        (0 | 1, _) => amount,
        // Nobody else is likely to ask.
        (_, 0 | 1) => alike(amount, proxies) + for_sharers(amount),
        (_, _) => alike(amount, proxies) + for_sharers(amount) / (2 * sharers),
    }
}
