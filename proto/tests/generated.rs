//! The committed code is what the `.proto` files say. Needs no protoc: protox compiles them in process.

use std::{fs, path::Path};

const GENERATED: &str = "mesh.v1.rs";

fn generate(into: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = ["mesh/v1/policy.proto", "mesh/v1/transport.proto"].map(|file| root.join(file));
    let descriptors = protox::compile(files, [root]).expect("the .proto files are valid");
    tonic_prost_build::configure()
        .out_dir(into)
        .emit_rerun_if_changed(false)
        .btree_map(".")
        .compile_fds(descriptors)
        .expect("code can be generated");
}

#[test]
fn committed_code_is_generated_from_the_proto_files() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gen");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        generate(&committed);
    }
    let fresh = tempfile::tempdir().expect("a temporary folder can be made");
    generate(fresh.path());
    let want = fs::read_to_string(fresh.path().join(GENERATED)).expect("code was generated");
    let have = fs::read_to_string(committed.join(GENERATED)).unwrap_or_default();
    assert!(
        want == have,
        "proto/src/gen/{GENERATED} is older than the .proto files; \
         run: UPDATE_GENERATED=1 cargo test -p mesh-proto --test generated"
    );
}
