//! Places for connections: who may come, and who must go for them.

use std::net::Ipv4Addr;

use super::*;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

fn guests(all: usize, door: usize, peer: usize) -> Rc<Guests> {
    Rc::new(Guests::new(Places { all, door, peer }))
}

fn admit(guests: &Rc<Guests>, peer: IpAddr, second: u64) -> Result<Seat, Shed> {
    guests.admit(peer, Door::Inbound, Bounded::Yes, Duration::from_secs(second))
}

#[test]
fn connection_that_waits_longest_goes_for_a_new_one_and_none_that_is_busy() {
    let guests = guests(9, 3, 9);
    let seats: Vec<Seat> = (1..=3).map(|second| admit(&guests, PEER, second).unwrap()).collect();
    seats[0].guest.works();
    assert_eq!(guests.has_place(Door::Inbound), Place::Made);
    assert_eq!(seats.iter().map(|seat| seat.guest.unwanted.get()).collect::<Vec<_>>(), [false, true, false]);
    // It is going already: one more may come.
    assert_eq!(guests.has_place(Door::Inbound), Place::Free);
    let more = admit(&guests, PEER, 4).unwrap();
    assert_eq!(guests.has_place(Door::Inbound), Place::Made);
    more.guest.works();
    drop((seats, more));
    assert_eq!(guests.has_place(Door::Inbound), Place::Free);
    assert!(guests.seated.borrow().is_empty());
}

#[test]
fn nobody_may_come_while_all_are_busy_and_the_other_listener_has_its_places() {
    let guests = guests(4, 3, 9);
    let seats: Vec<Seat> = (1..=3).map(|second| admit(&guests, PEER, second).unwrap()).collect();
    seats.iter().for_each(|seat| seat.guest.works());
    assert_eq!(guests.has_place(Door::Inbound), Place::None);
    assert_eq!(guests.has_place(Door::Outbound), Place::Free);
    let _fourth = guests.admit(PEER, Door::Outbound, Bounded::No, Duration::ZERO).unwrap();
    seats[1].guest.rests(Duration::from_secs(9));
    assert_eq!(guests.has_place(Door::Outbound), Place::Made);
}

#[test]
fn caller_with_all_the_connections_that_one_may_have_gets_another_only_for_one_that_waits() {
    let guests = guests(9, 9, 2);
    let seats: Vec<Seat> = (1..=2).map(|second| admit(&guests, PEER, second).unwrap()).collect();
    seats.iter().for_each(|seat| seat.guest.works());
    assert_eq!(admit(&guests, PEER, 3).map(drop), Err(Shed::ConnectionsOfPeer));
    assert!(admit(&guests, OTHER, 3).is_ok());
    assert!(guests.admit(PEER, Door::Outbound, Bounded::No, Duration::ZERO).is_ok());
    seats[0].guest.rests(Duration::from_secs(3));
    assert!(admit(&guests, PEER, 4).is_ok());
    assert!(seats[0].guest.unwanted.get());
    drop(seats);
    assert!(guests.peers.borrow().is_empty());
}

#[test]
fn waiting_connections_are_ended_while_memory_is_short_and_busy_ones_are_what_pressure_counts() {
    let guests = guests(10, 10, 10);
    let seats: Vec<Seat> = (0..10).map(|_| admit(&guests, PEER, 1).unwrap()).collect();
    seats[..7].iter().for_each(|seat| seat.guest.works());
    let now = Duration::from_secs(3);
    assert_eq!((guests.tick(now, Pressure::Tight), guests.pressure()), (0, Pressure::Tight));
    assert_eq!(guests.tick(Duration::from_secs(1), Pressure::Short), 0);
    assert_eq!(guests.tick(now, Pressure::Short), 3);
    assert_eq!(guests.tick(now, Pressure::Short), 0);
}

#[test]
fn listener_whose_places_are_taken_is_short_of_them_however_many_there_are_in_all() {
    let guests = guests(1_000, 10, 10);
    let seats: Vec<Seat> = (0..10).map(|_| admit(&guests, PEER, 1).unwrap()).collect();
    let shown = || Direction::ALL.map(|direction| guests.pressure_at(direction));
    assert_eq!(guests.tick(Duration::from_secs(2), Pressure::None), 0);
    assert_eq!(shown(), [Pressure::None, Pressure::None]);
    seats.iter().for_each(|seat| seat.guest.works());
    assert_eq!(guests.tick(Duration::from_secs(2), Pressure::None), 0);
    assert_eq!(shown(), [Pressure::Full, Pressure::None]);
    assert_eq!(guests.pressure(), Pressure::None);
}

#[test]
fn process_is_divided_among_its_workers_and_no_listener_has_all_of_it() {
    assert_eq!(Places::of(80, 16_384, 4_096, 1), Places { all: 80, door: 60, peer: 4_096 });
    assert_eq!(Places::of(20_000, 100, 10, 4), Places { all: 5_000, door: 25, peer: 3 });
    assert_eq!(Places::of(1, 1, 1, 64), Places { all: 1, door: 1, peer: 1 });
}

#[tokio::test]
async fn connection_that_is_told_to_go_is_woken() {
    let guests = guests(1, 1, 1);
    let seat = admit(&guests, PEER, 1).unwrap();
    let told = tokio::join!(seat.guest.unwanted(), async {
        tokio::task::yield_now().await;
        guests.has_place(Door::Inbound)
    });
    assert_eq!(told, ((), Place::Made));
}
