//! Tests of names.

use proptest::prelude::*;

use super::*;

#[test]
fn labels_are_the_names_where_these_are_dns_labels() {
    for (namespace, group, service, label, host) in [
        ("", "", "order-service", "order-service.default", "order-service.nacos"),
        ("public", "DEFAULT_GROUP", "ORDER-SERVICE", "order-service.default", "order-service.nacos"),
        ("dev", "", "order", "order.dev", "order.default-group.dev.nacos"),
        ("", "pay", "order", "order.pay", "order.pay.nacos"),
        ("dev", "pay", "order", "order.pay--dev", "order.pay.dev.nacos"),
        (
            "0b1fd4a8-4b0c-4a8e-9f2c-3d5f0a6b7c8d",
            "",
            "order",
            "order.0b1fd4a8-4b0c-4a8e-9f2c-3d5f0a6b7c8d",
            "order.default-group.0b1fd4a8-4b0c-4a8e-9f2c-3d5f0a6b7c8d.nacos",
        ),
    ] {
        let name = Name::new(namespace, group, service);
        assert_eq!((name.label().as_str(), name.host().as_str()), (label, host), "{name}");
    }
}

#[test]
fn texts_that_are_no_dns_labels_get_dashes_and_a_hash() {
    let shape = |namespace, group, service| {
        let label = Name::new(namespace, group, service).label().replace("--dev", "");
        let without = |half: &str| match half.rsplit_once('-') {
            Some((rest, digits)) if digits.len() == HASH_DIGITS => format!("{rest}-#"),
            Some(_) | None => half.to_owned(),
        };
        let (name, place) = label.split_once('.').unwrap();
        format!("{}.{}", without(name), without(place))
    };
    for (namespace, group, service, expected) in [
        ("", "", "providers:com.foo.Bar:1.0:", "providers-com-foo-bar-1-0-#.default"),
        ("", "", "order_service", "order-service-#.default"),
        ("", "", "订单", "x-#.default"),
        ("", "", "", "x-#.default"),
        ("", "", "-order", "order-#.default"),
        ("", "", "a--b", "a-b-#.default"),
        ("", "", "order-0123456789", "order-0123456789-#.default"),
        ("", "SEATA_GROUP", "order", "order.seata-group-#"),
        ("default", "", "order", "order.default-#"),
        ("", "default-group", "order", "order.default-group-#"),
        ("dev", "a--b", "order", "order.a-b-#"),
    ] {
        assert_eq!(shape(namespace, group, service), expected, "{service}");
    }
}

#[test]
fn hosts_are_understood_as_people_and_clients_write_them() {
    let cases = [
        ("order.nacos", "order.default"),
        ("ORDER.NACOS.", "order.default"),
        ("order.DEFAULT_GROUP.dev.nacos", "order.dev"),
        ("order.default-group.dev.nacos", "order.dev"),
        ("order.pay.public.nacos", "order.pay"),
        ("order.pay.Dev.nacos", "order.pay--dev"),
    ];
    for (host, label) in cases {
        assert_eq!(Spoken::parse(host).map(|spoken| spoken.label), Ok(label.to_owned()), "{host}");
    }
    let underscore = Spoken::parse("order_service.nacos").unwrap();
    assert_eq!(underscore.label, Name::new("", "", "order_service").label());
    assert_eq!(underscore.literal, Name::new("", "", "order_service"));
    assert_eq!(Spoken::parse("Order.pay.dev.nacos").unwrap().literal, Name::new("dev", "pay", "Order"));
}

#[test]
fn hosts_that_mean_no_service_say_why() {
    let long = format!("{}.nacos", "a".repeat(HOST_MAX));
    for (host, reason) in [
        ("", NotSpoken::OtherDomain),
        ("nacos", NotSpoken::OtherDomain),
        ("order.default", NotSpoken::OtherDomain),
        (".nacos", NotSpoken::EmptyPart),
        ("a..nacos", NotSpoken::EmptyPart),
        ("a.b.c.d.nacos", NotSpoken::TooManyParts),
        ("a/b.nacos", NotSpoken::Character),
        ("ördér.nacos", NotSpoken::Character),
        (long.as_str(), NotSpoken::TooLong),
    ] {
        assert_eq!(Spoken::parse(host), Err(reason), "{host}");
    }
}

#[test]
fn grouped_names_are_taken_apart() {
    assert_eq!(Name::of_grouped("", "pay@@order"), Name::new("public", "pay", "order"));
    assert_eq!(Name::of_grouped("dev", "order"), Name::new("dev", DEFAULT_GROUP, "order"));
    assert_eq!(Name::new("", "", "a").tenant(), "");
    assert_eq!(Name::new("dev", "", "a").tenant(), "dev");
}

/// Texts that are likely to meet: few letters, dashes, what a label cannot hold, and what looks like our own endings.
fn texts() -> impl Strategy<Value = String> {
    let letter = prop::sample::select(vec!["a", "b", "A", "-", "--", "_", ".", ":", "é", "default", "public", "@@"]);
    prop_oneof![
        prop::collection::vec(letter, 0..6).prop_map(|letters| letters.concat()),
        "[a-c]{1,2}-[0-9a-f]{10}",
        "[ab-]{55,90}",
        any::<String>(),
    ]
}

fn names() -> impl Strategy<Value = Name> {
    (texts(), texts(), texts()).prop_map(|(namespace, group, service)| Name::new(&namespace, &group, &service))
}

proptest! {
    #[test]
    fn labels_are_two_dns_labels(name in names()) {
        for label in [name.label(), name.distinct_label()] {
            let (first, second) = label.split_once('.').unwrap();
            prop_assert!(is_dns_label(first) && is_dns_label(second), "{label}");
        }
    }

    #[test]
    fn names_that_differ_in_more_than_case_have_different_labels(
        (first, second) in prop_oneof![
            (names(), names()),
            // Groups of one namespace and services of one group meet more often than strangers.
            (names(), texts()).prop_map(|(name, other)| {
                (name.clone(), Name::new(name.namespace(), name.group(), &other))
            }),
            (names(), texts()).prop_map(|(name, other)| {
                (name.clone(), Name::new(name.namespace(), &other, name.service()))
            }),
            (names(), texts()).prop_map(|(name, other)| {
                (name.clone(), Name::new(&other, name.group(), name.service()))
            }),
        ],
    ) {
        let lower = |name: &Name| {
            let lower = str::to_ascii_lowercase;
            (lower(name.namespace()), lower(name.group()), lower(name.service()))
        };
        // A group of `public` may be called like a namespace; the book keeps the two apart.
        let is_group_only = |name: &Name| name.is_public() && !name.is_of_default_group();
        let is_namespace_only = |name: &Name| !name.is_public() && name.is_of_default_group();
        prop_assume!(lower(&first) != lower(&second));
        prop_assume!(!(is_group_only(&first) && is_namespace_only(&second)));
        prop_assume!(!(is_namespace_only(&first) && is_group_only(&second)));
        prop_assert_ne!(first.label(), second.label());
    }

    #[test]
    fn names_that_differ_have_different_distinct_labels(first in names(), second in names()) {
        prop_assume!(first != second);
        prop_assert_ne!(first.distinct_label(), second.distinct_label());
        prop_assert_ne!(first.distinct_label(), first.label());
    }

    #[test]
    fn the_host_of_a_name_means_its_label(name in names()) {
        prop_assert_eq!(Spoken::parse(&name.host()).map(|spoken| spoken.label), Ok(name.label()));
    }

    #[test]
    fn no_host_panics(host in prop_oneof![any::<String>(), texts().prop_map(|text| format!("{text}.nacos"))]) {
        if let Ok(spoken) = Spoken::parse(&host) {
            let (first, second) = spoken.label.split_once('.').unwrap();
            prop_assert!(is_dns_label(first) && is_dns_label(second));
            let _ = spoken.literal.label();
        }
    }

    #[test]
    fn names_survive_being_written(name in names()) {
        let text = serde_json::to_string(&name).unwrap();
        prop_assert_eq!(serde_json::from_str::<Name>(&text).unwrap(), name);
    }
}
