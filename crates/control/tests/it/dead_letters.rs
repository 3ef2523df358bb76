//! Dead letters over the control plane: the platform's operator only, told to the audit log.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use prost::Message as _;
use tonic::Request;
use uuid::Uuid;
use weir_error::{Code, Error};
use weir_events::{
    AUDIT, BatchHandler, Bus, ConsumerConfig, Event, EventMetrics, InfrastructureDown, NatsConfig, Outcome,
    Received, USAGE, consume,
};
use weir_proto::{
    control::{
        DeadLetter, DropDeadLetterRequest, DropDeadLettersRequest, GetDeadLetterRequest,
        ListDeadLettersRequest, ListDeadLettersResponse, ReplayDeadLetterRequest, ReplayDeadLettersRequest,
        dead_letters_client::DeadLettersClient,
    },
    events::{Caller, DeadLetterHandled, RequestFinished},
};
use weir_rpc::{Transport, request};
use weir_runtime::Tasks;
use weir_testkit::{Nats, until};
use weir_types::{RequestContext, TenantId};

use crate::{World, manager, platform};

#[derive(Clone, Default)]
struct Faulty {
    mended: Arc<AtomicBool>,
    through: Arc<AtomicU32>,
}

impl BatchHandler for Faulty {
    async fn handle(&self, batch: &[Received]) -> Result<Vec<Outcome>, InfrastructureDown> {
        if self.mended.load(Ordering::SeqCst) {
            self.through.fetch_add(u32::try_from(batch.len()).unwrap(), Ordering::SeqCst);
            return Ok(vec![Outcome::Ack; batch.len()]);
        }
        Ok(vec![Outcome::Retry("the key pk_live_0123456789abcdef does not fit".into()); batch.len()])
    }
}

struct Letters {
    _nats: Nats,
    world: World,
    bus: Bus,
    handler: Faulty,
    tasks: Tasks,
    tenant: TenantId,
}

impl Letters {
    async fn new() -> Self {
        let nats = Nats::start().await.unwrap();
        let world = World::with_nats(&nats.url()).await;
        let config = NatsConfig { url: nats.url().into(), ..NatsConfig::default() };
        let bus = Bus::connect(&config, EventMetrics::default()).await.unwrap();
        until("streams", async || bus.ensure_streams().await.ok()).await;
        let (handler, tasks) = (Faulty::default(), Tasks::new());
        let config = ConsumerConfig::new(USAGE, "faulty", "weir.usage.>", &["request_finished"]);
        let config =
            ConsumerConfig { max_deliver: Some(2), retry_first: Duration::from_millis(10), ..config };
        consume(&bus, config, handler.clone(), &tasks);
        Self { _nats: nats, world, bus, handler, tasks, tenant: TenantId::new() }
    }

    fn client(&self) -> DeadLettersClient<Transport> {
        DeadLettersClient::new(self.world.transport.clone())
    }

    async fn publish(&self, garbage: bool) -> Event {
        let caller = Caller { tenant_id: self.tenant.to_string(), ..Caller::default() };
        let id = Uuid::now_v7().to_string();
        let event = RequestFinished { id, caller: Some(caller), ..RequestFinished::default() };
        let mut event = Event::request_finished(&event).unwrap();
        if garbage {
            event.payload = vec![0xff, 1].into();
        }
        until("an acknowledgement", async || self.bus.publish(&event, "test", None).await.ok()).await;
        event
    }

    async fn list(&self, message: ListDeadLettersRequest) -> Result<ListDeadLettersResponse, Error> {
        Ok(self.client().list_dead_letters(request(&platform(), message)).await?.into_inner())
    }

    async fn wait_for(&self, count: usize) -> Vec<DeadLetter> {
        until("the dead letters", async || {
            let found = self.list(ListDeadLettersRequest { limit: 100, ..Default::default() }).await.ok()?;
            (found.data.len() == count).then_some(found.data)
        })
        .await
    }
}

fn id(id: &str) -> GetDeadLetterRequest {
    GetDeadLetterRequest { id: id.into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_shown_paged_replayed_and_dropped() {
    let world = Letters::new().await;
    let sound = world.publish(false).await;
    let garbage = world.publish(true).await;
    let letters = world.wait_for(2).await;
    let of = |event: &Event| {
        let wanted = event.id.to_string();
        letters.iter().find(|l| l.event_id == wanted).cloned().unwrap()
    };
    let shown = of(&sound);
    let payload: serde_json::Value = serde_json::from_str(&shown.payload).unwrap();
    assert_eq!(payload["caller"]["tenant_id"], world.tenant.to_string());
    assert!(shown.payload_raw.is_empty());
    assert_eq!((shown.consumer.as_str(), shown.reason.as_str()), ("faulty", "retries_exhausted"));
    assert!(shown.reason_text.contains("does not fit") && !shown.reason_text.contains("0123456789abcdef"));
    assert_eq!((of(&garbage).payload.as_str(), of(&garbage).payload_raw), ("", garbage.payload.clone()));
    let got = world.client().get_dead_letter(request(&platform(), id(&shown.id))).await.unwrap().into_inner();
    assert_eq!(got, shown);

    let page = |after: &str| ListDeadLettersRequest { limit: 1, after: after.into(), ..Default::default() };
    let first = world.list(page("")).await.unwrap();
    assert!(first.has_more && first.data.len() == 1);
    let second = world.list(page(&first.next_cursor)).await.unwrap();
    assert!(!second.has_more && second.next_cursor.is_empty() && second.data[0].id != first.data[0].id);
    let none = ListDeadLettersRequest { tenant_id: TenantId::new().to_string(), ..Default::default() };
    assert_eq!(world.list(none).await.unwrap().data, []);

    world.handler.mended.store(true, Ordering::SeqCst);
    let replay = ReplayDeadLetterRequest { id: shown.id.clone() };
    let operator = platform();
    world.client().replay_dead_letter(request(&operator, replay.clone())).await.unwrap();
    until("the event", async || (world.handler.through.load(Ordering::SeqCst) == 1).then_some(())).await;
    let again = world.client().replay_dead_letter(request(&platform(), replay)).await.unwrap_err();
    assert_eq!(Error::from(again).code(), Code::NotFound);
    let drop = DropDeadLetterRequest { id: of(&garbage).id };
    world.client().drop_dead_letter(request(&platform(), drop)).await.unwrap();
    world.wait_for(0).await;
    assert_eq!(world.handler.through.load(Ordering::SeqCst), 1);

    let stream = world.bus.jetstream().get_stream(AUDIT).await.unwrap();
    let mut told = Vec::new();
    for sequence in 1..=2 {
        let message = stream.get_raw_message(sequence).await.unwrap();
        let handled = DeadLetterHandled::decode(message.payload).unwrap();
        let actor = handled.actor.unwrap();
        assert_eq!((actor.kind.as_str(), handled.tenant_id), ("platform", world.tenant.to_string()));
        if sequence == 1 {
            assert_eq!(actor.request_id, operator.request_id.to_string());
        }
        told.push((message.subject.rsplit('.').next().unwrap().to_owned(), handled.event_id));
    }
    let words = [("dead_letter_replayed", sound.id), ("dead_letter_dropped", garbage.id)];
    assert_eq!(told, words.map(|(word, id)| (word.to_owned(), id.to_string())));
    assert!(world.tasks.stop(Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_within_a_bound() {
    let world = Letters::new().await;
    for _ in 0..5 {
        world.publish(false).await;
    }
    world.wait_for(5).await;
    let drop = DropDeadLettersRequest { limit: 2, consumer: "faulty".into(), ..Default::default() };
    let done = world.client().drop_dead_letters(request(&platform(), drop)).await.unwrap().into_inner();
    assert_eq!((done.handled, done.failed.len(), done.has_more), (2, 0, true));
    world.handler.mended.store(true, Ordering::SeqCst);
    let replay = ReplayDeadLettersRequest::default();
    let done = world.client().replay_dead_letters(request(&platform(), replay)).await.unwrap().into_inner();
    assert_eq!((done.handled, done.has_more), (3, false));
    until("the events", async || (world.handler.through.load(Ordering::SeqCst) == 3).then_some(())).await;
    assert!(world.tasks.stop(Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_operator_and_only_sound_requests() {
    let world = Letters::new().await;
    let tenant = manager(world.tenant);
    let service = RequestContext::service("billing");
    for ctx in [&tenant, &service] {
        let code = |refused: tonic::Status| Error::from(refused).code();
        let mut client = world.client();
        let refused = [
            code(client.list_dead_letters(request(ctx, Default::default())).await.unwrap_err()),
            code(client.get_dead_letter(request(ctx, id("1"))).await.unwrap_err()),
            code(client.replay_dead_letter(request(ctx, Default::default())).await.unwrap_err()),
            code(client.drop_dead_letter(request(ctx, Default::default())).await.unwrap_err()),
            code(client.replay_dead_letters(request(ctx, Default::default())).await.unwrap_err()),
            code(client.drop_dead_letters(request(ctx, Default::default())).await.unwrap_err()),
        ];
        assert_eq!(refused, [Code::PermissionDenied; 6]);
    }
    let operator = |message| -> Request<ListDeadLettersRequest> { request(&platform(), message) };
    let wrong = [
        ("limit", ListDeadLettersRequest { limit: 101, ..Default::default() }),
        ("after", ListDeadLettersRequest { after: "x".into(), ..Default::default() }),
        ("tenant_id", ListDeadLettersRequest { tenant_id: "*".into(), ..Default::default() }),
        ("stream", ListDeadLettersRequest { stream: ">".into(), ..Default::default() }),
    ];
    for (param, message) in wrong {
        let refused = Error::from(world.client().list_dead_letters(operator(message)).await.unwrap_err());
        assert_eq!((refused.code(), refused.param()), (Code::InvalidArgument, Some(param)));
    }
    let many = DropDeadLettersRequest { limit: 1_001, ..Default::default() };
    let refused = world.client().drop_dead_letters(request(&platform(), many)).await.unwrap_err();
    assert_eq!(Error::from(refused).param(), Some("limit"));
    for missing in ["7", "0", "x", "-1"] {
        let refused = world.client().get_dead_letter(request(&platform(), id(missing))).await.unwrap_err();
        assert_eq!(Error::from(refused).code(), Code::NotFound, "{missing}");
    }
    assert!(world.tasks.stop(Duration::from_secs(10)).await);
}
