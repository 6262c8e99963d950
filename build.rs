//! Compiles `proto/medusa.proto` without needing `protoc`.
//!
//! The client goes into the crate. The server half goes into a directory of its own that only the tests
//! include, for their stand-in of Medusa, so that the release carries none of it.

use std::{error::Error, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto/medusa.proto");
    let descriptors = protox::compile(["proto/medusa.proto"], ["proto"])?;
    tonic_prost_build::configure().build_server(false).compile_fds(descriptors.clone())?;

    let server = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?).join("server");
    std::fs::create_dir_all(&server)?;
    tonic_prost_build::configure().build_client(false).out_dir(server).compile_fds(descriptors)?;
    Ok(())
}
