//! Leases with a real Redis: the script does what core decides, and three proxies keep to one limit whatever becomes of
//! the store. Compiled with the feature `redis-server`; `tests/run models` installs the server.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, TcpListener},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use mesh_core::{
    limits::{
        Ask, Key, Place, Quota, Why,
        lease::{Beat, Call, CellAsk, CellWindow, Pool},
        shares::{Part, Shares},
        store::Reach,
    },
    model::model_route::{Counted, Limit, LimitMode, LimitStore, OnStoreDown, Usage},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{Follower, Limits, redis::carry};

const PATIENCE: Duration = Duration::from_secs(20);

struct Redis {
    server: Child,
    port: u16,
}

impl Redis {
    async fn start() -> Redis {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let redis = Redis { server: Self::spawn(port), port };
        redis.answers().await;
        redis
    }

    /// Without disk: what it knows ends with it.
    fn spawn(port: u16) -> Child {
        let mut server = Command::new("redis-server");
        server.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"]).arg(port.to_string());
        server.stdout(Stdio::null()).spawn().expect("redis-server is installed (tests/run models does it)")
    }

    fn client(&self) -> redis::Client {
        redis::Client::open(("127.0.0.1", self.port)).expect("an address")
    }

    async fn answers(&self) {
        let mut tries = interval(Duration::from_millis(20));
        let answered = async {
            while self.client().get_multiplexed_async_connection().await.is_err() {
                tries.tick().await;
            }
        };
        timeout(PATIENCE, answered).await.expect("the server answers");
    }

    fn kill(&mut self) {
        self.server.kill().expect("it runs");
        self.server.wait().expect("it is ours");
    }

    async fn come_back(&mut self) {
        self.server = Self::spawn(self.port);
        self.answers().await;
    }

    fn place(&self) -> LimitStore {
        LimitStore::Redis { url: format!("redis://127.0.0.1:{}", self.port), password: None }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// What a proxy has of limits.
struct Proxy {
    limits: Arc<Limits>,
    place: LimitStore,
    stop: watch::Sender<()>,
    follower: JoinHandle<()>,
}

impl Proxy {
    async fn start(place: LimitStore) -> Proxy {
        let (limits, thirst) = Limits::new();
        let (stop, stopped) = watch::channel(());
        let follower = Follower { limits: Arc::clone(&limits), secrets: Default::default(), name: "p".to_owned() };
        let places = vec![Place::of_models(&place, OnStoreDown::Open)];
        let follower = tokio::spawn(follower.follow(move || places.clone(), thirst, stopped));
        Proxy { limits, place, stop, follower }
    }

    fn quota<'a>(&'a self, limits: &'a [Limit]) -> Quota<'a> {
        let (store, on_store_down) = (&self.place, OnStoreDown::Open);
        Quota { route: "chat.demo", target: None, limits, store, on_store_down }
    }

    fn ask(&self, limits: &[Limit]) -> Result<super::Reserved, Why> {
        let ask = Ask { input: 10, output: 10, rates: None };
        let key = Key::of_target("chat.demo", "all");
        self.limits.reserve(&self.quota(limits), &key, &ask).map_err(|refused| refused.why)
    }

    async fn knows(&self, proxies: u64) {
        let store = self.limits.ledger.store(&Place::of_models(&self.place, OnStoreDown::Open));
        let mut looks = interval(Duration::from_millis(10));
        let known = async {
            while store.known() != proxies || store.reach() != Reach::Up {
                looks.tick().await;
            }
        };
        timeout(PATIENCE, known).await.expect("the proxies hear of each other");
    }

    async fn end(self) {
        drop(self.stop);
        timeout(PATIENCE, self.follower).await.expect("it ends").expect("and does not panic");
    }
}

async fn three(redis: &Redis) -> Vec<Proxy> {
    let mut proxies = Vec::new();
    for _ in 0..3 {
        proxies.push(Proxy::start(redis.place()).await);
    }
    for proxy in &proxies {
        proxy.knows(3).await;
    }
    proxies
}

fn limit(of: Counted, amount: u64, window: u64) -> [Limit; 1] {
    [Limit { of, amount, window: Duration::from_secs(window), mode: LimitMode::Enforce }]
}

/// All ask more often than the limit allows, for so long; what was let through, by window of the clock.
async fn hammer(proxies: &[Proxy], limits: &[Limit], lasts: Duration, used: &mut BTreeMap<u128, u64>) {
    let mut beats = interval(Duration::from_millis(2));
    beats.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let end = Instant::now() + lasts;
    while Instant::now() < end {
        beats.tick().await;
        for proxy in proxies {
            let window = proxy.limits.now().as_millis() / limits[0].window.as_millis();
            let asks = (0..3).filter_map(|_| proxy.ask(limits).ok());
            for reserved in asks {
                reserved.settle(&Usage { input: 10, output: 10, cached: 0 }, None);
                *used.entry(window).or_default() += 1;
            }
        }
    }
}

#[tokio::test]
async fn three_proxies_keep_to_one_limit_while_redis_is_killed_and_comes_back() {
    let mut redis = Redis::start().await;
    let proxies = three(&redis).await;
    let limits = limit(Counted::Requests, 2_000, 2);
    let (mut before, mut without, mut after) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    hammer(&proxies, &limits, Duration::from_secs(7), &mut before).await;
    redis.kill();
    hammer(&proxies, &limits, Duration::from_secs(7), &mut without).await;
    redis.come_back().await;
    hammer(&proxies, &limits, Duration::from_secs(9), &mut after).await;
    let mut used = before.clone();
    for (window, count) in without.iter().chain(&after) {
        *used.entry(*window).or_default() += count;
    }
    println!("of 2000 in 2 s: {:?}", used.values().collect::<Vec<_>>());
    assert!(used.values().all(|used| *used <= 2_040), "more than 2 % over: {used:?}");
    // Whole windows of each phase, but the ones in which something happened.
    for (phase, least) in [(&before, 1_900), (&without, 1_900), (&after, 1_900)] {
        let whole: Vec<u64> = phase.values().copied().skip(1).collect();
        let steady = &whole[whole.len().saturating_sub(3)..whole.len() - 1];
        assert!(steady.iter().all(|used| *used >= least), "too little is used: {used:?}");
    }
    for proxy in proxies {
        proxy.end().await;
    }
}

#[tokio::test]
async fn one_proxy_uses_it_all_and_others_know() {
    let redis = Redis::start().await;
    let proxies = three(&redis).await;
    let limits = limit(Counted::Total, 20_000, 86_400);
    let mut taken = 0;
    let mut tries = interval(Duration::from_millis(5));
    let all = async {
        while taken < 1_000 {
            tries.tick().await;
            taken += (0..20).filter_map(|_| proxies[0].ask(&limits).ok()).count();
        }
    };
    timeout(PATIENCE, all).await.expect("20,000 tokens for one");
    let refused = [proxies[0].ask(&limits).err(), proxies[1].ask(&limits).err(), proxies[2].ask(&limits).err()];
    assert_eq!(refused, [Some(Why::Used); 3]);
}

#[tokio::test]
async fn ten_thousand_streams_cut_off_leave_no_seat_taken() {
    let redis = Redis::start().await;
    let proxies = three(&redis).await;
    let limits = limit(Counted::Concurrent, 30, 0);
    let (mut cut, mut most) = (0, 0);
    let mut rounds = interval(Duration::from_millis(1));
    let streams = async {
        while cut < 10_000 {
            rounds.tick().await;
            let open: Vec<_> =
                proxies.iter().flat_map(|proxy| (0..30).filter_map(|_| proxy.ask(&limits).ok())).collect();
            most = most.max(open.len());
            cut += open.len();
        }
    };
    timeout(3 * PATIENCE, streams).await.expect("streams get seats");
    assert!(most <= 30, "{most} at once");
    let mut tries = interval(Duration::from_millis(20));
    let mut seats = Vec::new();
    let whole = async {
        while seats.len() < 30 {
            tries.tick().await;
            seats.extend(proxies[2].ask(&limits).ok());
        }
    };
    timeout(PATIENCE, whole).await.expect("all seats are free for whoever wants them");
    assert!(proxies.iter().all(|proxy| proxy.ask(&limits).is_err()));
}

#[tokio::test]
async fn proxies_that_end_give_back_what_they_did_not_use() {
    let redis = Redis::start().await;
    let mut proxies = three(&redis).await;
    let limits = limit(Counted::Requests, 900, 86_400);
    let last = proxies.pop().expect("three");
    let mut tries = interval(Duration::from_millis(5));
    timeout(PATIENCE, async {
        while last.ask(&limits).is_err() {
            tries.tick().await;
        }
    })
    .await
    .expect("one request");
    last.end().await;
    let mut taken = 1;
    let rest = async {
        while taken < 900 {
            tries.tick().await;
            taken += (0..10).filter_map(|_| proxies[0].ask(&limits).ok()).count();
        }
    };
    timeout(PATIENCE, rest).await.expect("what it held serves others");
}

/// A proxy of which nothing is real but what it says.
#[derive(Default)]
struct Voice {
    number: u64,
    shares: Shares,
    told: u64,
    held: BTreeMap<CellWindow, u64>,
}

fn any_call(random: &mut StdRng, name: &str, voice: &mut Voice, run: u64, time: u64) -> Call {
    let late = voice.number > 0 && random.random_ratio(1, 20);
    voice.number += u64::from(!late);
    voice.shares.part = match (voice.shares.part, random.random_range(0..30)) {
        (_, 0) => Part::Idle,
        (Part::Idle, 1..8) => Part::Asking,
        (part, _) => part,
    };
    let cells = (0..random.random_range(0..4))
        .map(|_| {
            let (cell, length) = [(1, 1_000), (2, 60_000), (3, 86_400_000), (4, 0)][random.random_range(0..4)];
            let window = (time / 1_000).checked_div(length).unwrap_or(0);
            let at = CellWindow { cell, length, window };
            let amount = [100, 1_000, 7, 12][cell as usize - 1];
            let held = voice.held.get(&at).copied().unwrap_or(0);
            let keep = if random.random_ratio(1, 3) { held / 2 } else { held };
            let spent = random.random_range(0..=keep);
            CellAsk { at, amount, keep, spent, more: random.random_range(0..amount / 2) }
        })
        .collect();
    let beat = match random.random_range(0..30) {
        0 => Beat::Leave,
        1..10 => Beat::None,
        _ => Beat::Heard(voice.told),
    };
    Call { proxy: name.to_owned(), number: voice.number, run: run.to_string(), shares: voice.shares, beat, cells }
}

#[tokio::test]
async fn script_answers_as_core_says() {
    let redis = Redis::start().await;
    let mut calls = redis.client().get_multiplexed_async_connection().await.expect("it answers");
    for seed in 0..40 {
        let mut random = StdRng::seed_from_u64(seed);
        let (mut pool, mut time, mut run) = (Pool::default(), 1_800_000_000_000_000u64, 1u64);
        let mut voices: BTreeMap<String, Voice> = (0..4).map(|n| (format!("p{n}"), Voice::default())).collect();
        let prefix = format!("{{{seed}}}");
        for step in 0..400 {
            time += match random.random_range(0..40) {
                0 => random.random_range(0..20_000_000),
                _ => random.random_range(0..150_000),
            };
            match random.random_range(0..150) {
                0 => run += 1,
                1 => {
                    pool.lose();
                    redis::cmd("FLUSHALL").query_async::<()>(&mut calls).await.expect("flushed");
                }
                _ => {}
            }
            let name = format!("p{}", random.random_range(0..4));
            let voice = voices.get_mut(&name).expect("one of four");
            let call = any_call(&mut random, &name, voice, run, time);
            let mut expected = pool.call(&call, time);
            let mut answered = carry(&mut calls, &call, &prefix, Some(time)).await.ok();
            for answer in [&mut expected, &mut answered].into_iter().flatten() {
                if let Some(news) = &mut answer.news {
                    // Of windows that are over, one may say more than the other.
                    let over = |at: &CellWindow| at.length == 0 || at.start() + 2_000 * at.length > answer.time;
                    news.tight.retain(over);
                    news.tight.sort();
                    news.loose.sort();
                }
            }
            assert_eq!(answered, expected, "seed {seed}, step {step}: {call:?}");
            let Some(answer) = answered else { continue };
            voice.held.extend(call.cells.iter().zip(&answer.cells).map(|(ask, said)| (ask.at, said.held)));
            if let Some(news) = answer.news {
                (voice.shares, voice.told) = (news.shares, news.until);
            }
        }
    }
}
