//! Responses that run without their client: here, elsewhere, and after whoever ran them is gone.

use weir_error::Code;
use weir_proto::chat::CancelResponseRequest;

use super::{super::steady::Steady, *};
use crate::store::{Batch, Begin, Kept, Left, Mine, Write, Written};

const WHOLE: [&str; 8] = [
    "created",
    "queued",
    "in_progress",
    "output_item.done",
    "output_text.delta",
    "output_text.delta",
    "output_item.done",
    "completed",
];

#[tokio::test]
async fn it_completes_after_its_client_left_and_each_event_is_read_once() {
    let ground = Ground::new().await;
    let (one, two) = (ground.instance(long()).await, ground.instance(long()).await);
    let ctx = &ground.ctx;
    let feed = ground.fake.script();
    let body = json!({"model": "m", "input": "Hi", "background": true, "stream": true});
    let mut frames = ask(&one.responses, ctx, body).await.unwrap();
    let mut seen = Vec::new();
    let first = whole_stream();
    first[..4].iter().for_each(|bytes| feed.send(bytes.clone()).unwrap());
    while events(&seen).len() < 4 {
        if let Some(Frame::Data(data)) = frames.next().await.unwrap().unwrap().frame {
            seen.extend_from_slice(&data.bytes);
        }
    }
    drop(frames);
    let told = events(&seen);
    let id = told[0].1["response"]["id"].as_str().unwrap().to_owned();
    assert_eq!(told[0].1["response"]["status"], "queued");
    assert!(seen.starts_with(b"event: response.created\nid: 0\n"), "{}", String::from_utf8_lossy(&seen));

    // Elsewhere, while it goes on.
    let after = told.last().unwrap().1["sequence_number"].as_u64().unwrap();
    let elsewhere = attach(&two.responses, ctx, &id, Some(after)).await;
    let rest = async {
        first[4..].iter().for_each(|bytes| feed.send(bytes.clone()).unwrap());
        drop(feed);
    };
    let ((_, bytes), ()) = tokio::join!(read(elsewhere), rest);
    let more = events(&bytes);
    assert_numbered(&more, after + 1);
    let all: Vec<_> = told.into_iter().chain(more).collect();
    assert_eq!(names(&all), WHOLE);
    // And from the beginning, once it has ended.
    let (_, bytes) = read(attach(&two.responses, ctx, &id, None).await).await;
    assert_eq!(events(&bytes), all);
    let (_, bytes) = read(attach(&one.responses, ctx, &id, Some(99)).await).await;
    assert!(bytes.is_empty());
    let whole = get(&two.responses, ctx, &id, &[]).await.unwrap();
    assert_eq!(whole, all.last().unwrap().1["response"]);
    assert_eq!((&whole["status"], &whole["background"]), (&json!("completed"), &json!(true)));
    assert!(!String::from_utf8(bytes.to_vec()).unwrap().contains("secret"));
    // Nothing is owed to it any more.
    let cancelled = CancelResponseRequest { id: id.clone() };
    let body = two.responses.cancel(ctx, &cancelled).await.unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["status"], "completed");
    // And nobody is waited for.
    assert_eq!((one.responses.shared.hub.waited_for(), two.responses.shared.hub.waited_for()), (0, 0));
}

#[tokio::test]
async fn a_killed_run_without_output_is_run_again() {
    let ground = Ground::new().await;
    let ctx = &ground.ctx;
    let mut one = ground.mortal(short()).await;
    let feed = ground.fake.script();
    let id = one.begin(ctx).await;
    [opening(0), opening(1)].into_iter().for_each(|bytes| feed.send(bytes).unwrap());
    let two = ground.instance(short()).await;
    until_kept(&two.responses, ctx, &id, 2).await;
    one.kill();
    let (_, bytes) = read(attach(&two.responses, ctx, &id, None).await).await;
    let told = events(&bytes);
    assert_numbered(&told, 0);
    assert_eq!(names(&told), WHOLE);
    assert_eq!(ground.fake.asked(), 2);
    assert_eq!(ground.fake.body(0), ground.fake.body(1));
    // For the same caller.
    assert_eq!(get(&two.responses, ctx, &id, &[]).await.unwrap()["status"], "completed");
}

#[tokio::test]
async fn a_killed_run_with_output_is_ended() {
    let ground = Ground::new().await;
    let ctx = &ground.ctx;
    let mut one = ground.mortal(short()).await;
    let feed = ground.fake.script();
    let id = one.begin(ctx).await;
    whole_stream()[..6].iter().for_each(|bytes| feed.send(bytes.clone()).unwrap());
    let two = ground.instance(short()).await;
    until_kept(&two.responses, ctx, &id, 6).await;
    one.kill();
    let (_, bytes) = read(attach(&two.responses, ctx, &id, None).await).await;
    let told = events(&bytes);
    assert_numbered(&told, 0);
    assert_eq!(names(&told), [&WHOLE[..7], &["failed"]].concat());
    let failed = &told[7].1["response"];
    assert_eq!(failed["error"]["code"], "server_error");
    assert!(failed["error"]["message"].as_str().unwrap().contains("interrupted"), "{failed}");
    // What was whole is kept.
    assert_eq!(failed["output"][1], message());
    assert_eq!(get(&two.responses, ctx, &id, &[]).await.unwrap(), *failed);
    assert_eq!(ground.fake.asked(), 1);
}

#[tokio::test]
async fn it_is_cancelled_from_anywhere() {
    let ground = Ground::new().await;
    let (one, two) = (ground.instance(long()).await, ground.instance(long()).await);
    let ctx = &ground.ctx;
    let feed = ground.fake.script();
    let id = begin(&one.responses, ctx).await;
    whole_stream()[..6].iter().for_each(|bytes| feed.send(bytes.clone()).unwrap());
    until_kept(&two.responses, ctx, &id, 6).await;
    let attached = attach(&one.responses, ctx, &id, Some(6)).await;
    let cancel = CancelResponseRequest { id: id.clone() };
    let cancelled: Value =
        serde_json::from_slice(&two.responses.cancel(ctx, &cancel).await.unwrap()).unwrap();
    assert_eq!((&cancelled["status"], &cancelled["output"][1]), (&json!("cancelled"), &message()));
    // The provider is no longer asked.
    tokio::time::timeout(PATIENCE, feed.closed()).await.expect("the run ended");
    let (_, bytes) = read(attached).await;
    let told = events(&bytes);
    assert_eq!((names(&told), told[0].1["sequence_number"].as_u64()), (vec!["incomplete"], Some(7)));
    assert_eq!(told[0].1["response"], cancelled);
    let again = two.responses.cancel(ctx, &cancel).await.unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&again).unwrap(), cancelled);

    let plain = plain(&one.responses, ctx, json!({"model": "m", "input": "Hi"})).await;
    let cancel = CancelResponseRequest { id: plain["id"].as_str().unwrap().to_owned() };
    assert_eq!(one.responses.cancel(ctx, &cancel).await.unwrap_err().code(), Code::InvalidArgument);
    let request = AttachResponseRequest { id: cancel.id, starting_after: None };
    assert_eq!(one.responses.attach(ctx, request).await.err().unwrap().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn what_would_be_refused_is_refused_at_once_and_losses_are_told() {
    let ground = Ground::new().await;
    let instance = ground.instance(long()).await;
    let (responses, ctx) = (&instance.responses, &ground.ctx);
    let asked = |model: &str| json!({"model": model, "input": "Hi", "background": true});
    let error = ask(responses, ctx, asked("unknown")).await.err().unwrap();
    assert_eq!(error.code(), Code::ModelNotFound);
    let (head, _) = read(ask(responses, ctx, asked("m")).await.unwrap()).await;
    assert_eq!(head.headers["x-weir-warnings"], "dropped;truncation");
}

#[tokio::test]
async fn a_deleted_run_ends() {
    let ground = Ground::new().await;
    let instance = ground.instance(long()).await;
    let (responses, ctx) = (&instance.responses, &ground.ctx);
    let feed = ground.fake.script();
    let id = begin(responses, ctx).await;
    feed.send(opening(0)).unwrap();
    let request = super::super::DeleteResponseRequest { id: id.clone() };
    responses.delete(ctx, &request).await.unwrap();
    tokio::time::timeout(PATIENCE, feed.closed()).await.expect("the run ended");
    assert_eq!(get(responses, ctx, &id, &[]).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn one_that_stops_leaves_its_runs_to_others_at_once() {
    let ground = Ground::new().await;
    let ctx = &ground.ctx;
    let one = ground.instance(long()).await;
    let (silent, talking) = (ground.fake.script(), ground.fake.script());
    let first = begin(&one.responses, ctx).await;
    silent.send(opening(0)).unwrap();
    // Scripts are given out in order.
    while ground.fake.asked() < 1 {
        tokio::task::yield_now().await;
    }
    let second = begin(&one.responses, ctx).await;
    whole_stream()[..4].iter().for_each(|bytes| talking.send(bytes.clone()).unwrap());
    until_kept(&one.responses, ctx, &second, 4).await;
    let two = ground.instance(long()).await;
    let taken = async {
        let (_, bytes) = read(attach(&two.responses, ctx, &first, None).await).await;
        assert_eq!(names(&events(&bytes)), WHOLE);
        // What has begun to speak may end.
        whole_stream()[4..].iter().for_each(|bytes| talking.send(bytes.clone()).unwrap());
        drop(talking);
    };
    let (stopped, ()) = tokio::join!(one.tasks.stop(PATIENCE), taken);
    assert!(stopped, "{:?}", one.tasks.running());
    assert!(silent.is_closed());
    let (_, bytes) = read(attach(&two.responses, ctx, &second, None).await).await;
    assert_eq!(names(&events(&bytes)), WHOLE);
    assert_eq!(ground.fake.asked(), 3);
}

#[tokio::test]
async fn a_tenant_and_an_instance_run_so_many_at_once() {
    let ground = Ground::new().await;
    let config = ResponsesConfig { max_background: 2, max_background_per_tenant: 1, ..long() };
    let (one, two) = (ground.instance(config.clone()).await, ground.instance(config).await);
    let background = || json!({"model": "m", "input": "Hi", "background": true});
    let feed = ground.fake.script();
    let id = begin(&one.responses, &ground.ctx).await;
    for instance in [&one, &two] {
        let error = ask(&instance.responses, &ground.ctx, background()).await.err().unwrap();
        assert_eq!(error.code(), Code::RateLimited);
        assert!(error.retry_after().is_some());
    }
    let other = ground.fake.script();
    begin(&one.responses, &caller()).await;
    let error = ask(&one.responses, &caller(), background()).await.err().unwrap();
    assert_eq!(error.code(), Code::RateLimited);
    drop(other);
    // A place is free again once a run has ended.
    whole_stream().into_iter().for_each(|bytes| feed.send(bytes).unwrap());
    drop(feed);
    read(attach(&two.responses, &ground.ctx, &id, None).await).await;
    begin(&two.responses, &ground.ctx).await;
}

#[tokio::test]
async fn a_run_that_fails_says_so() {
    let ground = Ground::new().await;
    let instance = ground.instance(ResponsesConfig { max_event_bytes: 2_000, ..long() }).await;
    let (responses, ctx) = (&instance.responses, &ground.ctx);
    let cut = ground.fake.script();
    let id = begin(responses, ctx).await;
    [opening(0), opening(1), delta(2)].into_iter().for_each(|bytes| cut.send(bytes).unwrap());
    drop(cut);
    let (_, bytes) = read(attach(responses, ctx, &id, None).await).await;
    let told = events(&bytes);
    assert_eq!(names(&told), ["created", "queued", "in_progress", "output_text.delta", "failed"]);
    assert_numbered(&told, 0);
    // Longer than it may be.
    let long = ground.fake.script();
    let id = begin(responses, ctx).await;
    (2..60).for_each(|n| long.send(delta(n)).unwrap());
    let (_, bytes) = read(attach(responses, ctx, &id, None).await).await;
    let told = events(&bytes);
    assert_numbered(&told, 0);
    assert_eq!(*names(&told).last().unwrap(), "failed");
    tokio::time::timeout(PATIENCE, long.closed()).await.expect("the run ended");
}

/// Writes of an owner that lost its run come to nothing, whatever they are; a write that is made again is made once.
#[tokio::test]
async fn a_run_has_one_owner() {
    let ground = Ground::new().await;
    let instance = ground.instance(long()).await;
    let (responses, ctx) = (&instance.responses, &ground.ctx);
    let _silent = ground.fake.script();
    let id = begin(responses, ctx).await;
    let store = &responses.shared.store;
    let tenant = ctx.tenant.unwrap();
    let first = Mine { tenant, id: id.clone(), run: 0 };
    let batch = |number: u64, word: &str| Batch {
        first: number,
        last: number,
        events: format!("event: response.{word}\nid: {number}\ndata: {{}}\n\n").into(),
    };
    let write = Write { started: true, ..Write::default() };
    // A commit whose outcome nobody knew.
    for _ in 0..2 {
        assert_eq!(store.write(ctx, &first, &batch(2, "a"), &write).await.unwrap(), Written::Done);
    }
    // Not the next number.
    assert_eq!(store.write(ctx, &first, &batch(9, "b"), &write).await.unwrap(), Written::Lost);
    let owner = uuid::Uuid::now_v7();
    let second = store.seize(ctx, &id, owner, Duration::from_secs(60)).await.unwrap().unwrap();
    assert_eq!(second.run, 1);
    assert_eq!(store.write(ctx, &first, &batch(3, "b"), &write).await.unwrap(), Written::Lost);
    assert_eq!(store.write(ctx, &second, &batch(3, "c"), &write).await.unwrap(), Written::Done);
    assert_eq!(store.write(ctx, &first, &batch(3, "b"), &write).await.unwrap(), Written::Lost);
    let ended = Write { status: Some("completed"), ended: true, ..Write::default() };
    assert_eq!(store.write(ctx, &second, &batch(4, "d"), &ended).await.unwrap(), Written::Done);
    assert_eq!(store.write(ctx, &second, &batch(5, "e"), &ended).await.unwrap(), Written::Lost);
    assert!(store.seize(ctx, &id, owner, Duration::from_secs(60)).await.unwrap().is_none());
    let found = store.events(ctx, &id, 2).await.unwrap().unwrap();
    let all: Vec<u8> = found.batches.iter().flat_map(|batch| batch.events.to_vec()).collect();
    assert_eq!(names(&events(&all)), ["a", "c", "d"]);
    assert!(found.ended);
}

/// All leases are over after an outage: whoever is back first takes nobody's run.
#[tokio::test]
async fn a_lease_that_is_over_says_nothing_until_all_had_time_to_renew() {
    let ground = Ground::new().await;
    let (one, two) = (ground.instance(long()).await, ground.instance(long()).await);
    let ctx = &ground.ctx;
    let feed = ground.fake.script();
    let id = begin(&one.responses, ctx).await;
    whole_stream()[..4].iter().for_each(|bytes| feed.send(bytes.clone()).unwrap());
    until_kept(&two.responses, ctx, &id, 4).await;
    let mut tx = one.db.tenant(ctx).await.unwrap();
    let sql = "UPDATE chat.responses SET lease_until = now() - interval '1 second' WHERE id = $1";
    sqlx::query(sql).bind(&id).execute(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
    let service = RequestContext::service("orchestrator");
    two.responses.runs.look(&service, &mut Steady::default()).await.unwrap();
    one.responses.runs.look(&service, &mut Steady::default()).await.unwrap();
    whole_stream()[4..].iter().for_each(|bytes| feed.send(bytes.clone()).unwrap());
    drop(feed);
    let (_, bytes) = read(attach(&two.responses, ctx, &id, None).await).await;
    assert_eq!(names(&events(&bytes)), WHOLE);
}

#[tokio::test]
async fn a_run_that_takes_too_long_is_ended() {
    let ground = Ground::new().await;
    let instance = ground.instance(ResponsesConfig { background_timeout_s: 1, ..long() }).await;
    let (responses, ctx) = (&instance.responses, &ground.ctx);
    let slow = ground.fake.script();
    let id = begin(responses, ctx).await;
    [opening(0), opening(1), delta(2)].into_iter().for_each(|bytes| slow.send(bytes).unwrap());
    let (_, bytes) = read(attach(responses, ctx, &id, None).await).await;
    let told = events(&bytes);
    assert_eq!(names(&told), ["created", "queued", "in_progress", "output_text.delta", "failed"]);
    assert_numbered(&told, 0);
    assert!(told[4].1["response"]["error"]["message"].as_str().unwrap().contains("longer"), "{told:?}");
    tokio::time::timeout(PATIENCE, slow.closed()).await.expect("the run ended");
}

#[tokio::test]
async fn what_is_too_large_to_be_kept_does_not_begin() {
    let ground = Ground::new().await;
    let instance = ground.instance(ResponsesConfig { max_bytes: 8_000, ..long() }).await;
    let asked = |words: usize| json!({"model": "m", "input": "x".repeat(words), "background": true});
    let error = ask(&instance.responses, &ground.ctx, asked(9_000)).await.err().unwrap();
    assert_eq!((error.code(), error.param()), (Code::PayloadTooLarge, Some("input")));
    // What is in the object is there three times.
    let mut told = asked(1);
    told["instructions"] = "x".repeat(3_000).into();
    let error = ask(&instance.responses, &ground.ctx, told).await.err().unwrap();
    assert_eq!(error.code(), Code::PayloadTooLarge);
    assert!(ask(&instance.responses, &ground.ctx, asked(10)).await.is_ok());
}

/// The usage at the end of an answer.
async fn used(mut frames: Frames) -> Option<(u64, u64)> {
    let end = async {
        while let Some(frame) = frames.next().await {
            if let Some(Frame::End(end)) = frame.unwrap().frame {
                return end.usage;
            }
        }
        None
    };
    let usage = tokio::time::timeout(PATIENCE, end).await.expect("an answer in time");
    usage.map(|usage| (usage.input_tokens, usage.output_tokens))
}

#[tokio::test]
async fn what_it_will_be_asked_is_said_at_once_and_what_it_used_at_its_end() {
    let ground = Ground::new().await;
    let instance = ground.instance(long()).await;
    let (responses, ctx) = (&instance.responses, &ground.ctx);
    let before = plain(responses, ctx, json!({"model": "m", "input": "x".repeat(40_000)})).await;
    let asked =
        json!({"model": "m", "input": "Hi", "background": true, "previous_response_id": before["id"]});
    let (input, output) = used(ask(responses, ctx, asked.clone()).await.unwrap()).await.unwrap();
    assert!(input > 9_000 && output == 0, "{input}, {output}");
    let mut streamed = asked;
    streamed["stream"] = true.into();
    assert_eq!(used(ask(responses, ctx, streamed).await.unwrap()).await, Some((3, 2)));
}

#[tokio::test]
async fn events_are_forgotten_and_the_end_stays() {
    let ground = Ground::new().await;
    let instance = ground.instance(long()).await;
    let (responses, ctx) = (&instance.responses, &ground.ctx);
    let id = begin(responses, ctx).await;
    let (_, bytes) = read(attach(responses, ctx, &id, None).await).await;
    let told = events(&bytes);
    assert_eq!(names(&told), WHOLE);
    let service = RequestContext::service("orchestrator");
    let store = &responses.shared.store;
    let prune = async || store.prune_events(&service, 3_600).await.unwrap();
    assert_eq!(prune().await, 0);
    let mut tx = instance.db.tenant(ctx).await.unwrap();
    let sql = "UPDATE chat.responses SET ended_at = ended_at - interval '2 hours' WHERE id = $1";
    sqlx::query(sql).bind(&id).execute(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
    assert!(store.prune_events(ctx, 3_600).await.is_err());
    assert_eq!((prune().await, prune().await), (1, 0));
    assert!(store.events(ctx, &id, 0).await.unwrap().unwrap().batches.is_empty());
    for after in [None, Some(6)] {
        let (_, bytes) = read(attach(responses, ctx, &id, after).await).await;
        assert_eq!(events(&bytes), told[7..]);
    }
    assert!(read(attach(responses, ctx, &id, Some(7)).await).await.1.is_empty());
    assert_eq!(get(responses, ctx, &id, &[]).await.unwrap(), told[7].1["response"]);
}

/// Whoever was to cancel it is gone.
#[tokio::test]
async fn a_wish_to_cancel_outlives_whoever_had_it() {
    let ground = Ground::new().await;
    let instance = ground.instance(short()).await;
    let (responses, ctx) = (&instance.responses, &ground.ctx);
    let _silent = ground.fake.script();
    let id = begin(responses, ctx).await;
    let store = &responses.shared.store;
    store.seize(ctx, &id, uuid::Uuid::now_v7(), Duration::ZERO).await.unwrap().unwrap();
    let (_, bytes) = read(attach(responses, ctx, &id, Some(1)).await).await;
    let told = events(&bytes);
    assert_eq!(told.last().unwrap().1["response"]["status"], "cancelled", "{told:?}");
}

/// A row of a run, and nobody who looks at it.
async fn row(ground: &Ground, events: Vec<Batch>) -> (store::Responses, Mine) {
    let late = LateDb::new(Db::connect_lazy(&DbConfig::new(ground.database.app_url.clone())).unwrap());
    late.verify().await.unwrap();
    let store = store::Responses::new(Some(late));
    let mine = Mine { tenant: ground.ctx.tenant.unwrap(), id: "resp_1".to_owned(), run: 0 };
    let kept = Kept {
        id: mine.id.clone(),
        previous: None,
        status: "queued".to_owned(),
        background: true,
        input: b"[]".to_vec(),
        output: b"[]".to_vec(),
        object: b"{}".to_vec(),
    };
    let mut events = events.into_iter();
    let begin = Begin {
        kept: &kept,
        job: Vec::new(),
        events: events.next().unwrap(),
        owner: uuid::Uuid::now_v7(),
        lease: Duration::from_secs(600),
        days: 1,
        most: 1,
    };
    assert!(store.begin(&ground.ctx, begin).await.unwrap());
    for batch in events {
        let written = store.write(&ground.ctx, &mine, &batch, &Write::default()).await.unwrap();
        assert_eq!(written, Written::Done);
    }
    (store, mine)
}

#[tokio::test]
async fn events_are_read_so_many_bytes_at_once() {
    let ground = Ground::new().await;
    let kib = |number: u64, kib: usize| {
        let events = vec![b'x'; kib * 1024].into();
        Batch { first: number * 2, last: number * 2 + 1, events }
    };
    let sizes = [100, 100, 100, 300, 1, 1];
    let all = sizes.iter().zip(0..).map(|(size, number)| kib(number, *size)).collect();
    let (store, mine) = row(&ground, all).await;
    let read = async |from: u64| {
        let found = store.events(&ground.ctx, &mine.id, from).await.unwrap().unwrap();
        assert_eq!((found.ended, found.last), (false, Some(11)));
        found.batches.iter().map(|batch| batch.first).collect::<Vec<_>>()
    };
    for (from, expected) in
        [(0, vec![0, 2]), (3, vec![2, 4]), (5, vec![4]), (6, vec![6]), (8, vec![8, 10]), (12, vec![])]
    {
        assert_eq!(read(from).await, expected, "{from}");
    }
}

#[tokio::test]
async fn leaving_a_run_is_no_crash() {
    let ground = Ground::new().await;
    let batch = Batch { first: 0, last: 1, events: "x".into() };
    let (store, mut mine) = row(&ground, vec![batch]).await;
    let service = RequestContext::service("orchestrator");
    let (ctx, other) = (&ground.ctx, uuid::Uuid::now_v7());
    let take = async |lease: Duration, only_left: bool| {
        store.take(&service, other, lease, false, only_left, 9).await.unwrap().pop()
    };
    let lease = Duration::from_secs(600);
    assert!(take(lease, false).await.is_none());
    for (left, crashes) in [(Left::ToOthers, 0), (Left::ToOthers, 0), (Left::Astray, 1), (Left::ToOthers, 1)]
    {
        store.release(ctx, &mine, left).await.unwrap();
        let taken = take(lease, true).await.unwrap();
        assert_eq!((taken.crashes, taken.cancelling), (crashes, false));
        mine = taken.mine;
    }
    // One whose lease is over is not left.
    store.release(ctx, &mine, Left::ToOthers).await.unwrap();
    take(Duration::ZERO, true).await.unwrap();
    assert!(take(lease, true).await.is_none());
    assert_eq!(take(lease, false).await.unwrap().crashes, 2);
}
