//! What one request leaves behind: its lines in the log, and its trace from the gateway to the last consumer.

use std::{collections::HashMap, fmt::Write as _, sync::Arc};

use anyhow::{Result, ensure};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value as Any},
    trace::v1::status::StatusCode,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};
use weir_e2e::{
    http::{Answer, Http, PATIENCE},
    stand::{Mode, Stand},
    wait::until,
};
use weir_testkit::Postgres;

use crate::watched::Watched;

fn chat(words: &str) -> Value {
    json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": words}]})
}

/// Runs a command in the house's folder, as an operator would.
async fn shell(watched: &Watched, command: &str) -> Result<String> {
    let mut bash = tokio::process::Command::new("bash");
    let run = bash.args(["-o", "pipefail", "-c", command]).current_dir(watched.house.data()).output();
    let output = run.await?;
    ensure!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_answers_the_usual_questions() {
    let watched = Watched::start(&[]).await;
    let client = watched.client();
    let asked = client.with_header("x-request-id", "req_12345");
    let secret = "a very private question";
    let answered = asked.post("/v1/chat/completions?key=in-the-query", &chat(secret)).await.unwrap();
    assert_eq!(answered.status, 200, "{answered:?}");
    // The provider refuses Weir's own credentials: an error for the operator.
    let mut refused = chat("x");
    refused["x_sim"] = json!({"status": 401});
    assert_eq!(client.post("/v1/chat/completions", &refused).await.unwrap().status, 502);
    assert_eq!(watched.platform().post("/v1/tenants", &json!({"name": "Acme"})).await.unwrap().status, 201);

    let of_request = until("the request is in the log", PATIENCE, async || {
        let found = shell(&watched, r#"grep "req_12345" logs/app.log"#).await?;
        ensure!(found.contains("\"message\":\"request\""), "{found}");
        Ok(found)
    });
    let of_request = of_request.await.unwrap();
    let lines: Vec<Value> = of_request.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let access: Vec<_> = lines.iter().filter(|l| l["message"] == "request").collect();
    assert_eq!(access.len(), 1, "one access line a request: {of_request}");
    let line = access[0];
    for (name, value) in [
        ("level", json!("INFO")),
        ("service", json!("gateway")),
        ("method", json!("POST")),
        ("route", json!("/v1/chat/completions")),
        ("op", json!("POST /v1/chat/completions")),
        ("status", json!(200)),
        ("tenant", json!(watched.dev.tenant_id)),
        ("business_event", json!("chat_completed")),
    ] {
        assert_eq!(line[name], value, "{name} of {line}");
    }
    assert!(line["latency_ms"].as_f64().unwrap() > 0.0 && line["timestamp"].as_str().unwrap().ends_with('Z'));
    let trace = answered.header("traceparent");
    assert_eq!(line["trace_id"].as_str().unwrap(), &trace[3..35], "the answer names the trace too");

    streams_are_told_of_at_their_end(&watched).await;

    let errors = shell(&watched, r#"grep "ERROR" logs/app.log | tail -20"#).await.unwrap();
    assert!(errors.contains("the provider refused our credentials"), "{errors}");
    let error: Value = serde_json::from_str(errors.lines().next().unwrap()).unwrap();
    assert!(error["request_id"].as_str().unwrap().starts_with("req_"), "{error}");
    assert_eq!(error["service"], "orchestrator");

    let business = shell(&watched, r#"grep "business_event" logs/app.log | jq ."#).await.unwrap();
    for event in ["chat_completed", "tenant_created", "api_key_created"] {
        assert!(business.contains(&format!("\"business_event\": \"{event}\"")), "{event} not in {business}");
    }

    let log = watched.log();
    for hidden in [secret, "in-the-query", &watched.dev.api_key, &watched.dev.admin_key] {
        assert!(!log.contains(hidden), "{hidden} is in the log");
    }
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        for field in ["timestamp", "level", "service", "message"] {
            assert!(line[field].is_string(), "no {field} in {line}");
        }
    }
    watched.end().await;
}

/// One read to its end, one left in the middle.
async fn streams_are_told_of_at_their_end(watched: &Watched) {
    let of = |id| watched.client().with_header("x-request-id", id);
    let mut body = chat("x");
    body["stream"] = true.into();
    of("req_whole").stream("/v1/chat/completions", &body).await.unwrap().all().await.unwrap();
    body["x_sim"] = json!({"tokens": 30_000, "token_ms": 20});
    let client = of("req_left");
    let mut events = client.stream("/v1/chat/completions", &body).await.unwrap();
    events.next().await.unwrap().unwrap();
    assert!(!watched.log().contains("req_left\",\"tenant"), "told of before its end");
    drop((events, client));
    for (id, cut) in [("req_whole", Value::Null), ("req_left", Value::Bool(true))] {
        let line = until("the stream is in the log", PATIENCE, async || {
            let lines =
                shell(watched, &format!("grep {id} logs/app.log | grep '\"message\":\"request\"'")).await?;
            ensure!(lines.lines().count() == 1, "{lines}");
            Ok(serde_json::from_str::<Value>(&lines)?)
        });
        let line = line.await.unwrap();
        assert_eq!((&line["status"], &line["cut"]), (&json!(200), &cut), "{line}");
        assert_eq!(line["business_event"].is_null(), cut == Value::Bool(true), "{line}");
    }
}

/// What a collector keeps of a span.
#[derive(Debug, Clone)]
struct Seen {
    service: String,
    name: String,
    trace: String,
    id: String,
    parent: String,
    kind: i32,
    failed: bool,
    attributes: HashMap<String, String>,
    began: u64,
}

/// An OTLP collector that only remembers.
#[derive(Debug, Clone, Default)]
struct Collector(Arc<Mutex<Vec<Seen>>>);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn attributes(all: &[KeyValue]) -> HashMap<String, String> {
    let text = |value: &Any| match value {
        Any::StringValue(text) => text.clone(),
        Any::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let pair = |kv: &KeyValue| Some((kv.key.clone(), text(kv.value.as_ref()?.value.as_ref()?)));
    all.iter().filter_map(pair).collect()
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut all = self.0.lock();
        for of_service in request.into_inner().resource_spans {
            let resource = attributes(&of_service.resource.unwrap().attributes);
            for span in of_service.scope_spans.into_iter().flat_map(|s| s.spans) {
                all.push(Seen {
                    service: resource["service.name"].clone(),
                    name: span.name,
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    kind: span.kind,
                    failed: span.status.is_some_and(|s| s.code() == StatusCode::Error),
                    attributes: attributes(&span.attributes),
                    began: span.start_time_unix_nano,
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start() -> (Self, String, tokio::task::JoinHandle<()>) {
        let collector = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(collector.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        let serving = tokio::spawn(async move { server.await.unwrap() });
        (collector, address, serving)
    }

    fn of(&self, trace: &str) -> Vec<Seen> {
        self.0.lock().iter().filter(|s| s.trace == trace).cloned().collect()
    }

    /// The trace's spans once these are all there.
    async fn trace(&self, trace: &str, names: &[&str]) -> Vec<Seen> {
        let wait = until("the collector has the whole trace", PATIENCE, async || {
            let seen = self.of(trace);
            for name in names {
                let wanted = names.iter().filter(|n| *n == name).count();
                let found = seen.iter().filter(|s| format!("{} {}", s.service, s.name) == **name).count();
                ensure!(found == wanted, "{found} of {wanted} spans {name} in {seen:#?}");
            }
            Ok(seen)
        });
        wait.await.unwrap()
    }
}

/// The spans below `parent`, as people read them.
fn tree(spans: &[Seen], root: &str) -> String {
    fn below(spans: &[Seen], parent: &str, depth: usize, out: &mut String) {
        let mut children: Vec<_> = spans.iter().filter(|s| s.parent == parent).collect();
        children.sort_by_key(|s| (s.began, s.name.clone()));
        for span in children {
            let failed = if span.failed { "  FAILED" } else { "" };
            let _ =
                writeln!(out, "{:indent$}{}: {}{failed}", "", span.service, span.name, indent = depth * 2);
            below(spans, &span.id, depth + 1, out);
        }
    }
    let mut out = String::new();
    below(spans, root, 0, &mut out);
    out
}

const PARENT: &str = "00f067aa0ba902b7";

fn traceparent(trace: &str, flags: &str) -> String {
    format!("00-{trace}-{PARENT}-{flags}")
}

/// Every span of one chat.
const CHAT: [&str; 8] = [
    "gateway POST /v1/chat/completions",
    "orchestrator weir.chat.v1.Chat/Complete",
    "orchestrator chat gpt-4o-mini",
    "orchestrator send usage.attempt_closed",
    "orchestrator send usage.request_finished",
    "billing process usage.attempt_closed",
    "billing process usage.request_finished",
    "analytics process usage.request_finished",
];

fn find<'a>(spans: &'a [Seen], name: &str) -> &'a Seen {
    spans.iter().find(|s| format!("{} {}", s.service, s.name) == name).unwrap()
}

/// A chat in the caller's trace, and all its spans, each where it belongs.
async fn traced_chat(collector: &Collector, client: &Http, trace: &str) -> (Answer, Vec<Seen>) {
    let asked = client.with_header("traceparent", &traceparent(trace, "01"));
    let answer = asked.post("/v1/chat/completions", &chat("traced")).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let spans = collector.trace(trace, &CHAT).await;
    println!("{}", tree(&spans, PARENT));
    let parents = [
        ("orchestrator weir.chat.v1.Chat/Complete", "gateway POST /v1/chat/completions"),
        ("orchestrator chat gpt-4o-mini", "orchestrator weir.chat.v1.Chat/Complete"),
        ("orchestrator send usage.attempt_closed", "orchestrator weir.chat.v1.Chat/Complete"),
        ("orchestrator send usage.request_finished", "orchestrator weir.chat.v1.Chat/Complete"),
        ("billing process usage.attempt_closed", "orchestrator send usage.attempt_closed"),
        ("billing process usage.request_finished", "orchestrator send usage.request_finished"),
        ("analytics process usage.request_finished", "orchestrator send usage.request_finished"),
    ];
    for (child, parent) in parents {
        assert_eq!(find(&spans, child).parent, find(&spans, parent).id, "{child} is below {parent}");
    }
    (answer, spans)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_apart_are_in_one_trace_too() {
    if !Mode::Split.is_wished("the same trace over a network") {
        return;
    }
    let (collector, address, serving) = Collector::start().await;
    let settings = [("telemetry.otlp_endpoint", address.as_str())];
    let postgres = Postgres::shared().await.unwrap();
    let mut stand = Stand::start_with(postgres, &settings).await.unwrap();
    let tenant = stand.tenant().await.unwrap();
    let client = stand.gateway().with_key(&tenant.key);
    traced_chat(&collector, &client, "4bf92f3577b34da6a3ce929d0e0e4736").await;
    stand.stop().await.unwrap();
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_chat_is_one_trace_from_the_gateway_to_the_last_consumer() {
    let (collector, address, serving) = Collector::start().await;
    let watched = Watched::start(&[("OTEL_EXPORTER_OTLP_ENDPOINT", address)]).await;
    let client = watched.client();
    let (first, second) = ("4bf92f3577b34da6a3ce929d0e0e4736", "4bf92f3577b34da6a3ce929d0e0e4737");

    let (answer, spans) = traced_chat(&collector, &client, first).await;
    let find = |name: &str| find(&spans, name);
    let gateway = find("gateway POST /v1/chat/completions");
    assert_eq!(gateway.parent, PARENT, "the gateway's span is below its caller's");
    assert_eq!(gateway.attributes["http.response.status_code"], "200");
    assert_eq!(gateway.attributes["weir.tenant.id"], watched.dev.tenant_id);
    let attempt = find("orchestrator chat gpt-4o-mini");
    assert_eq!(attempt.attributes["gen_ai.operation.name"], "chat");
    assert!(attempt.attributes["gen_ai.usage.output_tokens"].parse::<u64>().unwrap() > 0);
    let sent = watched.traceparents.lock().clone();
    assert!(
        sent.contains(&format!("00-{first}-{}-01", attempt.id)),
        "the provider continues the attempt: {sent:?}"
    );
    assert_eq!(answer.header("traceparent"), format!("00-{first}-{}-01", gateway.id));

    // A failure is seen where it happened; a stream's spans last as long as the stream.
    let mut cut = chat("cut");
    cut["stream"] = true.into();
    cut["x_sim"] = json!({"cut_after": 2});
    let asked = client.with_header("traceparent", &traceparent(second, "01"));
    drop(asked.stream("/v1/chat/completions", &cut).await.unwrap().all().await);
    let spans = collector.trace(second, &CHAT).await;
    println!("{}", tree(&spans, PARENT));
    assert!(spans.iter().any(|s| s.name == "chat gpt-4o-mini" && s.failed), "{spans:?}");

    // What is not sampled leaves nothing, and what is no traceparent begins a trace of our own.
    let unsampled = "4bf92f3577b34da6a3ce929d0e0e4738";
    let asked = client.with_header("traceparent", &traceparent(unsampled, "00"));
    assert_eq!(asked.get("/v1/models").await.unwrap().header("traceparent")[3..35], *unsampled);
    let asked = client.with_header("traceparent", "00-zz-not-one");
    let own = asked.get("/v1/models").await.unwrap().header("traceparent")[3..35].to_owned();
    collector.trace(&own, &["gateway GET /v1/models"]).await;
    let problem = client.get("/v1/nothing-here").await.unwrap();
    assert_eq!(problem.json()["trace_id"], problem.header("traceparent")[3..35], "{problem:?}");
    assert!(collector.of(unsampled).is_empty());
    // Spans come in the order in which they end: calls before those who make them.
    let spans = collector.of(&own);
    let root = spans.iter().find(|s| s.service == "gateway" && s.name == "GET /v1/models").unwrap();
    assert_eq!(root.parent, "", "a root");
    assert!(root.kind != 0);

    // A change in PostgreSQL is followed through its outbox.
    let third = "4bf92f3577b34da6a3ce929d0e0e4739";
    let asked = watched.platform().with_header("traceparent", &traceparent(third, "01"));
    assert_eq!(asked.post("/v1/tenants", &json!({"name": "traced"})).await.unwrap().status, 201);
    let spans = collector
        .trace(
            third,
            &[
                "gateway POST /v1/tenants",
                "control weir.control.v1.Tenants/CreateTenant",
                "control send audit.tenant_created",
            ],
        )
        .await;
    println!("{}", tree(&spans, PARENT));

    let metrics = Http::at(&watched.dev.gateway).get("/metrics").await.unwrap();
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(metrics.contains("\nweir_spans_dropped_total 0"), "{metrics}");
    watched.end().await;
    serving.abort();
}
