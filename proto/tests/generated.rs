//! The committed code is what the `.proto` files say. Needs no protoc: protox compiles them in process.

use std::{fs, path::Path};

const GENERATED: &[&str] = &["mesh.v1.rs", "nacos.rs"];

fn generate(into: &Path) {
    let compile = |files: &[&str]| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let files = files.iter().map(|file| root.join(file));
        let descriptors = protox::compile(files, [root]).expect("the .proto files are valid");
        tonic_prost_build::configure()
            .out_dir(into)
            .emit_rerun_if_changed(false)
            .btree_map(".")
            .compile_fds(descriptors)
            .expect("code can be generated");
    };
    compile(&["mesh/v1/policy.proto", "mesh/v1/model.proto", "mesh/v1/transport.proto"]);
    // Services of Nacos stand in no package, and their calls begin in lower case, as no type of ours does.
    compile(&["nacos/nacos.proto"]);
    let nacos = fs::read_to_string(into.join("_.rs")).expect("code was generated");
    fs::remove_file(into.join("_.rs")).expect("a file that was read can be removed");
    let nacos = nacos.replace("requestBiStreamStream", "RequestBiStreamStream");
    fs::write(into.join("nacos.rs"), nacos).expect("a file can be written beside the others");
}

#[test]
fn committed_code_is_generated_from_the_proto_files() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gen");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        generate(&committed);
    }
    let fresh = tempfile::tempdir().expect("a temporary folder can be made");
    generate(fresh.path());
    for generated in GENERATED {
        let want = fs::read_to_string(fresh.path().join(generated)).expect("code was generated");
        let have = fs::read_to_string(committed.join(generated)).unwrap_or_default();
        assert!(
            want == have,
            "proto/src/gen/{generated} is older than the .proto files; \
             run: UPDATE_GENERATED=1 cargo test -p mesh-proto --test generated"
        );
    }
}
