//! Keeps `/proto/descriptor.binpb`, the contract that others rely on: `make proto`.

use std::{path::Path, process::ExitCode};

const USAGE: &str = "usage: contract [--breaking]   (writes proto/descriptor.binpb)";

#[expect(clippy::print_stderr, reason = "a command says what it did")]
fn main() -> ExitCode {
    let breaking = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--breaking" => true,
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(breaking) {
        Ok(text) => {
            eprintln!("{text}");
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn run(breaking: bool) -> Result<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/descriptor.binpb");
    let new = weir_proto::CONTRACT;
    let old = match std::fs::read(&path) {
        Ok(old) => old,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    if old == new {
        return Ok("proto/descriptor.binpb is what /proto says".to_owned());
    }
    let breaks = weir_rest::compat::breaks(&old, new).map_err(|e| e.to_string())?;
    let list = |never: bool| {
        let of = breaks.iter().filter(move |b| b.never == never);
        of.map(|b| format!("  {}", b.what)).collect::<Vec<_>>().join("\n")
    };
    if breaks.iter().any(|b| b.never) {
        return Err(format!("This can never be taken:\n{}", list(true)));
    }
    if !breaks.is_empty() && !breaking {
        let list = list(false);
        return Err(format!(
            "This breaks services of the last version, stored events or clients:\n{list}\n\
             If that is meant (docs/adding-an-rpc.md, \"Breaking changes\"): make proto BREAKING=1"
        ));
    }
    std::fs::write(&path, new).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(format!(
        "wrote proto/descriptor.binpb{}",
        if breaks.is_empty() { "" } else { ", breaking on purpose" }
    ))
}
