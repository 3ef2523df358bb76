//! Whether NATS keeps what it acknowledges: `sync_interval` is the server's own setting, and only its monitoring
//! endpoint tells. Asked once a process, when NATS is first there.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::Uri;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use weir_events::{Bus, NatsConfig};
use weir_runtime::Shutdown;

const PATIENCE: Duration = Duration::from_secs(3);
const MONITOR_PORT: u16 = 8222;
const MAX_ANSWER: u64 = 1 << 20;

/// Done once a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checked;

/// The part of `/jsz` that says how JetStream is set up.
#[derive(Debug, Deserialize)]
struct JetStream {
    config: Setup,
}

#[derive(Debug, Deserialize)]
struct Setup {
    #[serde(default)]
    sync_always: bool,
}

pub(crate) async fn check(config: NatsConfig, bus: Bus, shutdown: Shutdown) {
    let mut link = bus.link();
    tokio::select! {
        up = link.wait_for(|link| link.up) => if up.is_err() { return },
        () = shutdown.cancelled() => return,
    }
    drop(link);
    let asked = timeout(PATIENCE, syncs_always(&config)).await.context("no answer").flatten();
    match asked {
        Ok(true) => tracing::debug!("nats syncs every acknowledged event"),
        Ok(false) => tracing::warn!(
            "nats acknowledges events before they are on its disk: a machine that fails loses them; \
             set `sync_interval: always` in its jetstream section, as deploy/nats/nats.conf does"
        ),
        Err(error) => tracing::warn!(
            error = format!("{error:#}"),
            "cannot tell whether nats syncs acknowledged events: set nats.monitor_url to its monitoring endpoint"
        ),
    }
}

async fn syncs_always(config: &NatsConfig) -> Result<bool> {
    let uri = monitor(config)?;
    let (host, port) = (uri.host().context("no host")?, uri.port_u16().unwrap_or(80));
    let path = format!("{}/jsz?config=true", uri.path().trim_end_matches('/'));
    let mut stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
    let head = format!("GET {path} HTTP/1.0\r\nhost: {host}:{port}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    read(&String::from_utf8_lossy(&answer))
}

/// HTTP/1.0, so that the body is all there is after the head.
fn read(answer: &str) -> Result<bool> {
    let (head, body) = answer.split_once("\r\n\r\n").context("not an HTTP answer")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    ensure!(status == "200", "the monitoring endpoint answers {status}");
    let setup: JetStream = serde_json::from_str(body).context("not the answer of a NATS server")?;
    Ok(setup.config.sync_always)
}

fn monitor(config: &NatsConfig) -> Result<Uri> {
    let of_server = || {
        let url = config.url.expose_secret().split(',').next().unwrap_or_default().trim();
        let address = url.split_once("://").map_or(url, |(_, rest)| rest);
        let address = address.rsplit_once('@').map_or(address, |(_, host)| host);
        let host = address.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
        format!("http://{}:{MONITOR_PORT}", host.map_or(address, |(host, _)| host))
    };
    let url = config.monitor_url.clone().unwrap_or_else(of_server);
    let uri: Uri = url.parse().context("nats.monitor_url is no URL")?;
    ensure!(uri.scheme_str() == Some("http"), "nats.monitor_url must be of the form http://host:port");
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_answer_is_read() {
        let answer = |body: &str| read(&format!("HTTP/1.0 200 OK\r\nx: y\r\n\r\n{body}"));
        assert!(
            answer(r#"{"memory":0,"config":{"sync_interval":120000000000,"sync_always":true}}"#).unwrap()
        );
        assert!(!answer(r#"{"config":{"sync_interval":120000000000}}"#).unwrap());
        assert!(answer("{}").is_err());
        assert!(read("HTTP/1.0 404 Not Found\r\n\r\n").unwrap_err().to_string().contains("404"));
    }

    #[test]
    fn the_endpoint_is_the_first_servers_unless_told() {
        let at = |url: &str, monitor: Option<&str>| {
            let monitor_url = monitor.map(str::to_owned);
            let config = NatsConfig { url: url.into(), monitor_url, ..NatsConfig::default() };
            monitor_of(&config)
        };
        assert_eq!(at("nats://u:p@nats-0:4222,nats://nats-1:4222", None), "http://nats-0:8222/");
        assert_eq!(at("nats", None), "http://nats:8222/");
        assert_eq!(at("nats://[::1]:4222", None), "http://[::1]:8222/");
        assert_eq!(at("nats://x", Some("http://monitor:9")), "http://monitor:9/");
    }

    fn monitor_of(config: &NatsConfig) -> String {
        monitor(config).unwrap().to_string()
    }

    #[tokio::test]
    async fn a_real_server_is_asked() {
        for (jetstream, expected) in [("sync_interval: always", true), ("", false)] {
            let nats = weir_testkit::Nats::with_config(jetstream).await.unwrap();
            let config = NatsConfig { monitor_url: Some(nats.monitor_url()), ..NatsConfig::default() };
            assert_eq!(syncs_always(&config).await.unwrap(), expected, "{jetstream}");
        }
    }
}
