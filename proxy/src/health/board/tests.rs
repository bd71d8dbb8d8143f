//! Who probes an instance, as workers see it.

use mesh_core::model::policy::{Probe, TcpProbe};
use tokio::time::advance;

use super::*;

fn key() -> ServiceKey {
    ServiceKey("b.demo.svc.cluster.local:80".into())
}

fn instance(number: u8) -> SocketAddr {
    ([10, 0, 0, number], 80).into()
}

fn check(shared_by: u32) -> HealthCheck {
    HealthCheck { shared_by, ..HealthCheck::new(Probe::Tcp(TcpProbe::default())) }
}

/// The controller says that we probe the first, that the second is ill, and that nobody knows the fourth.
fn hear(board: &Board) {
    let shares = Shares { probe: [instance(1)].into(), failing: [instance(2)].into(), unknown: [instance(4)].into() };
    board.hear(BTreeMap::from([(key(), shares)]));
}

fn duty(board: &Board, seat: &Seat, number: u8, shared_by: u32, patience: Patience) -> Duty {
    board.read().duty(seat, (&key(), instance(number)), &check(shared_by), patience)
}

const FAILS: Duty = Duty::Others(Some(ProbeResult::Failed));
const PASSES: Duty = Duty::Others(Some(ProbeResult::Succeeded));

#[tokio::test(start_paused = true)]
async fn word_of_the_controller_is_waited_for_and_then_counts() {
    let board = Board::default();
    let seat = board.join();
    assert_eq!(duty(&board, &seat, 1, 3, Patience::Left), Duty::Others(None));
    assert_eq!(duty(&board, &seat, 1, 3, Patience::Over), Duty::Own);
    assert_eq!(duty(&board, &seat, 1, 0, Patience::Left), Duty::Own, "not shared");
    hear(&board);
    let duties = [1, 2, 3, 4].map(|number| duty(&board, &seat, number, 3, Patience::Over));
    assert_eq!(duties, [Duty::Own, FAILS, PASSES, Duty::Others(None)]);
    assert_eq!(duty(&board, &seat, 2, 0, Patience::Over), Duty::Own, "not shared any more");
}

#[tokio::test(start_paused = true)]
async fn everyone_probes_for_himself_soon_after_the_controller_is_lost_and_until_it_is_back() {
    let board = Board::default();
    let seat = board.join();
    hear(&board);
    board.lose();
    advance(LOST_GRACE / 2).await;
    board.lose();
    assert_eq!(duty(&board, &seat, 2, 3, Patience::Over), FAILS);
    advance(LOST_GRACE / 2).await;
    assert_eq!(duty(&board, &seat, 2, 3, Patience::Left), Duty::Own);
    hear(&board);
    assert_eq!(duty(&board, &seat, 2, 3, Patience::Over), FAILS);
    board.go_alone();
    board.lose();
    assert_eq!(duty(&board, &seat, 2, 3, Patience::Left), Duty::Own);
}

#[test]
fn one_worker_of_a_process_probes_each_instance_and_the_others_hear_of_it() {
    let board = Board::default();
    let seats = [board.join(), board.join(), board.join()];
    let mut owners = [0; 3];
    for number in 0..=255 {
        let owning = |seat: &&Seat| duty(&board, seat, number, 0, Patience::Over) == Duty::Own;
        let own: Vec<&Seat> = seats.iter().filter(owning).collect();
        assert_eq!(own.len(), 1, "instance {number}");
        owners[own[0].number] += 1;
    }
    assert!(owners.iter().all(|count| (50..120).contains(count)), "{owners:?}");
    let owner = seats.iter().find(|seat| duty(&board, seat, 1, 0, Patience::Over) == Duty::Own).unwrap();
    let other = seats.iter().find(|seat| seat.number != owner.number).unwrap();
    assert_eq!(duty(&board, other, 1, 0, Patience::Over), Duty::Others(None));
    let found = BTreeMap::from([(key(), BTreeMap::from([(instance(1), ProbeResult::Failed)]))]);
    board.show(owner, Seen { found, ..Seen::default() });
    assert_eq!(duty(&board, other, 1, 0, Patience::Over), FAILS);
}

#[test]
fn controller_hears_what_all_workers_call_and_found() {
    let board = Board::default();
    let seats = [board.join(), board.join()];
    let seen = |traffic, number, result| Seen {
        used: BTreeMap::from([(key(), traffic)]),
        found: BTreeMap::from([(key(), BTreeMap::from([(instance(number), result)]))]),
    };
    board.show(&seats[0], seen(Traffic::Flowing, 1, ProbeResult::Failed));
    board.show(&seats[1], seen(Traffic::None, 2, ProbeResult::Succeeded));
    let called = board.read().calls(|_| true).remove(&key()).unwrap();
    assert_eq!(called.traffic, Traffic::Flowing);
    assert_eq!(
        called.seen.into_iter().collect::<Vec<_>>(),
        [(instance(1), ProbeResult::Failed), (instance(2), ProbeResult::Succeeded)]
    );
    assert!(board.read().calls(|_| false).is_empty());
}

#[test]
fn who_waits_is_told_of_what_changes_and_of_nothing_else() {
    let board = Board::default();
    let seat = board.join();
    let changes = board.changes();
    board.show(&seat, Seen::default());
    assert!(!changes.has_changed().unwrap());
    board.show(&seat, Seen { used: BTreeMap::from([(key(), Traffic::Flowing)]), ..Seen::default() });
    assert!(changes.has_changed().unwrap());
}
