// SPDX-License-Identifier: MPL-2.0

//! `src/proto.rs` is what prost makes of `proto/cvmmap.proto`. After a change of the latter:
//! `UPDATE_PROTO=1 cargo test -p cvmmap-control --test generated`.

use std::path::Path;

const HEAD: &str = "// SPDX-License-Identifier: MPL-2.0\n\n\
                    // Made from proto/cvmmap.proto; tests/generated.rs says how.\n\n";

#[test]
fn the_committed_code_is_the_generated_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = protox::compile(["cvmmap.proto"], [root.join("proto")]).unwrap();
    let out = tempfile::tempdir().unwrap();
    prost_build::Config::new().out_dir(out.path()).compile_fds(files).unwrap();
    let generated = HEAD.to_owned() + &std::fs::read_to_string(out.path().join("cvmmap.proto.rs")).unwrap();
    let committed = root.join("src/proto.rs");
    if std::env::var_os("UPDATE_PROTO").is_some() {
        std::fs::write(&committed, &generated).unwrap();
    }
    assert!(std::fs::read_to_string(committed).unwrap() == generated, "src/proto.rs is not up to date");
}
