// SPDX-License-Identifier: MPL-2.0

//! `src/mcap/proto.rs` and `src/mcap/cvmmap_streamer.binpb` are what prost makes of `proto/cvmmap_streamer.proto`. After a
//! change of the latter: `UPDATE_PROTO=1 cargo test -p cvmmap-streamer --test generated`.

use std::path::Path;

use prost::Message;

const NAME: &str = "cvmmap_streamer.proto";
const HEAD: &str = "// SPDX-License-Identifier: MPL-2.0\n\n\
                    // Made from proto/cvmmap_streamer.proto; tests/generated.rs says how.\n\n";

#[test]
fn the_committed_code_and_descriptors_are_the_generated_ones() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = protox::compile([NAME], [root.join("proto")]).unwrap();
    let out = tempfile::tempdir().unwrap();
    let mut config = prost_build::Config::new();
    config.out_dir(out.path()).extern_path(".google.protobuf.Timestamp", "::foxglove::messages::Timestamp");
    config.compile_fds(files.clone()).unwrap();
    let code = HEAD.to_owned() + &std::fs::read_to_string(out.path().join("cvmmap_streamer.rs")).unwrap();
    // Comments stay in the source.
    files.file.iter_mut().for_each(|file| file.source_code_info = None);
    let descriptors = files.encode_to_vec();
    for (path, made) in
        [("src/mcap/proto.rs", code.into_bytes()), ("src/mcap/cvmmap_streamer.binpb", descriptors)]
    {
        let path = root.join(path);
        if std::env::var_os("UPDATE_PROTO").is_some() {
            std::fs::write(&path, &made).unwrap();
        }
        assert!(std::fs::read(&path).unwrap_or_default() == made, "{} is not up to date", path.display());
    }
}
