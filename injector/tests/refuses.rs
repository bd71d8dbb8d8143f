//! The skeleton refuses to start.

use std::process::Command;

#[test]
fn it_says_that_it_cannot_inject_and_exits_with_2() {
    let output = Command::new(env!("CARGO_BIN_EXE_mesh-injector")).output().expect("the program can be started");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cannot inject sidecars yet"), "{said}");
}
