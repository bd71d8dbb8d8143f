//! Failures that callers force.

use super::*;

#[test]
fn forced_failure_sends_the_request_on_without_asking_its_target_or_cooling_it() {
    Stage::run(async |stage| {
        stage.identify("a");
        stage.allow_drills("demo/a");
        let a = stage.target(vec![Say::answer(200, "application/json", &whole("a"))]).await;
        let served = Say::answer(200, "application/json", &whole("b"));
        let b = stage.target(vec![served.clone(), served]).await;
        stage.route(vec![target("a", a.address), target("b", b.address)], timers(8_000));
        for fault in ["auth", "connect@a"] {
            let answer = stage.drill(fault, WHOLE).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, whole("b").as_str()), "{fault}");
            assert_eq!(answer.field("x-mesh-model-attempts"), Some("2"));
        }
        assert!(a.seen().is_empty());
        assert!(b.seen().iter().all(|seen| !seen.head.contains("x-mesh-model-fault")), "{:?}", b.seen());
        assert_eq!((stage.drills("a"), stage.failures("a")), (vec!["auth", "connect"], Vec::new()));
        // Real requests still begin there.
        assert_eq!(stage.chat(WHOLE).await.body, whole("a"));
    });
}

#[test]
fn forced_failure_of_every_target_is_answered_as_a_real_one_and_says_that_it_was_forced() {
    Stage::run(async |stage| {
        stage.identify("a");
        stage.allow_drills("demo/*");
        let (a, b) = (stage.target(Vec::new()).await, stage.target(Vec::new()).await);
        stage.route(vec![target("a", a.address), target("b", b.address)], timers(8_000));
        for body in [WHOLE, STREAMED] {
            let answer = stage.drill("server, rate@b", body).await;
            assert_eq!((answer.status, answer.field("x-mesh-error")), (429, Some("model_rate")));
            assert_eq!(answer.field("x-mesh-model-drill"), Some("a=server, b=rate"));
            assert!(answer.body.contains("forced by x-mesh-model-fault"), "{}", answer.body);
            assert!(answer.field("retry-after").is_some());
        }
        assert_eq!(a.seen().len() + b.seen().len(), 0);
    });
}

#[test]
fn who_is_not_permitted_or_not_understood_is_told_so_and_no_target_is_asked() {
    Stage::run(async |stage| {
        let a = stage.target(Vec::new()).await;
        stage.route(vec![target("a", a.address)], timers(8_000));
        assert_eq!(stage.drill("rate", WHOLE).await.status, 403, "nobody is who has no identity");
        stage.identify("a");
        let answer = stage.drill("rate", WHOLE).await;
        assert_eq!((answer.status, answer.field("x-should-retry")), (403, Some("false")));
        assert!(answer.body.contains("drill_not_allowed"), "{}", answer.body);
        stage.allow_drills("demo/a");
        stage.route(vec![target("a", a.address)], timers(8_000));
        for fault in ["rates", "rate@b"] {
            let answer = stage.drill(fault, WHOLE).await;
            assert_eq!(answer.status, 400, "{fault}");
            assert!(answer.body.contains("drill_not_understood"), "{}", answer.body);
        }
        assert!(a.seen().is_empty());
    });
}
