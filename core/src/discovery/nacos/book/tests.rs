//! Tests of the book.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn name(service: &str) -> Name {
    Name::new("", "", service)
}

fn address(number: u8) -> SocketAddr {
    if number.is_multiple_of(4) {
        ([0, 0, 0, 0, 0, 0, 1, u16::from(number)], 80).into()
    } else {
        ([10, 0, 0, number], 80).into()
    }
}

#[test]
fn names_are_found_by_label() {
    let mut book = Book::default();
    assert_eq!(book.learn(&name("ORDER")), Ok(Learned::New));
    assert_eq!(book.learn(&name("ORDER")), Ok(Learned::Known));
    assert_eq!(book.by_label("order.default"), Some(&name("ORDER")));
    assert_eq!(book.by_label("cart.default"), None);
    book.forget(&name("ORDER"));
    assert!(book.is_empty());
    assert_eq!(book.by_label("order.default"), None);
}

#[test]
fn the_second_name_of_a_label_gets_a_label_of_its_own_and_the_first_keeps_his() {
    for (first, second) in [
        (name("ORDER"), name("order")),
        (Name::new("pay", "", "order"), Name::new("", "pay", "order")),
        (Name::new("", "pay", "order"), Name::new("pay", "", "order")),
    ] {
        let mut book = Book::default();
        book.learn(&first).unwrap();
        let label = second.distinct_label();
        let learned = Learned::Distinct { label: label.clone(), other: first.clone() };
        assert_eq!(book.learn(&second), Ok(learned));
        assert_eq!(book.by_label(&label), Some(&second));
        assert_eq!(book.by_label(&first.label()), Some(&first));
        assert_eq!(book.label(&second), Some(label.clone()));
        book.forget(&first);
        assert_eq!(book.by_label(&label), Some(&second), "a label that was given is kept");
    }
}

#[test]
fn names_learned_at_once_get_their_labels_in_order_of_the_names() {
    let mut book = Book::default();
    let (distinct, full) = book.become_known(vec![name("order"), name("cart"), name("ORDER")]);
    assert_eq!((distinct.len(), full.len(), book.len()), (1, 0, 3));
    assert_eq!(book.by_label("order.default"), Some(&name("ORDER")));
    book.become_known(vec![name("order")]);
    assert_eq!(book.names().collect::<Vec<_>>(), [&name("order")]);
}

#[test]
fn an_address_of_several_services_leads_to_all_of_them() {
    let mut book = Book::default();
    for service in ["b", "a", "c"] {
        book.learn(&name(service)).unwrap();
        book.place(&name(service), [address(1), address(4)]).unwrap();
    }
    assert_eq!(book.at(address(1)), [&name("a"), &name("b"), &name("c")]);
    assert_eq!(book.at("[::ffff:10.0.0.1]:80".parse().unwrap()), [&name("a"), &name("b"), &name("c")]);
    book.forget(&name("b"));
    book.place(&name("c"), [address(4)]).unwrap();
    assert_eq!(book.at(address(1)), [&name("a")]);
    assert_eq!(book.at(address(4)), [&name("a"), &name("c")]);
    assert_eq!(book.addresses(), 3);
    assert_eq!(book.place(&name("unknown"), [address(1)]), Ok(()));
    assert_eq!(book.at(address(1)), [&name("a")]);
}

#[test]
fn a_full_book_says_what_it_leaves_out() {
    let mut book = Book::default();
    book.learn(&name("a")).unwrap();
    let many = |from: u32, count: usize| {
        (from..).take(count).map(|bits| SocketAddr::new(std::net::Ipv4Addr::from_bits(bits).into(), 80))
    };
    book.place(&name("a"), many(0, ADDRESSES_MAX - 1)).unwrap();
    book.learn(&name("b")).unwrap();
    assert_eq!(book.place(&name("b"), many(0, 2)), Err(Full::Addresses(name("b"))));
    assert_eq!(book.place(&name("b"), many(0, 1)), Ok(()));
    for number in 0..NAMES_MAX - 2 {
        book.learn(&name(&format!("s{number}"))).unwrap();
    }
    assert_eq!(book.learn(&name("z")), Err(Full::Names(name("z"))));
}

#[derive(Clone, Debug)]
enum Entry {
    Learn(u8),
    Forget(u8),
    Place(u8, BTreeSet<u8>),
    BecomeKnown(BTreeSet<u8>),
}

/// Services of which some have one label.
fn service(number: u8) -> Name {
    name(["a", "A", "b", "B", "c", "d", "a-b", "A-B"][usize::from(number)])
}

proptest! {
    #[test]
    fn a_book_says_what_a_plain_list_would(entries in prop::collection::vec(
        prop_oneof![
            (0..8_u8).prop_map(Entry::Learn),
            (0..8_u8).prop_map(Entry::Forget),
            (0..8_u8, prop::collection::btree_set(0..12_u8, 0..6)).prop_map(|(at, set)| Entry::Place(at, set)),
            prop::collection::btree_set(0..8_u8, 0..8).prop_map(Entry::BecomeKnown),
        ],
        500,
    )) {
        let (mut book, mut plain) = (Book::default(), BTreeMap::<u8, BTreeSet<u8>>::new());
        for entry in entries {
            match entry {
                Entry::Learn(number) => {
                    book.learn(&service(number)).unwrap();
                    plain.entry(number).or_default();
                }
                Entry::Forget(number) => {
                    book.forget(&service(number));
                    plain.remove(&number);
                }
                Entry::Place(number, set) => {
                    book.place(&service(number), set.iter().copied().map(address)).unwrap();
                    if let Some(places) = plain.get_mut(&number) {
                        *places = set;
                    }
                }
                Entry::BecomeKnown(set) => {
                    book.become_known(set.iter().copied().map(service).collect());
                    plain.retain(|number, _| set.contains(number));
                    set.into_iter().for_each(|number| { plain.entry(number).or_default(); });
                }
            }
            prop_assert_eq!(book.len(), plain.len());
            prop_assert_eq!(book.addresses(), plain.values().map(BTreeSet::len).sum::<usize>());
            let labels: BTreeSet<String> =
                plain.keys().map(|number| book.label(&service(*number)).unwrap()).collect();
            prop_assert_eq!(labels.len(), plain.len(), "every service has a label of its own");
            for number in plain.keys() {
                let label = book.label(&service(*number)).unwrap();
                prop_assert_eq!(book.by_label(&label), Some(&service(*number)));
            }
            for at in 0..12 {
                let mut expected: Vec<Name> =
                    plain.iter().filter(|(_, set)| set.contains(&at)).map(|(number, _)| service(*number)).collect();
                expected.sort();
                prop_assert_eq!(book.at(address(at)).into_iter().cloned().collect::<Vec<_>>(), expected);
            }
        }
    }
}
