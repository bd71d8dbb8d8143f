//! Each condition alone, and all of them against a plain list.

use proptest::prelude::*;

use super::*;

fn lane(name: &str) -> Option<Arc<Label>> {
    Some(Arc::new(Label { group: None, lane: name.parse().unwrap() }))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const START: Duration = Duration::from_secs(100);

#[test]
fn one_lane_in_flight_is_the_answer_until_something_speaks_against_it() {
    let mut all = Unanimity::default();
    assert_eq!(all.lane(START), None, "nothing in flight");
    let first = all.begin(lane("canary"), Kind::Request, START);
    let second = all.begin(lane("canary"), Kind::Request, START);
    assert_eq!(all.lane(START).cloned(), lane("canary"));
    let plain = all.begin(None, Kind::Request, START);
    assert_eq!(all.lane(START), None, "baseline is another lane");
    all.end(plain, START);
    assert_eq!(all.lane(START + Duration::from_millis(999)), None, "it just ended");
    assert_eq!(all.lane(START + QUIET).cloned(), lane("canary"));
    all.end(first, START);
    assert_eq!(all.lane(START + QUIET).cloned(), lane("canary"), "an end of the same lane says nothing against it");
    all.end(second, START + QUIET);
    assert_eq!((all.lane(START + QUIET * 5), all.is_empty()), (None, true));
}

#[test]
fn long_requests_and_lasting_exchanges_silence_it() {
    let mut all = Unanimity::default();
    let slow = all.begin(lane("canary"), Kind::Request, START);
    let _young = all.begin(lane("canary"), Kind::Request, START + seconds(29));
    assert!(all.lane(START + seconds(29)).is_some());
    assert_eq!(all.lane(START + YOUNG), None);
    all.end(slow, START + YOUNG);
    assert!(all.lane(START + YOUNG).is_some());
    let socket = all.begin(lane("canary"), Kind::Request, START + YOUNG);
    all.lasts(&socket);
    all.lasts(&socket);
    assert_eq!(all.lane(START + YOUNG), None);
    all.end(socket, START + YOUNG);
    assert!(all.lane(START + YOUNG).is_some());
}

#[test]
fn what_may_be_missing_silences_it_for_as_long_as_it_could_matter() {
    let mut all = Unanimity::default();
    all.missed(START);
    let now = START + YOUNG;
    let _canary = all.begin(lane("canary"), Kind::Request, now - Duration::from_secs(1));
    assert_eq!(all.lane(now - Duration::from_secs(1)), None);
    assert!(all.lane(now).is_some());
}

#[derive(Clone, Debug)]
enum Act {
    Begin(usize, bool),
    End(usize),
    Wait(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (0_usize..8, 0_u8..10).prop_map(|(lane, kind)| Act::Begin(lane, kind == 0)),
        4 => (0_usize..20).prop_map(Act::End),
        2 => (1_u64..1_500).prop_map(Act::Wait),
        1 => (1_500_u64..40_000).prop_map(Act::Wait),
    ];
    proptest::collection::vec(act, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn answer_is_that_of_a_list_of_everything(acts in acts()) {
        // Mostly one lane, sometimes another, sometimes baseline.
        let lanes = [lane("canary"), lane("canary"), lane("canary"), lane("canary"), lane("canary"), lane("blue"), None];
        let mut all = Unanimity::default();
        let mut now = START;
        let mut open: Vec<(Ticket, Option<Arc<Label>>, Duration, bool)> = Vec::new();
        let mut ended: Vec<(Option<Arc<Label>>, Duration)> = Vec::new();
        for act in acts {
            match act {
                Act::Begin(which, lasting) => {
                    let lane = lanes[which % lanes.len()].clone();
                    let kind = if lasting { Kind::Lasting } else { Kind::Request };
                    open.push((all.begin(lane.clone(), kind, now), lane, now, lasting));
                }
                Act::End(which) if !open.is_empty() => {
                    let (ticket, lane, ..) = open.remove(which % open.len());
                    all.end(ticket, now);
                    ended.push((lane, now));
                }
                Act::End(_) => {}
                Act::Wait(time) => now += Duration::from_millis(time),
            }
            let wanted = open.first().and_then(|(_, lane, ..)| lane.clone());
            let agrees = open.iter().all(|(_, lane, began, lasting)| {
                *lane == wanted && now < *began + YOUNG && !lasting
            });
            let is_quiet = ended.iter().all(|(lane, when)| *lane == wanted || now >= *when + QUIET);
            let expected = wanted.filter(|_| agrees && is_quiet);
            prop_assert_eq!(all.lane(now).cloned(), expected);
            prop_assert_eq!(all.len(), open.len());
        }
    }
}
