//! The monitoring that ships, against a house that runs: a real Prometheus with our configuration and rules scrapes it,
//! and every query of the dashboards, alerts and runbooks has an answer.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
};
use weir_e2e::{
    http::{Http, PATIENCE},
    wait::until,
};
use weir_testkit::ports;

use crate::watched::Watched;

/// What `promtool check metrics` may say: names that were promised before they were linted.
const ALLOWED_LINTS: [&str; 1] =
    ["router_decision_latency_ms metric names should not contain abbreviated units"];

/// Queries that have no answer in a house where all is well, and why.
const EMPTY_WHEN_WELL: [(&str, &str); 0] = [];

fn monitoring() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/monitoring")
}

/// Debian's package `prometheus` has both. CI has to.
fn tools() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |tool: &str| std::env::split_paths(&path).any(|folder| folder.join(tool).is_file());
    let all = ["prometheus", "promtool", "jq", "curl"].iter().all(|tool| there(tool));
    if !all {
        assert!(std::env::var_os("CI").is_none(), "CI needs prometheus, promtool, jq and curl");
        eprintln!("SKIPPED: prometheus, promtool, jq or curl is not there");
    }
    all
}

async fn run(program: &str, args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).await.unwrap();
    child.wait_with_output().await.unwrap()
}

#[tokio::test]
async fn configuration_and_rules_are_sound() {
    if !tools() {
        return;
    }
    let folder = monitoring();
    let file = |name: &str| folder.join(name).display().to_string();
    for args in [
        ["check", "config", &file("prometheus.yml")],
        ["check", "config", &file("prometheus.dev.yml")],
        ["test", "rules", &file("tests/alerts.yml")],
    ] {
        let output = run("promtool", &args, b"").await;
        assert!(output.status.success(), "{args:?}: {output:?}");
    }
}

#[test]
fn every_alert_has_its_runbook_and_its_test() {
    let folder = monitoring();
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let (alerts, tests) = (read("rules/alerts.yml"), read("tests/alerts.yml"));
    let names: Vec<_> = alerts.lines().filter_map(|l| l.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() >= 10, "{names:?}");
    for name in names {
        assert!(
            alerts.contains(&format!("runbook_url: https://weir.dev/docs/runbooks/{name}.md\n")),
            "{name}"
        );
        assert!(runbooks().join(format!("{name}.md")).is_file(), "docs/runbooks/{name}.md is not there");
        assert!(tests.contains(&format!("alertname: {name}\n")), "{name} has no test");
    }
}

fn runbooks() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/runbooks")
}

/// A Prometheus with the configuration that ships, its targets this house's, its clock faster. Ends when dropped.
struct Prometheus {
    http: Http,
    url: String,
    _child: Child,
    folder: TempDir,
}

impl Prometheus {
    fn start(watched: &Watched) -> Self {
        let folder = TempDir::with_prefix("weir-prometheus-").unwrap();
        let mut config = fs::read_to_string(monitoring().join("prometheus.yml")).unwrap();
        for (name, port) in watched.ports() {
            let start = config.find(&format!("[\"{name}:")).unwrap_or_else(|| panic!("{name} is no target"));
            let end = start + config[start..].find(']').unwrap();
            config.replace_range(start..end, &format!("[\"127.0.0.1:{port}\""));
        }
        config = config.replace("15s", "1s").replace("scrape_timeout: 10s", "scrape_timeout: 1s");
        config = config.replace("rules/", &monitoring().join("rules/").display().to_string());
        fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        let address = format!("127.0.0.1:{}", ports::free(1).unwrap());
        let child = Command::new("prometheus")
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address={address}"))
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let url = format!("http://{address}");
        Self { http: Http::at(&url), url, _child: child, folder }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    async fn api(&self, path: &str) -> Result<Value> {
        let answer = self.http.get(path).await?;
        ensure!(answer.status == 200, "{path}: {answer:?} {}", self.log());
        Ok(answer.json()["data"].clone())
    }

    /// The samples of a query.
    async fn query(&self, expr: &str) -> Result<Vec<Value>> {
        let data = self.api(&format!("/api/v1/query?query={}", escaped(expr))).await?;
        data["result"].as_array().cloned().context("no vector")
    }

    async fn all_up(&self) {
        let wait = until("prometheus has scraped all eight services", PATIENCE, async || {
            let up = self.query(r#"up{job="weir"} == 1"#).await?;
            ensure!(up.len() == 8, "{up:?}: {}", self.api("/api/v1/targets").await?);
            Ok(())
        });
        wait.await.unwrap();
    }
}

fn escaped(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// A little of everything that the dashboards show.
async fn traffic(watched: &Watched) -> Result<()> {
    let client = watched.client();
    let chat = |model: &str, stream: bool| json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "hi"}]});
    for _ in 0..3 {
        client.get("/v1/models").await?;
        client.post("/v1/chat/completions", &chat("gpt-4o-mini", false)).await?;
        client.post("/v1/chat/completions", &chat("auto", false)).await?;
        client.stream("/v1/chat/completions", &chat("gpt-4o-mini", true)).await?.all().await?;
        Http::at(&watched.dev.gateway).with_key("pk_live_wrong").get("/v1/models").await?;
        let mut failing = chat("gpt-4o-mini", false);
        failing["x_sim"] = json!({"status": 500});
        client.post("/v1/chat/completions", &failing).await?;
    }
    Ok(())
}

/// `(where, query)` of every panel of every dashboard.
fn dashboard_queries() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(monitoring().join("grafana/dashboards")).unwrap() {
        let path = entry.unwrap().path();
        let board: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for panel in board["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let at =
                    format!("{}: {}", board["title"].as_str().unwrap(), panel["title"].as_str().unwrap());
                let expr = target["expr"].as_str().unwrap().replace("$__rate_interval", "30s");
                all.push((at, expr));
            }
        }
    }
    assert!(all.len() > 40, "{} queries found", all.len());
    all
}

/// Numbers, not merely the absence of any.
fn is_answer(samples: &[Value]) -> bool {
    samples.iter().any(|s| s["value"][1].as_str().is_some_and(|v| v != "NaN"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_that_ships_has_an_answer() {
    if !tools() {
        return;
    }
    let watched = Watched::start(&[]).await;
    let prometheus = Prometheus::start(&watched);
    prometheus.all_up().await;

    let queries = dashboard_queries();
    // One of the provider's answers in five failed, one request in six was refused: figures, not only their absence.
    let figures = [
        "provider_error_rate > 0.05 < 0.5",
        "http_error_rate > 0.05 < 0.5",
        r#"sum(rate(provider_requests_total{outcome="failed"}[30s])) > 0"#,
        r#"sum(rate(errors_total{code="invalid_api_key"}[30s])) > 0"#,
        r#"cache_hit_rate{cache="keys"} > 0.5"#,
    ];
    let mut open: BTreeMap<_, _> = queries.iter().map(|(at, expr)| (expr.as_str(), at.as_str())).collect();
    open.retain(|expr, _| !EMPTY_WHEN_WELL.iter().any(|(empty, _)| empty == expr));
    let rules = prometheus.api("/api/v1/rules").await.unwrap();
    let rules: Vec<Value> = rules["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|g| g["rules"].as_array().unwrap().clone())
        .collect();
    // An alert that is silent looks like one whose series are not there: what it reads is asked for without its bound.
    let inputs: Vec<(String, String)> = rules
        .iter()
        .filter(|r| r["type"] == "alerting")
        .map(|r| (input(r["query"].as_str().unwrap()), format!("alert {}", r["name"].as_str().unwrap())))
        .collect();
    open.extend(figures.map(|expr| (expr, "a figure")));
    open.extend(inputs.iter().map(|(expr, at)| (expr.as_str(), at.as_str())));
    let waiting = until("every query has an answer", PATIENCE, async || {
        traffic(&watched).await?;
        let mut left = BTreeMap::new();
        for (expr, at) in std::mem::take(&mut open) {
            let samples = prometheus.query(expr).await?;
            if !is_answer(&samples) {
                left.insert(expr, at);
            }
        }
        open = left;
        ensure!(open.is_empty(), "no answer: {open:#?}");
        Ok(())
    });
    waiting.await.unwrap();
    println!("{} queries of dashboards and {} alerts have answers", queries.len(), inputs.len());

    let rules = prometheus.api("/api/v1/rules").await.unwrap().to_string();
    assert!(!rules.contains("\"health\":\"err\""), "{rules}");
    let warnings: Vec<_> =
        prometheus.log().lines().filter(|l| l.contains("level=error")).map(str::to_owned).collect();
    assert!(warnings.is_empty(), "{warnings:?}");
    metrics_are_well_formed(&watched).await;
    runbooks_work(&watched, &prometheus).await;
    watched.end().await;
}

/// An alert's expression without its comparison: `x > 3` reads `x`.
fn input(expr: &str) -> String {
    let end = expr.rfind(" > ").or_else(|| expr.rfind(" < ")).or_else(|| expr.rfind(" == "));
    expr[..end.unwrap_or(expr.len())].to_owned()
}

async fn metrics_are_well_formed(watched: &Watched) {
    for (name, port) in watched.ports() {
        let metrics = Http::at(&format!("http://127.0.0.1:{port}")).get("/metrics").await.unwrap();
        let output = run("promtool", &["check", "metrics"], &metrics.body).await;
        let said =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        let lints: Vec<_> = said.lines().filter(|l| !l.is_empty() && !ALLOWED_LINTS.contains(l)).collect();
        assert!(lints.is_empty(), "{name}: {lints:#?}");
    }
}

/// The commands of every runbook, run as they stand.
async fn runbooks_work(watched: &Watched, prometheus: &Prometheus) {
    let mut ran = 0;
    for entry in fs::read_dir(runbooks()).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for block in text.split("```sh\n").skip(1).map(|b| b.split("```").next().unwrap()) {
            let mut bash = Command::new("bash");
            bash.args(["-eu", "-o", "pipefail", "-c", block]).current_dir(watched.house.data());
            bash.env("PROMETHEUS", &prometheus.url).env("ADMIN", &watched.dev.admin_key);
            for (name, port) in watched.ports() {
                bash.env(name.to_uppercase(), format!("http://127.0.0.1:{port}"));
            }
            let output = bash.output().await.unwrap();
            // A grep that finds nothing is an answer too.
            let fine = output.status.success() || (block.contains("grep") && output.status.code() == Some(1));
            assert!(fine, "{}: {block}\n{output:?}", path.display());
            ran += 1;
        }
    }
    assert!(ran >= 13, "only {ran} commands found");
}
