//! Keeps leases of limits: one task for each store that a model route or a rate limit names, on the control thread. A
//! store that does not answer is asked again for as long as it is named; workers go on with what they hold.

use std::{path::PathBuf, sync::Arc, time::Duration};

use mesh_core::{
    limits::{
        Place, Store,
        lease::{Beat, Call, CellAsk, Holder, Occasion},
        ledger::STORES_MAX,
        store::Reach,
    },
    model::model_route::{LimitStore, ModelRoute},
};
use tokio::{
    select,
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Limits, Thirst,
    redis::{Connection, Unreachable},
};
use crate::{cause::error_chain, shared::Shared};

/// Between looks at leases while some are in use …
const TICK: Duration = Duration::from_millis(100);
/// … and while none is.
const IDLE_TICK: Duration = Duration::from_millis(250);
/// Least time between looks that workers asked for.
const THIRST_PAUSE: Duration = Duration::from_millis(2);
/// Wait before a store is dialled again, at least and at most: less than a new store waits for those who knew the old one
/// (`lease::RETURN`).
const RETRY: (Duration, Duration) = (Duration::from_millis(150), Duration::from_millis(300));
/// A store that did not answer for so long is down.
const DOWN_AFTER: Duration = Duration::from_secs(1);
/// How often the snapshot is looked at for stores.
const STORES_INTERVAL: Duration = Duration::from_millis(100);
/// For giving back leases at the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// Owner of the tasks that keep leases.
#[derive(Debug)]
pub struct Follower {
    /// What they are for.
    pub limits: Arc<Limits>,
    /// Folder of secrets, for passwords of stores.
    pub secrets: PathBuf,
    /// Name of this instance; what makes it unique is added.
    pub name: String,
}

impl Follower {
    /// Follows the stores that the snapshot names until `stopped` closes, then gives back what is leased.
    pub async fn run(self, shared: Arc<Shared>, thirst: Thirst, stopped: watch::Receiver<()>) {
        let named = move || {
            let snapshot = shared.load();
            let of_models = snapshot.model_routes.iter().filter_map(|route| place(route));
            of_models.chain(snapshot.rates.places()).collect::<Vec<Place>>()
        };
        self.follow(named, thirst, stopped).await;
    }

    /// As [`Follower::run`], with stores from elsewhere.
    pub async fn follow(self, places: impl Fn() -> Vec<Place>, mut thirst: Thirst, mut stopped: watch::Receiver<()>) {
        let (wake, woken) = watch::channel(0u64);
        let mut tasks = JoinSet::new();
        let mut followed: Vec<(Place, watch::Sender<()>)> = Vec::new();
        let mut unwanted: Vec<Arc<Store>> = Vec::new();
        let mut is_full = false;
        loop {
            let wanted = places();
            followed.retain(|(place, _)| wanted.contains(place));
            unwanted = self.forget(&unwanted, &wanted);
            let mut lacks_room = false;
            for place in wanted {
                if followed.iter().any(|(known, _)| *known == place) {
                    continue;
                }
                let store = self.limits.ledger.store(&place);
                if !self.limits.ledger.stores().iter().any(|known| Arc::ptr_eq(known, &store)) {
                    lacks_room = true;
                    continue;
                }
                let (stop, stopped) = watch::channel(());
                let session = Session::new(&self, store, woken.clone());
                tasks.spawn(session.run(stopped));
                followed.push((place, stop));
            }
            if lacks_room && !is_full {
                tracing::warn!(stores = STORES_MAX, "too many stores of limits: limits of further ones refuse");
            }
            is_full = lacks_room;
            select! {
                () = sleep(STORES_INTERVAL) => {}
                note = thirst.0.recv() => match note {
                    Some(()) => wake.send_modify(|count| *count += 1),
                    None => break,
                },
                _ = stopped.changed() => break,
            }
            while tasks.try_join_next().is_some() {}
        }
        drop(followed);
        tasks.join_all().await;
    }

    /// Lets go of stores that no route names and none named at the look before: a worker may know of a new route
    /// earlier than this task does. Returns those that no route names now.
    fn forget(&self, before: &[Arc<Store>], wanted: &[Place]) -> Vec<Arc<Store>> {
        let ledger = &self.limits.ledger;
        let is_wanted = |store: &Arc<Store>| wanted.contains(&store.place);
        let was_unwanted = |store: &Arc<Store>| before.iter().any(|one| Arc::ptr_eq(one, store));
        ledger.retain_stores(|store| is_wanted(store) || !was_unwanted(store));
        ledger.stores().iter().filter(|store| !is_wanted(store)).cloned().collect()
    }
}

fn place(route: &ModelRoute) -> Option<Place> {
    match &route.tokens.store {
        LimitStore::Local => None,
        LimitStore::Redis { .. } => Some(Place::of_models(&route.tokens.store, route.tokens.on_store_down)),
    }
}

/// One store.
struct Session {
    limits: Arc<Limits>,
    store: Arc<Store>,
    holder: Holder,
    secrets: PathBuf,
    /// Name of this process for the store.
    proxy: String,
    calls: u64,
    woken: watch::Receiver<u64>,
    /// Last answer; before the first, the beginning.
    answered: Instant,
}

impl Session {
    fn new(follower: &Follower, store: Arc<Store>, woken: watch::Receiver<u64>) -> Session {
        Session {
            limits: Arc::clone(&follower.limits),
            holder: Holder::new(Arc::clone(&store)),
            store,
            secrets: follower.secrets.clone(),
            proxy: format!("{}-{:016x}", follower.name, rand::random::<u64>()),
            calls: 0,
            woken,
            answered: Instant::now(),
        }
    }

    async fn run(mut self, mut stopped: watch::Receiver<()>) {
        loop {
            let lasting = async {
                let mut connection = Connection::open(&self.store.place, &self.secrets).await?;
                self.keep(&mut connection).await
            };
            let error = select! {
                ended = lasting => match ended {
                    Ok(never) => match never {},
                    Err(error) => error,
                },
                _ = stopped.changed() => break,
            };
            self.note(&error);
            let wait = RETRY.0 + (RETRY.1 - RETRY.0).mul_f64(rand::random::<f64>());
            select! {
                () = sleep(wait) => {}
                _ = stopped.changed() => break,
            }
        }
        if tokio::time::timeout(FAREWELL, self.leave()).await.is_err() {
            tracing::debug!(proxy = self.proxy, "leases were not given back; they end with their windows");
        }
    }

    /// Looks at leases again and again, until a call fails.
    async fn keep(&mut self, connection: &mut Connection) -> Result<std::convert::Infallible, Unreachable> {
        loop {
            let looked = Instant::now();
            let in_use = self.look(connection, Occasion::Tick).await?;
            let next = looked + if in_use { TICK } else { IDLE_TICK };
            loop {
                select! {
                    () = sleep_until(next) => break,
                    changed = self.woken.changed() => {
                        if changed.is_err() {
                            // The process ends; whoever stops this task does so next.
                            sleep_until(next).await;
                            break;
                        }
                    }
                }
                self.look(connection, Occasion::Thirst).await?;
                sleep(THIRST_PAUSE).await;
            }
        }
    }

    /// Says what is to be said now. Whether there was anything.
    async fn look(&mut self, connection: &mut Connection, occasion: Occasion) -> Result<bool, Unreachable> {
        let mut calls = self.holder.asks(&self.limits.ledger, occasion, self.limits.now());
        let in_use = !calls.is_empty();
        let last = match occasion {
            Occasion::Tick => Some(calls.pop().unwrap_or_default()),
            Occasion::Thirst => None,
        };
        for cells in calls {
            self.call(connection, Beat::None, cells).await?;
        }
        if let Some(cells) = last {
            self.call(connection, self.holder.beat().0, cells).await?;
        }
        Ok(in_use)
    }

    async fn call(&mut self, connection: &mut Connection, beat: Beat, cells: Vec<CellAsk>) -> Result<(), Unreachable> {
        self.calls += 1;
        let shares = self.holder.beat().1;
        let (proxy, run) = (self.proxy.clone(), connection.run().to_owned());
        let call = Call { proxy, number: self.calls, run, shares, beat, cells };
        let answer = connection.call(&call).await?;
        self.holder.hear(&call.cells, &answer, self.limits.now());
        self.answered = Instant::now();
        if self.store.set_reach(Reach::Up) == Reach::Down {
            let (sharing, known) = (&*self.store.place.sharing, self.store.known());
            tracing::info!(sharing, known, "the store of limits answers again");
        }
        Ok(())
    }

    fn note(&self, error: &Unreachable) {
        if self.answered.elapsed() < DOWN_AFTER {
            return;
        }
        if self.store.set_reach(Reach::Down) != Reach::Down {
            let (error, known, sharing) = (error_chain(error), self.store.known(), &*self.store.place.sharing);
            tracing::warn!(error, sharing, known, "the store of limits is down: limits are shared as configured");
        }
    }

    /// Gives back what is leased.
    async fn leave(&mut self) {
        self.store.set_reach(Reach::Starting);
        let Ok(mut connection) = Connection::open(&self.store.place, &self.secrets).await else { return };
        let mut calls = self.holder.farewell(self.limits.now());
        let last = calls.pop().unwrap_or_default();
        for cells in calls {
            if self.call(&mut connection, Beat::None, cells).await.is_err() {
                return;
            }
        }
        // Failing, the lease ends with its window.
        let _ = self.call(&mut connection, Beat::Leave, last).await;
    }
}
