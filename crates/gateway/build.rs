//! Takes the two files of Swagger UI that `/docs` needs out of its archive. An archive holds them deflated, and so does a
//! gzip file: only the frame around them is exchanged, nothing is unpacked.

use std::{fs, io, path::PathBuf};

const FILES: [(&str, &str); 2] = [
    ("/dist/swagger-ui-bundle.js", "swagger-ui-bundle.js.gz"),
    ("/dist/swagger-ui.css", "swagger-ui.css.gz"),
];
const DIRECTORY_ENTRY: [u8; 4] = *b"PK\x01\x02";
const DEFLATED: u16 = 8;

#[expect(clippy::disallowed_methods, reason = "cargo tells build scripts where to write by environment")]
fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(std::env::var("OUT_DIR").map_err(io::Error::other)?);
    let archive = utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
    for (suffix, name) in FILES {
        let file =
            gzip(archive, suffix).ok_or_else(|| io::Error::other(format!("no {suffix} in the archive")))?;
        fs::write(out.join(name), file)?;
    }
    Ok(())
}

/// The file whose path ends so, as gzip. Offsets are those of PKWARE's APPNOTE 4.3.7 and 4.3.12.
fn gzip(archive: &[u8], suffix: &str) -> Option<Vec<u8>> {
    let entry = entries(archive).find(|entry| {
        let length = usize::from(u16_at(entry, 28).unwrap_or(0));
        entry.get(46..46 + length).is_some_and(|path| path.ends_with(suffix.as_bytes()))
    })?;
    if u16_at(entry, 10)? != DEFLATED {
        return None;
    }
    let (crc, size) = (entry.get(16..20)?, entry.get(24..28)?);
    let (packed, local) = (u32_at(entry, 20)?, archive.get(u32_at(entry, 42)?..)?);
    let start = 30 + usize::from(u16_at(local, 26)?) + usize::from(u16_at(local, 28)?);
    let data = local.get(start..start + packed)?;
    // RFC 1952: no name, no time, an unknown system.
    let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    Some([&head, data, crc, size].concat())
}

/// The archive from each entry of its directory on.
fn entries(archive: &[u8]) -> impl Iterator<Item = &[u8]> {
    let places = archive.windows(4).enumerate().filter(|(_, bytes)| *bytes == DIRECTORY_ENTRY);
    places.filter_map(|(at, _)| archive.get(at..))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)).ok()
}
