//! Limits of one process: what tells callers apart, all or nothing, shadow mode, health checks, floods of keys; and of
//! several that share a store which is there, or is not.

use std::{collections::BTreeMap, sync::Arc};

use super::*;
use crate::{
    fields::Fields,
    identity::Identity,
    limits::{
        decisions::Decision,
        lease::{Call, Holder, Occasion, Pool},
        store::{Reach, Store},
        ways::HELD_MAX,
    },
    model::{
        lane::LaneName,
        model_route::LimitStore,
        policy::{HealthCheck, HttpProbe, OnRateStoreDown, Probe, RateKey, RateLimit, TrafficPolicy},
        route::{PathMatch, RouteMatch},
    },
    route::RequestParts,
    snapshot::Workload,
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const PORT: u16 = 8_080;

/// Some moment of the second half of an hour and of the first of a second.
const NOW: Duration = Duration::from_secs(500_000 * 3_600 + 2_000);

fn limit(name: &str, key: &[RateKey], requests: u64, per: Duration) -> RateLimit {
    RateLimit {
        name: name.to_owned(),
        matches: Vec::new(),
        key: key.to_vec(),
        requests,
        per,
        burst: requests,
        store: LimitStore::Local,
        on_store_down: OnRateStoreDown::Local,
        mode: LimitMode::Enforce,
    }
}

fn rules_of(policy: TrafficPolicy) -> Rules {
    let served = BTreeMap::from([(PORT, vec!["cart.shop".to_owned()])]);
    let workload = Workload { services: vec!["cart.shop".to_owned()], served, ..Workload::default() };
    Rules::new(&workload, &BTreeMap::from([("cart.shop".to_owned(), Arc::new(policy))]))
}

fn rules(limits: &[RateLimit]) -> Rules {
    rules_of(TrafficPolicy { rate_limits: limits.to_vec(), ..TrafficPolicy::default() })
}

fn identity(account: &str) -> Identity {
    Identity::new("mesh.test", "shop", account).expect("an identity")
}

struct Request<'a> {
    identity: Option<&'a Identity>,
    lane: Option<&'a LaneName>,
    method: &'a str,
    path: &'a str,
    fields: &'a dyn Fields,
}

const NO_FIELDS: &[(&str, &str)] = &[];

fn get(path: &str) -> Request<'_> {
    Request { identity: None, lane: None, method: "GET", path, fields: &NO_FIELDS }
}

fn of(identity: Option<&Identity>) -> Request<'_> {
    Request { identity, ..get("/") }
}

fn in_lane(lane: Option<&LaneName>) -> Request<'_> {
    Request { lane, ..get("/") }
}

fn with(fields: &dyn Fields) -> Request<'_> {
    Request { fields, ..get("/") }
}

fn ask(ledger: &Ledger, rules: &Rules, request: &Request<'_>, now: Duration) -> Result<(), Box<Refused>> {
    let (path, query) = request.path.split_once('?').map_or((request.path, None), |(path, query)| (path, Some(query)));
    let Request { method, fields, .. } = *request;
    let parts = RequestParts { method, host: "cart", path, query, fields };
    let asked = Asked { identity: request.identity, lane: request.lane.map(|lane| (None, lane)), parts };
    ledger.admit(rules.of_port(PORT).expect("the port has limits"), &asked, now)
}

/// How many of `requests` are let through at one moment.
fn passed(ledger: &Ledger, rules: &Rules, request: &Request<'_>, requests: usize, now: Duration) -> usize {
    (0..requests).filter(|_| ask(ledger, rules, request, now).is_ok()).count()
}

#[test]
fn limits_hold_at_the_ports_that_serve_their_service_and_at_no_other() {
    let rules = rules(&[limit("all", &[], 5, SECOND)]);
    assert!(rules.of_port(9_090).is_none());
    let ledger = Ledger::default();
    assert_eq!(passed(&ledger, &rules, &get("/"), 10, NOW), 5);
    assert_eq!(passed(&ledger, &rules, &get("/"), 10, NOW + SECOND), 5);
    let without = rules_of(TrafficPolicy::default());
    assert!(without.of_port(PORT).is_none(), "who has no limits pays nothing for them");
}

#[test]
fn each_key_has_the_whole_limit_and_who_lacks_a_part_shares_one() {
    let (a, b) = (identity("a"), identity("b"));
    let (gray, blue): (LaneName, LaneName) = ("gray".parse().unwrap(), "blue".parse().unwrap());
    let tenant = |name: &'static str| -> [(&str, &str); 1] { [("X-Tenant", name)] };
    let (one, two) = (tenant("1"), tenant("2"));
    let (one, two) = (&one[..], &two[..]);
    let cases: [(RateKey, [Request<'_>; 3]); 4] = [
        (RateKey::Identity, [of(Some(&a)), of(Some(&b)), of(None)]),
        (RateKey::Namespace, [of(Some(&a)), of(None), of(None)]),
        (RateKey::Lane, [in_lane(Some(&gray)), in_lane(Some(&blue)), in_lane(None)]),
        (RateKey::Header("x-tenant".to_owned()), [with(&one), with(&two), with(&NO_FIELDS)]),
    ];
    for (key, requests) in cases {
        let (ledger, rules) = (Ledger::default(), rules(&[limit("each", std::slice::from_ref(&key), 3, HOUR)]));
        let counts: Vec<usize> = requests.iter().map(|request| passed(&ledger, &rules, request, 5, NOW)).collect();
        let expected = if key == RateKey::Namespace { [3, 3, 0] } else { [3, 3, 3] };
        assert_eq!(counts, expected, "{key}");
    }
}

#[test]
fn plaintext_caller_cannot_take_what_an_identity_has() {
    let caller = identity("a");
    let (ledger, rules) = (Ledger::default(), rules(&[limit("each", &[RateKey::Identity], 3, HOUR)]));
    let name = caller.to_string();
    let forged = [("l5d-client-id", name.as_str()), ("x-forwarded-client-cert", name.as_str())];
    let forged: &[(&str, &str)] = &forged;
    assert_eq!(passed(&ledger, &rules, &with(&forged), 9, NOW), 3);
    assert_eq!(passed(&ledger, &rules, &of(Some(&caller)), 9, NOW), 3);
}

#[test]
fn conditions_say_what_counts_and_the_key_route_tells_them_apart() {
    let path = |path: &str| RouteMatch { path: Some(PathMatch::Prefix(path.to_owned())), ..RouteMatch::default() };
    let matches = vec![path("/buy"), path("/pay")];
    for (key, expected) in [(vec![], [4, 0, 9]), (vec![RateKey::Route], [4, 4, 9])] {
        let (ledger, rules) =
            (Ledger::default(), rules(&[RateLimit { matches: matches.clone(), ..limit("few", &key, 4, HOUR) }]));
        let counts = ["/buy/1", "/pay", "/look"].map(|path| passed(&ledger, &rules, &get(path), 9, NOW));
        assert_eq!(counts, expected, "{key:?}");
    }
}

#[test]
fn request_that_one_limit_refuses_is_taken_from_none() {
    let mut shadow = limit("shadow", &[], 1, HOUR);
    shadow.mode = LimitMode::Shadow;
    let limits = [shadow, limit("all", &[], 10, HOUR), limit("each", &[RateKey::Identity], 2, HOUR)];
    let (ledger, rules) = (Ledger::default(), rules(&limits));
    let accounts: Vec<Identity> = (0..10).map(|number| identity(&format!("a{number}"))).collect();
    let counts: Vec<usize> =
        accounts.iter().map(|caller| passed(&ledger, &rules, &of(Some(caller)), 50, NOW)).collect();
    assert_eq!(counts, [2, 2, 2, 2, 2, 0, 0, 0, 0, 0]);
    let refused = ask(&ledger, &rules, &get("/"), NOW).unwrap_err();
    assert_eq!((refused.limit.as_str(), refused.why), ("all", Why::Used));
    assert_eq!(refused.to_string(), "limit all of cart.shop, 10 requests in 3600 s, is used up");
    let decisions = ledger.rate_decisions();
    let shadowed = decisions.iter().find(|one| one.limit == "shadow/shadow").expect("it decided something");
    assert_eq!((shadowed.route.as_str(), shadowed.count(Decision::Shadowed)), ("cart.shop", 500));
}

#[test]
fn refusal_says_when_to_come_again() {
    let (ledger, rules) = (Ledger::default(), rules(&[limit("all", &[], 2, HOUR)]));
    assert_eq!(passed(&ledger, &rules, &get("/"), 9, NOW), 2);
    let refused = ask(&ledger, &rules, &get("/"), NOW).unwrap_err();
    let expected = [
        ("retry-after", "1800"),
        ("x-ratelimit-limit", "2"),
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-reset", "3600"),
    ];
    assert_eq!(refused.fields(), expected.map(|(name, value)| (name, value.to_owned())));
}

#[test]
fn health_checks_come_before_limits_but_not_without_bound() {
    let probe = Probe::Http(HttpProbe { path: "/healthz?full=1".to_owned(), ..HttpProbe::default() });
    let policy = TrafficPolicy {
        rate_limits: vec![limit("all", &[], 2, HOUR)],
        health_check: Some(HealthCheck::new(probe)),
        ..TrafficPolicy::default()
    };
    let (ledger, rules) = (Ledger::default(), rules_of(policy));
    assert_eq!(passed(&ledger, &rules, &get("/"), 9, NOW), 2);
    assert_eq!(passed(&ledger, &rules, &get("/healthz?full=1"), 100, NOW), 100);
    let grpc = Request { method: "POST", ..get("/grpc.health.v1.Health/Check") };
    assert_eq!(passed(&ledger, &rules, &grpc, 50, NOW), 50);
    for path in ["/healthz", "/healthz/../pay?full=1", "/grpc.health.v1.Health/Check"] {
        assert_eq!(passed(&ledger, &rules, &get(path), 9, NOW), 0, "{path}");
    }
    let bound = usize::try_from(HEALTH_CHECKS_PER_SECOND).unwrap();
    assert_eq!(passed(&ledger, &rules, &get("/healthz?full=1"), 2 * bound, NOW), bound - 150);
}

#[test]
fn flood_of_invented_keys_is_bounded_and_puts_out_neither_identities_nor_keys_that_are_used_up() {
    let header = RateKey::Header("x-user".to_owned());
    let limits = [limit("user", &[header], 10, HOUR), limit("each", &[RateKey::Identity], 3 * HELD_MAX as u64, HOUR)];
    let (ledger, rules) = (Ledger::default(), rules(&limits));
    let caller = identity("a");
    let as_user = |name: &str, requests: usize, now| {
        let fields = [("x-user", name)];
        let fields: &[(&str, &str)] = &fields;
        passed(&ledger, &rules, &Request { identity: Some(&caller), fields: &fields, ..get("/") }, requests, now)
    };
    assert_eq!(as_user("al", 20, NOW), 10);
    for number in 0..3 * HELD_MAX - 10 {
        assert_eq!(as_user(&format!("invented {number}"), 1, NOW), 1);
    }
    assert_eq!(as_user("al", 5, NOW), 0, "what is used up stays used up");
    assert_eq!(as_user("one more", 5, NOW), 0, "the identity's count was not put out");
    assert!(ledger.rate_keys_forgotten() as usize > HELD_MAX);
    let mut held = 0;
    ledger.rates.each_key(|_| held += 1);
    assert!(held <= HELD_MAX + 1, "{held} keys");
}

#[test]
fn flood_of_keys_of_a_leased_limit_puts_out_what_was_used_least() {
    let store = LimitStore::Redis { url: "redis://r:6379".to_owned(), password: None };
    let rules = rules(&[RateLimit { store, ..limit("user", &[RateKey::Header("x-user".to_owned())], 100, HOUR) }]);
    let ledger = Ledger::default();
    // Nobody was heard: a tenth is for this one.
    ledger.store(&rules.places().next().expect("a store")).set_reach(Reach::Down);
    let as_user = |name: &str, requests| {
        let fields = [("x-user", name)];
        let fields: &[(&str, &str)] = &fields;
        passed(&ledger, &rules, &with(&fields), requests, NOW)
    };
    let users: Vec<String> = (0..100).map(|number| format!("user {number}")).collect();
    assert!(users.iter().all(|user| as_user(user, 20) == 10));
    for number in 0..3 * HELD_MAX {
        as_user(&format!("invented {number}"), 1);
    }
    assert!(users.iter().all(|user| as_user(user, 1) == 0), "what is used up stays used up");
}

#[test]
fn changed_numbers_take_effect_and_what_was_taken_stays_taken() {
    let ledger = Ledger::default();
    let of = |requests| rules(&[limit("all", &[], requests, HOUR)]);
    assert_eq!(passed(&ledger, &of(5), &get("/"), 9, NOW), 5);
    assert_eq!(passed(&ledger, &of(10), &get("/"), 20, NOW), 0);
    assert_eq!(passed(&ledger, &of(10), &get("/"), 20, NOW + HOUR / 2), 5);
    assert_eq!(passed(&ledger, &of(1), &get("/"), 20, NOW + HOUR / 2), 0);
}

#[test]
fn many_threads_take_exactly_what_there_is() {
    let (ledger, rules) = (Ledger::default(), rules(&[limit("all", &[], 10_000, HOUR)]));
    let work = || passed(&ledger, &rules, &get("/"), 20_000, NOW);
    let passed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    assert_eq!(passed, 10_000);
}

/// Sidecars of one service around a store in simulated time.
struct Fleet {
    pool: Pool,
    rules: Rules,
    sidecars: Vec<(Ledger, Arc<Store>, Holder, u64)>,
    is_up: bool,
    now: Duration,
}

impl Fleet {
    fn new(sidecars: usize, on_store_down: OnRateStoreDown) -> Fleet {
        let store = LimitStore::Redis { url: "redis://r:6379".to_owned(), password: None };
        let rules = rules(&[RateLimit { store, on_store_down, ..limit("all", &[], 300, SECOND) }]);
        let sidecar = |_| {
            let ledger = Ledger::default();
            let store = ledger.store(&rules.places().next().expect("a store"));
            let holder = Holder::new(Arc::clone(&store));
            (ledger, store, holder, 0)
        };
        let sidecars = (0..sidecars).map(sidecar).collect();
        Fleet { pool: Pool::default(), rules, sidecars, is_up: true, now: NOW }
    }

    /// Every sidecar says what it has to say.
    fn tick(&mut self) {
        self.now += Duration::from_millis(100);
        let time = u64::try_from(self.now.as_micros()).unwrap();
        for (number, (ledger, store, holder, calls)) in self.sidecars.iter_mut().enumerate() {
            if !self.is_up {
                store.set_reach(Reach::Down);
                continue;
            }
            let mut asks = holder.asks(ledger, Occasion::Tick, self.now);
            let cells = asks.pop().unwrap_or_default();
            *calls += 1;
            let (beat, shares) = holder.beat();
            let (proxy, run) = (format!("p{number}"), "run".to_owned());
            let call = Call { proxy, number: *calls, run, shares, beat, cells };
            let answer = self.pool.call(&call, time).expect("calls come in order");
            holder.hear(&call.cells, &answer, self.now);
            store.set_reach(Reach::Up);
        }
    }

    /// How many requests are let through in so many seconds, of a lot at every sidecar.
    fn pass(&mut self, seconds: usize) -> usize {
        let mut through = 0;
        for _ in 0..10 * seconds {
            self.tick();
            for (ledger, ..) in &self.sidecars {
                through += passed(ledger, &self.rules, &get("/"), 100, self.now);
            }
        }
        through
    }
}

#[test]
fn sidecars_share_one_limit_and_keep_to_their_fair_shares_while_the_store_is_down() {
    let mut fleet = Fleet::new(3, OnRateStoreDown::Local);
    fleet.pass(20);
    let within = |through: usize| (2_850..=3_150).contains(&through);
    let with = fleet.pass(10);
    fleet.is_up = false;
    let without = fleet.pass(10);
    fleet.is_up = true;
    fleet.pass(20);
    let again = fleet.pass(10);
    assert!(within(with) && within(without) && within(again), "of 3000: {with}, {without}, {again}");
}

#[test]
fn store_that_is_down_refuses_everything_or_nothing_where_the_limit_says_so() {
    for (on_store_down, expected) in [(OnRateStoreDown::Closed, 0), (OnRateStoreDown::Open, 3 * 10 * 10 * 100)] {
        let mut fleet = Fleet::new(3, on_store_down);
        fleet.pass(20);
        fleet.is_up = false;
        fleet.tick();
        assert_eq!(fleet.pass(10), expected, "{on_store_down:?}");
    }
    let mut fleet = Fleet::new(1, OnRateStoreDown::Closed);
    fleet.is_up = false;
    fleet.tick();
    let refused = ask(&fleet.sidecars[0].0, &fleet.rules, &get("/"), fleet.now).unwrap_err();
    assert_eq!((refused.why, refused.retry_after), (Why::StoreDown, SECOND));
}

#[test]
fn burst_of_a_leased_limit_holds_in_each_sidecar() {
    let mut fleet = Fleet::new(1, OnRateStoreDown::Local);
    let mut limit = fleet.rules.of_port(PORT).expect("limits").rules()[0].limit.clone();
    limit.burst = 20;
    fleet.rules = rules(&[limit]);
    for _ in 0..200 {
        fleet.tick();
    }
    assert_eq!(passed(&fleet.sidecars[0].0, &fleet.rules, &get("/"), 100, fleet.now), 20);
}
