//! The eight services' ports: all bound before anything is started, so a taken one costs nothing but its message.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdListener};

use anyhow::{Result, bail};
use tokio::net::TcpListener;

use crate::house::{Addresses, Listeners};

/// The services in the order of their ports, from the gateway's on.
pub(crate) const SERVICES: [&str; 8] =
    ["gateway", "realtime", "router", "orchestrator", "analytics", "billing", "ingestion", "control"];

/// Binds `first` and the seven ports after it, the gateway's at `host` and the others' on loopback; the simulator
/// takes any free one.
pub(crate) fn bind(host: IpAddr, first: u16) -> Result<Listeners> {
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let (mut bound, mut taken) = (Vec::new(), Vec::new());
    for (port, name) in (first..).zip(SERVICES) {
        let ip = if name == SERVICES[0] { host } else { local };
        match weir_runtime::bind(SocketAddr::new(ip, port)) {
            Ok(listener) => bound.push(listener),
            Err(error) => taken.push(format!("{name}: {:#}", anyhow::Error::from(error))),
        }
    }
    let Ok([gateway, realtime, router, orchestrator, analytics, billing, ingestion, control]) =
        <[TcpListener; 8]>::try_from(bound)
    else {
        bail!("{}\nstop what is there, or choose other ports with --port", taken.join("\n"));
    };
    let simulator = weir_runtime::bind(SocketAddr::new(local, 0))?;
    Ok(Listeners {
        gateway,
        realtime,
        router,
        orchestrator,
        analytics,
        billing,
        ingestion,
        control,
        simulator,
    })
}

/// Where each service can be reached from this machine, in the order of their ports.
pub(crate) fn reachable(house: &Addresses) -> [(&'static str, SocketAddr); 8] {
    let all = [
        house.gateway,
        house.realtime,
        house.router,
        house.orchestrator,
        house.analytics,
        house.billing,
        house.ingestion,
        house.control,
    ];
    std::array::from_fn(|i| (SERVICES[i], callable(all[i])))
}

/// An unspecified address is listened on, not called.
fn callable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    address
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
        let (first, mut listeners) = (20_000..30_000)
            .step_by(8)
            .find_map(|first| Some((first, bind(Ipv4Addr::LOCALHOST.into(), first).ok()?)))
            .unwrap();
        assert_eq!(listeners.control.local_addr().unwrap().port(), first + 7);
        // Frees the first one.
        listeners.gateway = weir_runtime::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let error = bind(Ipv4Addr::LOCALHOST.into(), first).unwrap_err().to_string();
        assert!(error.contains(&format!("control: 127.0.0.1:{} is in use", first + 7)), "{error}");
        assert!(error.contains("realtime:") && !error.contains("gateway:"), "{error}");
        if cfg!(target_os = "linux") {
            assert!(error.contains(&std::process::id().to_string()), "{error}");
        }
    }

    #[test]
    fn what_listens_everywhere_is_called_on_loopback() {
        assert_eq!(callable("0.0.0.0:8000".parse().unwrap()).to_string(), "127.0.0.1:8000");
        assert_eq!(callable("192.0.2.1:8000".parse().unwrap()).to_string(), "192.0.2.1:8000");
    }
}
