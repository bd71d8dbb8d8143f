//! Behaviour of the module above, with the samples of `sample`.

use super::*;
use crate::model_route::sample::{model, target};

struct Line(&'static str);

impl Fields for Line {
    fn each<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8])) {
        if name == names::MODEL_FAULT_HEADER && !self.0.is_empty() {
            self.0.split('\n').for_each(|line| visit(line.as_bytes()));
        }
    }
}

fn two() -> VirtualModel {
    model(vec![target("small", 0), target("big", 1)])
}

fn tester() -> Identity {
    "spiffe://cluster.local/ns/shop/sa/tester".parse().unwrap()
}

fn read(text: &'static str) -> Result<Faults, NotForced> {
    let drill = Drill { allow: vec!["shop/tester".parse().unwrap()] };
    Faults::read(&Line(text), &drill, &two(), Some(&tester()))
}

/// What fails of `small` asked first and `big` asked then.
fn strikes(text: &'static str) -> (Option<Reason>, Option<Reason>) {
    let (faults, model) = (read(text).unwrap(), two());
    (faults.strikes(&model.targets[0], Turn::First), faults.strikes(&model.targets[1], Turn::Later))
}

#[test]
fn reason_alone_strikes_who_is_asked_first_and_a_name_whoever_has_it() {
    assert_eq!(strikes(""), (None, None));
    assert_eq!(strikes("rate"), (Some(Reason::Rate), None));
    assert_eq!(strikes("rate@big"), (None, Some(Reason::Rate)));
    assert_eq!(strikes("rate, connect@big"), (Some(Reason::Rate), Some(Reason::Connect)));
    assert_eq!(strikes("rate\nconnect@big"), (Some(Reason::Rate), Some(Reason::Connect)));
    assert_eq!(strikes("server@*"), (Some(Reason::Server), Some(Reason::Server)));
    assert_eq!(strikes("server@*,stall@small,rate"), (Some(Reason::Stall), Some(Reason::Server)));
    for reason in Reason::ALL {
        let name: &'static str = reason.as_str();
        assert_eq!(strikes(name).0, Some(reason));
    }
}

#[test]
fn what_means_nothing_is_said_and_nothing_is_forced() {
    let status = |text| read(text).map_err(|refused| refused.failure().status);
    assert_eq!(status("rates"), Err(400));
    assert_eq!(status("rate@huge"), Err(400));
    assert_eq!(status("rate@"), Err(400));
    assert_eq!(status("@small"), Err(400));
    assert_eq!(status("rate,server"), Err(400));
    assert_eq!(read("rate@huge").unwrap_err().to_string(), "\"huge\" is no target of this model; it has: small, big");
}

#[test]
fn who_is_not_allowed_learns_nothing_of_targets() {
    let refused =
        |drill: &Drill, caller: Option<&Identity>| Faults::read(&Line("rate@huge"), drill, &two(), caller).unwrap_err();
    let shop = Drill { allow: vec!["ai/*".parse().unwrap()] };
    let tester = tester();
    for drill in [Drill::default(), shop] {
        assert_eq!(refused(&drill, Some(&tester)), NotForced::Denied(tester.clone()));
        assert_eq!(refused(&drill, None), NotForced::Nobody);
        assert_eq!(refused(&drill, None).failure().status, 403);
    }
}

#[test]
fn forced_failure_has_the_status_of_a_real_one() {
    let status = |reason| forced(Dialect::Openai, reason).status;
    assert_eq!([Reason::Rate, Reason::Auth, Reason::Overloaded, Reason::Stall].map(status), [429, 401, 503, 504]);
    assert_eq!(forced(Dialect::Anthropic, Reason::Overloaded).status, 529);
    assert!(forced(Dialect::Openai, Reason::Connect).message.contains(names::MODEL_FAULT_HEADER));
}
