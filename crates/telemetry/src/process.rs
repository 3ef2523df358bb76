//! The process as its own metrics have it, read when scraped. Names as other exporters use them
//! (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>). Linux tells all of it; other
//! systems are left out rather than guessed.

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, family::Family, gauge::ConstGauge, gauge::Gauge},
};

use crate::{
    log::{lines_dropped, lines_lost},
    metrics::Metrics,
    trace::{spans_dropped, spans_exported},
};

/// Ticks of `/proc/self/stat`: `USER_HZ`, which Linux has fixed for programs at 100.
const TICKS: f64 = 100.0;

/// Which build of which service a registry belongs to. `service` is a label that scrapers give their targets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, prometheus_client::encoding::EncodeLabelSet)]
struct Build {
    name: &'static str,
    version: &'static str,
    revision: &'static str,
}

impl Metrics {
    /// `weir_build_info`, `process_*`, and what the log and the traces of this process had to drop.
    pub fn process(&self, name: &'static str, version: &'static str, revision: Option<&'static str>) {
        let build: Family<Build, Gauge> =
            self.shared("weir_build_info", "What is running; always 1", Family::default);
        build.get_or_create(&Build { name, version, revision: revision.unwrap_or("unknown") }).set(1);
        self.collect("process", Box::new(Process));
    }
}

#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut counter = |name, help, value: f64| {
            let metric = ConstCounter::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
        };
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let whole = |n: u64| n as f64;
        counter(
            "weir_log_lines_dropped",
            "Log lines that found no room, or that the log file did not take",
            whole(lines_dropped() + lines_lost()),
        )?;
        counter("weir_spans_exported", "Spans the trace collector took", whole(spans_exported()))?;
        counter(
            "weir_spans_dropped",
            "Spans that found no room, or no collector took",
            whole(spans_dropped()),
        )?;
        if let Some(seconds) = cpu_seconds() {
            counter("process_cpu_seconds", "User and system CPU time spent", seconds)?;
        }
        if let Some((read, written)) = disk_bytes() {
            counter("process_disk_read_bytes", "Bytes read from disks", whole(read))?;
            counter("process_disk_written_bytes", "Bytes written to disks", whole(written))?;
        }
        if let Some((received, sent)) = network_bytes() {
            let text = "Bytes received by the network interfaces the process sees";
            counter("process_network_receive_bytes", text, whole(received))?;
            let text = "Bytes sent by the network interfaces the process sees";
            counter("process_network_transmit_bytes", text, whole(sent))?;
        }
        let mut gauge = |name, help, value: f64| {
            let metric = ConstGauge::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
        };
        if let Some(resident) = resident_bytes() {
            gauge("process_resident_memory_bytes", "Memory held", whole(resident))?;
        }
        if let Some(open) = open_fds() {
            gauge("process_open_fds", "Open file descriptors", whole(open))?;
        }
        if let Some(max) = max_fds() {
            gauge("process_max_fds", "File descriptors it may have open", whole(max))?;
        }
        if let Some(started) = start_time() {
            gauge("process_start_time_seconds", "When it started; Unix time", started)?;
        }
        Ok(())
    }
}

/// The fields of `/proc/self/stat` after the program's name, which may hold spaces and parentheses: the first one here
/// is the third of proc(5).
fn stat() -> Option<Vec<String>> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

fn cpu_seconds() -> Option<f64> {
    let stat = stat()?;
    let ticks = |field: usize| stat.get(field - 3)?.parse::<f64>().ok();
    Some((ticks(14)? + ticks(15)?) / TICKS)
}

fn start_time() -> Option<f64> {
    let after_boot = stat()?.get(22 - 3)?.parse::<f64>().ok()? / TICKS;
    let machine = fs::read_to_string("/proc/stat").ok()?;
    let boot = machine.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse::<f64>().ok()?;
    Some(boot + after_boot)
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

fn open_fds() -> Option<u64> {
    // One of them is this look itself.
    Some((fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1))
}

fn max_fds() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|l| l.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn disk_bytes() -> Option<(u64, u64)> {
    let io = fs::read_to_string("/proc/self/io").ok()?;
    let of = |name: &str| io.lines().find_map(|l| l.strip_prefix(name))?.trim().parse().ok();
    Some((of("read_bytes:")?, of("write_bytes:")?))
}

fn network_bytes() -> Option<(u64, u64)> {
    let devices = fs::read_to_string("/proc/self/net/dev").ok()?;
    let mut sum = (0, 0);
    for line in devices.lines().skip(2) {
        let (_, figures) = line.split_once(':')?;
        let figures: Vec<u64> = figures.split_whitespace().filter_map(|f| f.parse().ok()).collect();
        sum.0 += figures.first()?;
        sum.1 += figures.get(8)?;
    }
    Some(sum)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_itself() {
        let metrics = Metrics::new();
        metrics.process("router", "1.2.3", None);
        metrics.process("router", "1.2.3", None);
        let text = metrics.encode_prometheus();
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_start_time_seconds") > 1.6e9);
        assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") >= value("process_open_fds"));
        for name in
            ["process_cpu_seconds_total", "process_disk_written_bytes_total", "weir_spans_dropped_total"]
        {
            assert!(value(name) >= 0.0);
        }
        assert!(text.contains("weir_build_info{name=\"router\",version=\"1.2.3\",revision=\"unknown\"} 1"));
        assert_eq!(text.matches("# TYPE process_open_fds gauge").count(), 1, "{text}");
    }
}
