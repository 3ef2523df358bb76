//! The figures: as a table, as JSON, and beside earlier ones.

use std::{collections::BTreeMap, path::Path, process::Command};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::load::Kind;

/// One run of the bench.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) commit: String,
    pub(crate) machine: Machine,
    pub(crate) requests: u64,
    pub(crate) rounds: usize,
    pub(crate) connections: usize,
    pub(crate) rows: Vec<Row>,
    pub(crate) frontier: Vec<Frontier>,
    #[serde(default)]
    pub(crate) streams: Vec<Streams>,
}

/// Many streams at once, each of which gets a token now and then.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Streams {
    pub(crate) system: String,
    pub(crate) streams: usize,
    /// Tokens that should have come.
    pub(crate) tokens: usize,
    pub(crate) lost: usize,
    /// That came later than the next one was due.
    pub(crate) late: usize,
    /// From being sent by the upstream to being read by the client.
    pub(crate) delay_p50_us: f64,
    pub(crate) delay_p99_us: f64,
    pub(crate) delay_max_us: f64,
    /// Of the system's processes, a token.
    pub(crate) cpu_us_per_token: f64,
    /// Resident memory that one more open stream takes; negative when the system gave some back meanwhile.
    pub(crate) bytes_per_stream: f64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) system: String,
    pub(crate) kind: Kind,
    pub(crate) requests_per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p95_us: f64,
    pub(crate) p99_us: f64,
    /// Until the first byte of the body.
    pub(crate) first_p50_us: f64,
    pub(crate) first_p99_us: f64,
    /// Of the system's processes, a request.
    pub(crate) cpu_us: f64,
    /// The same a relayed token.
    pub(crate) cpu_us_per_token: Option<f64>,
    /// Of the services behind it (billing, analytics …), which count what was used.
    pub(crate) behind_cpu_us: Option<f64>,
    /// Resident, of the system's processes, after the load.
    pub(crate) memory_bytes: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Frontier {
    pub(crate) system: String,
    /// Requests a second at which p99 stayed below the limit; none when it never did.
    pub(crate) within: BTreeMap<String, Option<f64>>,
    pub(crate) steps: Vec<Point>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) connections: usize,
    pub(crate) requests_per_second: f64,
    pub(crate) p99_us: f64,
}

impl Report {
    pub(crate) fn new(requests: u64, rounds: usize, connections: usize) -> Self {
        Self {
            commit: commit(),
            machine: Machine::here(),
            requests,
            rounds,
            connections,
            rows: Vec::new(),
            frontier: Vec::new(),
            streams: Vec::new(),
        }
    }

    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is no report", path.display()))
    }

    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        if path.exists() {
            std::fs::rename(path, path.with_file_name("previous.json"))?;
        }
        std::fs::write(path, serde_json::to_string_pretty(self)? + "\n")?;
        Ok(())
    }

    fn row(&self, system: &str, kind: Kind) -> Option<&Row> {
        self.rows.iter().find(|r| r.system == system && r.kind == kind)
    }

    /// One system's throughput over another's.
    fn throughput(&self, kind: Kind, system: &str, over: &str) -> Option<f64> {
        Some(self.row(system, kind)?.requests_per_second / self.row(over, kind)?.requests_per_second)
    }

    /// One system's CPU a request over another's.
    fn cpu(&self, kind: Kind, system: &str, over: &str) -> Option<f64> {
        Some(self.row(system, kind)?.cpu_us / self.row(over, kind)?.cpu_us)
    }

    /// What the design's goals are stated in. Absent where a system did not run.
    fn ratios(&self) -> Vec<(String, Option<f64>)> {
        let mut ratios = Vec::new();
        for kind in Kind::ALL {
            let name = kind.name();
            ratios.push((format!("{name}: plain / floor"), self.throughput(kind, "plain", "floor")));
            ratios.push((format!("{name}: governed / plain"), self.throughput(kind, "governed", "plain")));
            ratios.push((format!("{name}: governed / floor"), self.throughput(kind, "governed", "floor")));
            let cpu = |over| self.cpu(kind, "translated", over);
            ratios.push((format!("{name}: translated / governed, CPU"), cpu("governed")));
            ratios.push((format!("{name}: split / governed, CPU"), self.cpu(kind, "split", "governed")));
        }
        ratios
    }

    #[expect(clippy::print_stdout, reason = "the report")]
    pub(crate) fn print(&self, baseline: Option<&Self>) {
        let Machine { cpu, cores } = &self.machine;
        println!("{cores} cores of {cpu}, shared with load generator and upstream; commit {}", self.commit);
        for kind in Kind::ALL {
            println!(
                "\n{:<10} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9} {:>8} {:>9} {:>8}",
                kind.name(),
                "req/s",
                "p50 µs",
                "p95 µs",
                "p99 µs",
                "first p50",
                "first p99",
                "cpu µs",
                "behind µs",
                "MiB"
            );
            for r in self.rows.iter().filter(|r| r.kind == kind) {
                println!(
                    "{:<10} {:>8.0} {:>8.0} {:>8.0} {:>8.0} {:>9.0} {:>9.0} {:>8.1} {:>9} {:>8.1}{}",
                    r.system,
                    r.requests_per_second,
                    r.p50_us,
                    r.p95_us,
                    r.p99_us,
                    r.first_p50_us,
                    r.first_p99_us,
                    r.cpu_us,
                    r.behind_cpu_us.map_or_else(|| "-".to_owned(), |us| format!("{us:.1}")),
                    r.memory_bytes as f64 / f64::from(1 << 20),
                    r.cpu_us_per_token.map_or_else(String::new, |us| format!("  {us:.2} µs a token")),
                );
            }
        }
        if !self.frontier.is_empty() {
            println!("\nplain requests a second with p99 below");
            for f in &self.frontier {
                let cells = super::compare::LIMITS_MS.iter().map(|limit| {
                    let rate = f.within.get(&format!("{limit}ms")).copied().flatten();
                    format!(
                        "{limit:>3} ms: {:>7}",
                        rate.map_or_else(|| "-".to_owned(), |r| format!("{r:.0}"))
                    )
                });
                println!("{:<10} {}", f.system, cells.collect::<Vec<_>>().join("   "));
            }
        }
        self.print_streams();
        println!();
        for (name, ratio) in self.ratios() {
            let Some(ratio) = ratio else { continue };
            let before = baseline.and_then(|b| b.ratios().into_iter().find(|(n, _)| *n == name)?.1);
            let before = before.map_or_else(String::new, |b| {
                format!("   before {b:.2} ({:+.0} %)", (ratio / b - 1.0) * 100.0)
            });
            println!("{name:<34} {ratio:.2}{before}");
        }
        if let Some(baseline) = baseline {
            println!("before: commit {}", baseline.commit);
        }
    }
}

impl Report {
    #[expect(clippy::print_stdout, reason = "the report")]
    fn print_streams(&self) {
        let Some(first) = self.streams.first() else { return };
        println!(
            "\n{:<10} {:>8} {:>6} {:>6} {:>9} {:>9} {:>9} {:>8} {:>11}",
            format!("{} paced", first.streams),
            "tokens",
            "lost",
            "late",
            "p50 µs",
            "p99 µs",
            "max µs",
            "cpu µs",
            "KiB/stream"
        );
        for s in &self.streams {
            println!(
                "{:<10} {:>8} {:>6} {:>6} {:>9.0} {:>9.0} {:>9.0} {:>8.1} {:>11.1}",
                s.system,
                s.tokens,
                s.lost,
                s.late,
                s.delay_p50_us,
                s.delay_p99_us,
                s.delay_max_us,
                s.cpu_us_per_token,
                s.bytes_per_stream / 1024.0,
            );
        }
    }
}

impl Machine {
    fn here() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find(|l| l.starts_with("model name")).and_then(|l| l.split_once(": "));
        Self {
            cpu: model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
        }
    }
}

/// What was measured, as git names it; a tree with changes says so.
fn commit() -> String {
    let git = Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=10"]).output();
    match git {
        Ok(out) if out.status.success() => String::from_utf8_lossy(&out.stdout).trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}
