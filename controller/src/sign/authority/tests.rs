//! Tests of the authority.

use super::*;

const DOMAIN: &str = "cluster.local";

fn open(paths: &Paths) -> Result<Authority, AuthorityError> {
    Authority::open_or_create(paths, DOMAIN, "lanemesh")
}

fn identity() -> Identity {
    Identity::new(DOMAIN, "demo", "b").unwrap()
}

fn own(authority: &Authority, life: Duration) -> Leaf {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    authority.sign_own(&identity(), &key, life).unwrap()
}

#[test]
fn replicas_that_start_at_once_share_one_authority() {
    let folder = tempfile::tempdir().unwrap();
    let anchors: Vec<_> = std::thread::scope(|scope| {
        let starts: Vec<_> =
            (0..6).map(|_| scope.spawn(|| open(&Paths::in_directory(folder.path())).unwrap().anchors)).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert!(anchors.iter().all(|found| *found == anchors[0]));
}

#[test]
fn a_start_that_was_cut_short_is_completed() {
    let folder = tempfile::tempdir().unwrap();
    let paths = Paths::in_directory(folder.path());
    let first = open(&paths).unwrap();
    std::fs::remove_file(&paths.issuer.certificate).unwrap();
    std::fs::remove_file(&paths.trust_bundle).unwrap();
    assert_eq!(open(&paths).unwrap().anchors, first.anchors);
}

#[test]
fn a_leaf_never_outlives_its_issuer() {
    let folder = tempfile::tempdir().unwrap();
    let authority = open(&Paths::in_directory(folder.path())).unwrap();
    let leaf = own(&authority, ISSUER_LIFE * 2);
    assert!(leaf.not_after <= authority.not_after());
    let short = own(&authority, Duration::from_secs(60));
    assert!(short.not_after <= SystemTime::now() + Duration::from_secs(60));
}

#[test]
fn an_issuer_is_renewed_with_the_same_root_when_a_third_of_its_life_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let paths = Paths::in_directory(folder.path());
    let authority = open(&paths).unwrap();
    let now = SystemTime::now();
    assert!(!authority.is_near_end(now));
    assert!(authority.is_near_end(now + ISSUER_LIFE * 3 / 4));
    renew_issuer(&paths, paths.root.as_ref().unwrap(), DOMAIN).unwrap();
    let renewed = open(&paths).unwrap();
    assert_ne!(renewed.chain, authority.chain);
    assert_eq!(renewed.anchors, authority.anchors);
}

#[test]
fn files_that_do_not_fit_together_are_named() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (paths, foreign) = (Paths::in_directory(folder.path()), Paths::in_directory(other.path()));
    open(&paths).unwrap();
    open(&foreign).unwrap();
    let refused = |paths: &Paths| Authority::open(paths, "lanemesh").err().unwrap().to_string();
    let with = |change: fn(&mut Paths, Paths)| {
        let mut mixed = paths.clone();
        change(&mut mixed, foreign.clone());
        refused(&mixed)
    };
    assert!(with(|mixed, foreign| mixed.issuer.key = foreign.issuer.key).contains("is not the key"));
    assert!(with(|mixed, foreign| mixed.issuer = foreign.issuer).contains("signed the issuer"));
    assert!(with(|mixed, foreign| mixed.trust_bundle = foreign.issuer.key).contains("holds no certificate"));
    assert!(with(|mixed, _| mixed.issuer.key = mixed.trust_bundle.clone()).contains("holds no P-256 key"));
    assert!(with(|mixed, _| mixed.trust_bundle = "/nonexistent".into()).contains("/nonexistent"));
}
