//! Whatever order of calls, losses and pauses chance finds: nothing is used beyond its amount.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Requests {
        key: usize,
        at: usize,
        count: usize,
        tokens: u64,
    },
    Pass(u64),
    /// Nobody reaches the store; it goes on.
    Cut,
    /// One proxy does not.
    CutOne(usize),
    Mend,
    /// The store is another one, with or without what it had kept.
    Restart {
        keeps: bool,
    },
    Late(usize),
    Join(i64),
    Close(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..3usize, 0..6usize, 1..40usize, 1..30u64)
            .prop_map(|(key, at, count, tokens)| Step::Requests { key, at, count, tokens }),
        5 => (1..400u64).prop_map(Step::Pass),
        2 => (400..4_000u64).prop_map(Step::Pass),
        1 => (4_000..20_000u64).prop_map(Step::Pass),
        // Long enough for sharers to become idle.
        1 => (61_000..70_000u64).prop_map(Step::Pass),
        1 => Just(Step::Cut),
        1 => (0..4usize).prop_map(Step::CutOne),
        2 => Just(Step::Mend),
        1 => any::<bool>().prop_map(|keeps| Step::Restart { keeps }),
        1 => (0..4usize).prop_map(Step::Late),
        1 => (-60_000..60_000i64).prop_map(Step::Join),
        3 => (0..4usize).prop_map(Step::Close),
    ];
    proptest::collection::vec(step, 1..100)
}

fn play(proxies: usize, limits: Vec<Limit>, steps: Vec<Step>) {
    let mut world = World::new(proxies, limits, OnStoreDown::Open);
    let most = proxies + 2;
    world.pass(1_500);
    // How long one proxy alone was out of reach: beyond `GONE` it is taken for dead, which it is not.
    let mut cut_one: Option<u64> = None;
    for step in steps {
        let proxies = world.proxies.len();
        match step {
            Step::Requests { key, at, count, tokens } => {
                world.taken_of(key, at % proxies, count, tokens);
            }
            Step::Pass(millis) if cut_one.is_some_and(|since| world.time + millis > since + 9_000) => {
                world.set_reachable(true);
                cut_one = None;
            }
            Step::Pass(millis) => world.pass(millis),
            Step::Cut => world.set_reachable(false),
            Step::CutOne(at) => {
                if world.proxies.iter().all(|proxy| proxy.reachable) {
                    world.proxies[at % proxies].reachable = false;
                    cut_one = Some(world.time);
                }
            }
            Step::Mend => {
                world.set_reachable(true);
                cut_one = None;
                // Everybody is back within a second.
                world.pass(300);
            }
            Step::Restart { keeps } => {
                world.run += 1;
                if !keeps {
                    world.pool.lose();
                }
                if world.proxies.iter().all(|proxy| proxy.reachable) {
                    world.pass(300);
                }
            }
            Step::Late(at) => world.arrive_late(at % proxies),
            Step::Join(skew) if proxies < most && world.proxies.iter().all(|proxy| proxy.reachable) => {
                world.join(skew);
                // One that never reached the store uses a presumed share, of which the store knows nothing.
                world.pass(300);
            }
            Step::Join(_) => {}
            Step::Close(at) => {
                let open = &mut world.proxies[at % proxies].open;
                let leaving = open.len().div_ceil(2);
                open.drain(..leaving).for_each(|(_, stream)| stream.cancel());
            }
        }
    }
}

#[test]
fn streams_of_proxies_that_became_idle_while_the_store_was_away_leave_no_greater_share() {
    let requests = |key, at, count| Step::Requests { key, at, count, tokens: 1 };
    let steps = vec![
        Step::Pass(4_000),
        requests(0, 3, 1),
        requests(2, 1, 1),
        Step::Mend,
        requests(2, 2, 1),
        requests(1, 0, 17),
        Step::Pass(269),
        Step::Cut,
        Step::Pass(63_370),
        requests(0, 1, 4),
        Step::Mend,
        requests(1, 1, 33),
    ];
    play(4, vec![limit(Counted::Concurrent, 15, 0)], steps);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, max_shrink_time: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn no_window_is_used_beyond_its_amount(
        amount in prop_oneof![1..20u64, 20..2_000u64],
        window in prop_oneof![Just(1u64), Just(60), Just(86_400)],
        proxies in 2..7usize,
        steps in steps(),
    ) {
        play(proxies, vec![limit(Counted::Input, amount, window), limit(Counted::Requests, amount, 60)], steps);
    }

    #[test]
    fn no_more_streams_than_allowed(amount in 1..40u64, proxies in 2..5usize, steps in steps()) {
        play(proxies, vec![limit(Counted::Concurrent, amount, 0)], steps);
    }
}
