//! Opening a listener, with an error that says who has the port.

use std::{io, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

use crate::owner::{Owner, owner};

/// Connections the kernel holds for us while we are busy.
const BACKLOG: u32 = 4096;

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("{addr} is in use{}", by(owner.as_ref()))]
    InUse { addr: SocketAddr, owner: Option<Owner> },
    #[error("may not listen on {addr}: ports below 1024 need a privilege")]
    Denied { addr: SocketAddr },
    #[error("cannot listen on {addr}")]
    Io { addr: SocketAddr, source: io::Error },
}

fn by(owner: Option<&Owner>) -> String {
    owner.map(|o| format!(" by {o}")).unwrap_or_default()
}

/// Listens on `addr`; port 0 takes a free one. Must be called inside a Tokio runtime.
///
/// # Errors
/// A taken port names its owner where the system tells (Linux, and a process we may look at).
pub fn bind(addr: SocketAddr) -> Result<TcpListener, BindError> {
    listen(addr).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { addr, owner: owner(addr) },
        io::ErrorKind::PermissionDenied => BindError::Denied { addr },
        _ => BindError::Io { addr, source },
    })
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // On Unix: may bind while old connections linger in TIME_WAIT. On Windows it would share the port.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}
