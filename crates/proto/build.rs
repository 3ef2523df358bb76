//! Generates the gRPC code from `/proto` without `protoc`.

use std::path::{Path, PathBuf};

fn protos(dir: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            protos(&path, found)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            found.push(path);
        }
    }
    found.sort();
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "cargo tells build scripts where to write by environment")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    // As cargo says it now: a program that was built for another work tree may be run for this one.
    let root = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    for sources in ["google", "weir"] {
        println!("cargo:rerun-if-changed={}", root.join(sources).display());
    }
    let mut files = Vec::new();
    protos(&root, &mut files)?;
    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_imports(true).include_source_info(true).open_files(&files)?;
    // As the compiler encodes them: only that keeps our own options.
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    let mut bare = protox::Compiler::new([&root])?;
    bare.include_imports(true).include_source_info(false).open_files(&files)?;
    std::fs::write(out.join("contract.bin"), bare.encode_file_descriptor_set())?;
    let mut descriptors = compiler.file_descriptor_set();
    descriptors.file.retain(|f| f.package() != "google.protobuf");
    // Their `Debug` is written by hand: it must not show secrets.
    let secretive = ["weir.control.v1.CreateApiKeyResponse"];
    // A server without a method answers UNIMPLEMENTED: whoever adds an RPC need not touch others' fakes of the service.
    tonic_prost_build::configure()
        .bytes(".")
        .skip_debug(secretive)
        .generate_default_stubs(true)
        .compile_fds(descriptors)?;
    Ok(())
}
