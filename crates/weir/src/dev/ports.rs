//! The eight services' ports: all bound before anything is started, so a taken one costs nothing but its message.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdListener};

use anyhow::{Result, bail};
use weir_service::{Doors, Name, Service};

use crate::SERVICES;

/// Binds `first` and the seven ports after it, the gateway's at `host` and the others' on loopback.
pub(crate) fn bind(host: IpAddr, first: u16) -> Result<Vec<(Service, Doors)>> {
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let (mut bound, mut taken) = (Vec::new(), Vec::new());
    for (port, service) in (first..).zip(SERVICES) {
        let ip = if service.name == Name::Gateway { host } else { local };
        match weir_runtime::bind(SocketAddr::new(ip, port)) {
            Ok(listener) => bound.push((service, Doors::one(listener))),
            Err(error) => taken.push(format!("{}: {:#}", service.name, anyhow::Error::from(error))),
        }
    }
    if !taken.is_empty() {
        bail!("{}\nstop what is there, or choose other ports with --port", taken.join("\n"));
    }
    Ok(bound)
}

/// A port of this machine that nobody uses now. Somebody may before the caller does: callers try again.
pub(crate) fn free_port() -> Result<u16> {
    Ok(StdListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

pub(crate) fn is_free(port: u16) -> bool {
    StdListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_taken_port_is_named_with_who_has_it() {
        // Eight in a row are looked for: others of this machine take ports too.
        let (first, mut doors) = (20_000..30_000)
            .step_by(8)
            .find_map(|first| Some((first, bind(Ipv4Addr::LOCALHOST.into(), first).ok()?)))
            .unwrap();
        assert_eq!(doors[7].1.service.local_addr().unwrap().port(), first + 7);
        drop(doors.remove(0));
        let error = bind(Ipv4Addr::LOCALHOST.into(), first).err().unwrap().to_string();
        assert!(error.contains(&format!("control: 127.0.0.1:{} is in use", first + 7)), "{error}");
        assert!(error.contains("realtime:") && !error.contains("gateway:"), "{error}");
        if cfg!(target_os = "linux") {
            assert!(error.contains(&std::process::id().to_string()), "{error}");
        }
    }
}
