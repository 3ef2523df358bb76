//! Ended spans on their way to the collector: a bounded queue, and a thread that sends what is in it over OTLP.

use std::{
    collections::HashMap,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc as blocking,
    },
    thread,
    time::Duration,
};

use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanExporter as _},
};
use tokio::{sync::mpsc, time::timeout};

use crate::InitError;

/// Spans that may wait.
const CAPACITY: usize = 4_096;
/// Spans sent at once.
const BATCH: usize = 512;
/// How long a batch fills after its first span.
const GATHER: Duration = Duration::from_millis(500);
/// How long a collector may take for a batch, tries included.
const PATIENCE: Duration = Duration::from_secs(10);
const THREAD: &str = "telemetry";

static EXPORTED: AtomicU64 = AtomicU64::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Spans a collector took, since the process began.
pub(crate) fn spans_exported() -> u64 {
    EXPORTED.load(Ordering::Relaxed)
}

/// Spans that found no room or that no collector took, since the process began.
pub(crate) fn spans_dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

enum Item {
    Span(&'static str, Box<SpanData>),
    /// Everything before it is to be sent now, and whoever asked told.
    Flush(blocking::SyncSender<()>),
}

pub(super) struct Queue(mpsc::Sender<Item>);

impl Queue {
    pub(super) fn start(endpoint: &str, environment: Option<String>) -> Result<Self, InitError> {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| InitError::Thread { name: THREAD, source })?;
        let mut sending =
            Sending { endpoint: endpoint.to_owned(), environment, exporters: HashMap::new(), failing: false };
        // A wrong address is found out at the start.
        let checked = {
            let _inside = runtime.enter();
            sending.exporter("weir").map(drop)
        };
        if let Err(source) = checked {
            runtime.shutdown_background();
            return Err(InitError::Endpoint { given: endpoint.to_owned(), source });
        }
        // A thread of its own: a busy runtime does not delay it, and it delays nobody.
        let run = move || runtime.block_on(sending.run(receiver));
        thread::Builder::new()
            .name(THREAD.to_owned())
            .spawn(run)
            .map_err(|source| InitError::Thread { name: THREAD, source })?;
        Ok(Self(sender))
    }

    pub(super) fn push(&self, service: &'static str, span: SpanData) {
        if self.0.try_send(Item::Span(service, Box::new(span))).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn flush(&self, patience: Duration) {
        let (done, wait) = blocking::sync_channel(1);
        if self.0.try_send(Item::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(patience);
        }
    }
}

struct Sending {
    endpoint: String,
    environment: Option<String>,
    /// One a service: a collector takes the service's name from the resource, which is the exporter's.
    exporters: HashMap<&'static str, SpanExporter>,
    failing: bool,
}

impl Sending {
    async fn run(mut self, mut items: mpsc::Receiver<Item>) {
        while let Some(first) = items.recv().await {
            let mut batch = Batch::default();
            if !batch.add(first) {
                let gather = async {
                    while batch.spans < BATCH {
                        let Some(item) = items.recv().await else { break };
                        if batch.add(item) {
                            break;
                        }
                    }
                };
                // Over: the batch is as full as it gets.
                drop(timeout(GATHER, gather).await);
            }
            self.send(batch).await;
        }
    }

    async fn send(&mut self, batch: Batch) {
        for (service, spans) in batch.by_service {
            let count = spans.len() as u64;
            let sent = match self.exporter(service) {
                Ok(exporter) => exporter.export(spans).await.map_err(|e| e.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match sent {
                Ok(()) => {
                    EXPORTED.fetch_add(count, Ordering::Relaxed);
                    if std::mem::take(&mut self.failing) {
                        tracing::info!("the trace collector takes spans again");
                    }
                }
                Err(error) => {
                    DROPPED.fetch_add(count, Ordering::Relaxed);
                    // Said once, not once a batch.
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::warn!(endpoint = self.endpoint, error, "the trace collector takes no spans");
                    }
                }
            }
        }
        for done in batch.flushes {
            let _ = done.send(());
        }
    }

    fn exporter(
        &mut self,
        service: &'static str,
    ) -> Result<&SpanExporter, Box<dyn std::error::Error + Send + Sync>> {
        use std::collections::hash_map::Entry;
        match self.exporters.entry(service) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(free) => {
                let mut exporter = SpanExporter::builder()
                    .with_tonic()
                    .with_endpoint(&self.endpoint)
                    .with_timeout(PATIENCE)
                    .build()?;
                exporter.set_resource(&resource(service, self.environment.as_deref()));
                Ok(free.insert(exporter))
            }
        }
    }
}

fn resource(service: &'static str, environment: Option<&str>) -> Resource {
    let mut attributes = vec![
        KeyValue::new("service.namespace", "weir"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("process.pid", i64::from(std::process::id())),
    ];
    if let Some(environment) = environment {
        attributes.push(KeyValue::new("deployment.environment.name", environment.to_owned()));
    }
    Resource::builder_empty().with_service_name(service).with_attributes(attributes).build()
}

#[derive(Default)]
struct Batch {
    by_service: HashMap<&'static str, Vec<SpanData>>,
    spans: usize,
    flushes: Vec<blocking::SyncSender<()>>,
}

impl Batch {
    /// Whether it should go now.
    fn add(&mut self, item: Item) -> bool {
        match item {
            Item::Span(service, span) => {
                self.by_service.entry(service).or_default().push(*span);
                self.spans += 1;
                false
            }
            Item::Flush(done) => {
                self.flushes.push(done);
                true
            }
        }
    }
}
