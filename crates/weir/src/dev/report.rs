//! What `weir dev` says once it is ready: to people on the terminal, to programs in `dev.json`.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    net::SocketAddr,
    path::Path,
    time::Duration,
};

use anyhow::Result;
use serde::Serialize;
use weir_types::TenantId;

use super::state::write_private;

/// `dev.json`: there while the house is ready, and gone when it stops.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub(crate) struct DevJson {
    pub(crate) gateway: String,
    pub(crate) api_key: String,
    pub(crate) admin_key: String,
    pub(crate) tenant_id: TenantId,
    /// The migrator's: it sees every tenant.
    pub(crate) database_url: String,
    /// The services': it sees one tenant at a time.
    pub(crate) app_database_url: String,
    pub(crate) nats_url: String,
    pub(crate) redis_url: Option<String>,
    pub(crate) simulator: String,
    pub(crate) pid: u32,
}

impl DevJson {
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        write_private(path, &text)
    }
}

/// How long things took, and what they hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    /// From the process's start.
    pub(crate) total: Duration,
    /// From the moment the databases were up.
    pub(crate) services: Duration,
    /// `None` where the system does not tell.
    pub(crate) resident_bytes: Option<u64>,
}

pub(crate) fn ready(
    dev: &DevJson,
    addresses: &[(&'static str, SocketAddr)],
    figures: Figures,
    file: &Path,
) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "\nWeir is ready after {} ms ({} ms with the databases up){}.\n",
        figures.total.as_millis(),
        figures.services.as_millis(),
        memory(figures)
    );
    for (name, address) in addresses {
        let _ = writeln!(text, "  {name:<13} http://{address}");
    }
    let _ = writeln!(text, "  {:<13} {}", "simulator", dev.simulator);
    let redis = if dev.redis_url.is_some() {
        "yes"
    } else {
        "none found: limits, sessions and caches are kept in memory"
    };
    let _ = writeln!(text, "  {:<13} {redis}\n", "redis");
    let _ = writeln!(text, "{}\n", curl(dev));
    let _ = writeln!(text, "Keys and addresses for programs: {}\nCtrl-C stops everything.", file.display());
    text
}

fn memory(figures: Figures) -> String {
    let mib = |bytes: u64| format!(", holding {} MiB without its databases", bytes >> 20);
    figures.resident_bytes.map(mib).unwrap_or_default()
}

/// Ready to paste.
fn curl(dev: &DevJson) -> String {
    format!(
        r#"curl -N {}/v1/chat/completions \
  -H "Authorization: Bearer {}" \
  -H "Content-Type: application/json" \
  -d '{{"model": "gpt-4o-mini", "stream": true, "messages": [{{"role": "user", "content": "Say hello"}}]}}'"#,
        dev.gateway, dev.api_key
    )
}

/// Prints to people. A closed terminal is no reason to stop.
pub(crate) fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dev() -> DevJson {
        DevJson {
            gateway: "http://127.0.0.1:8000".into(),
            api_key: "pk_live_x".into(),
            admin_key: "pk_admin_x".into(),
            tenant_id: TenantId::new(),
            database_url: "postgres://a".into(),
            app_database_url: "postgres://b".into(),
            nats_url: "nats://a".into(),
            redis_url: None,
            simulator: "http://127.0.0.1:9".into(),
            pid: 7,
        }
    }

    #[test]
    fn the_file_has_exactly_the_promised_keys_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dev.json");
        dev().write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let keys: Vec<&str> =
            text.lines().filter_map(|line| line.trim().strip_prefix('"')?.split('"').next()).collect();
        assert_eq!(
            keys,
            [
                "gateway",
                "api_key",
                "admin_key",
                "tenant_id",
                "database_url",
                "app_database_url",
                "nats_url",
                "redis_url",
                "simulator",
                "pid"
            ]
        );
        let read: DevJson = serde_json::from_str(&text).unwrap();
        assert_eq!((read.pid, read.redis_url), (7, None));
    }

    #[test]
    fn what_is_printed_can_be_pasted_and_says_what_is_missing() {
        let figures = Figures {
            total: Duration::from_millis(1500),
            services: Duration::from_millis(200),
            resident_bytes: Some(60 << 20),
        };
        let addresses = [("gateway", SocketAddr::from(([127, 0, 0, 1], 8000)))];
        let text = ready(&dev(), &addresses, figures, Path::new("/x/dev.json"));
        let body = text.split("-d '").nth(1).and_then(|rest| rest.split('\'').next()).unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((&body["model"], &body["stream"]), (&"gpt-4o-mini".into(), &true.into()));
        for part in [
            "1500 ms",
            "200 ms",
            "60 MiB",
            "Bearer pk_live_x",
            "in memory",
            "/x/dev.json",
            "http://127.0.0.1:8000",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("pk_admin"), "the admin key stays in the file");
    }
}
