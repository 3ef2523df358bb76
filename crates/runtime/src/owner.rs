//! Who listens on a port: Linux tells in `/proc` which socket and which process; elsewhere nobody is found.

use std::{
    fmt, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

/// State 0A of `/proc/net/tcp` is LISTEN (include/net/tcp_states.h).
const LISTEN: &str = "0A";

/// The process that has a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub pid: u32,
    pub command: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pid == std::process::id() {
            return write!(f, "this process itself (pid {})", self.pid);
        }
        write!(f, "{} (pid {})", self.command, self.pid)
    }
}

pub(crate) fn owner(addr: SocketAddr) -> Option<Owner> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| table.lines().filter_map(|line| listening_inode(line, addr)).collect::<Vec<_>>())
        .collect();
    let sockets: Vec<String> = inodes.into_iter().map(|inode| format!("socket:[{inode}]")).collect();
    if sockets.is_empty() {
        return None;
    }
    let pids = fs::read_dir("/proc").ok()?.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    let pid = pids.into_iter().find(|pid| holds(*pid, &sockets))?;
    Some(Owner { pid, command: command(pid) })
}

/// The inode in a line of the table, when it listens on this port at an address that conflicts.
fn listening_inode(line: &str, addr: SocketAddr) -> Option<String> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (ip, port) = fields.get(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    if *fields.get(3)? != LISTEN || port != addr.port() {
        return None;
    }
    let ip = parse_ip(ip)?;
    let conflicts = ip == addr.ip().to_canonical() || ip.is_unspecified() || addr.ip().is_unspecified();
    conflicts.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
}

/// Hexadecimal words, each in the machine's byte order.
fn parse_ip(hex: &str) -> Option<IpAddr> {
    let word = |i: usize| Some(u32::from_str_radix(hex.get(i * 8..i * 8 + 8)?, 16).ok()?.to_ne_bytes());
    if hex.len() == 8 {
        return Some(Ipv4Addr::from(word(0)?).into());
    }
    let mut bytes = [0; 16];
    for i in 0..4 {
        bytes[i * 4..i * 4 + 4].copy_from_slice(&word(i)?);
    }
    Some(IpAddr::from(Ipv6Addr::from(bytes)).to_canonical())
}

fn holds(pid: u32, sockets: &[String]) -> bool {
    let Ok(fds) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    fds.flatten().any(|fd| {
        fs::read_link(fd.path())
            .is_ok_and(|link| link.to_str().is_some_and(|l| sockets.iter().any(|s| s == l)))
    })
}

/// The program's name and its first argument: enough to know it, without secrets further along the line.
fn command(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut args = line.split(|b| *b == 0).filter(|a| !a.is_empty()).map(String::from_utf8_lossy);
    let program = args.next().unwrap_or_default();
    let name = Path::new(&*program).file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    match args.next() {
        _ if name.is_empty() => "a process".to_owned(),
        Some(first) if !first.starts_with('-') && first.len() <= 64 => format!("{name} {first}"),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernels_table_is_read() {
        let line = "   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 54321 1 0 100";
        let at = |s: &str| listening_inode(line, s.parse().unwrap());
        if cfg!(target_endian = "little") {
            assert_eq!(at("127.0.0.1:8000").as_deref(), Some("54321"));
            assert_eq!(at("0.0.0.0:8000").as_deref(), Some("54321"), "any address conflicts");
            assert_eq!(at("127.0.0.2:8000"), None);
        }
        assert_eq!(at("127.0.0.1:8001"), None);
        assert_eq!(listening_inode(&line.replace(" 0A ", " 01 "), "0.0.0.0:8000".parse().unwrap()), None);
    }
}
