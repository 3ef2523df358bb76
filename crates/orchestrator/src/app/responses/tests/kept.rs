//! What is kept of responses whose clients wait for them, and what goes on from it.

use weir_error::Code;
use weir_proto::chat::{DeleteResponseRequest, ListInputItemsRequest};

use super::*;

#[tokio::test]
async fn a_response_is_kept_and_gone_on_from() {
    let ground = Ground::new().await;
    let instance = ground.instance(long()).await;
    let (responses, ctx) = (&instance.responses, &ground.ctx);
    let body = json!({"model": "o3", "input": "Hi", "x": {"y": 1}});
    let first = plain(responses, ctx, body).await;
    let id = first["id"].as_str().unwrap();
    assert!(id.starts_with("resp_") && id != "resp_theirs", "{first}");
    assert_eq!((&first["store"], &first["vendor_thing"]), (&json!(true), &json!(1)));
    // What the client did not ask for is kept for the next turn, and not shown.
    assert_eq!(first["output"][0], json!({"type": "reasoning", "id": "rs_1", "summary": []}));
    assert_eq!(get(responses, ctx, id, &[]).await.unwrap(), first);
    let all = get(responses, ctx, id, &["reasoning.encrypted_content"]).await.unwrap();
    assert_eq!(all["output"][0], thought());
    let sent = ground.fake.body(0);
    assert_eq!((&sent["store"], &sent["x"]["y"], &sent["input"]), (&json!(false), &json!(1), &json!("Hi")));

    let body =
        json!({"model": "o3", "input": [{"role": "user", "content": "More"}], "previous_response_id": id});
    let second = plain(responses, ctx, body).await;
    assert_eq!(second["previous_response_id"], id);
    let said = json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]});
    let more = json!({"role": "user", "content": "More"});
    assert_eq!(ground.fake.body(1)["input"], json!([said, thought(), message(), more]));
    assert!(ground.fake.body(1).get("previous_response_id").is_none());

    let second = second["id"].as_str().unwrap();
    let list = |limit, after: &str, ascending| ListInputItemsRequest {
        id: second.to_owned(),
        limit,
        after: after.to_owned(),
        ascending,
    };
    let page = responses.input_items(ctx, &list(0, "", true)).await.unwrap();
    let page: Value = serde_json::from_slice(&page).unwrap();
    let items = page["data"].as_array().unwrap();
    assert_eq!((items.len(), &page["has_more"], &page["last_id"]), (4, &json!(false), &items[3]["id"]));
    assert!(items.iter().all(|item| item["id"].is_string() && item.get("encrypted_content").is_none()));
    let page = responses.input_items(ctx, &list(2, items[3]["id"].as_str().unwrap(), false)).await.unwrap();
    let page: Value = serde_json::from_slice(&page).unwrap();
    assert_eq!((&page["data"], &page["has_more"]), (&json!([items[2], items[1]]), &json!(true)));
    let wrong = responses.input_items(ctx, &list(2, "nothing", false)).await.unwrap_err();
    assert_eq!((wrong.code(), wrong.param()), (Code::InvalidArgument, Some("after")));

    let delete = DeleteResponseRequest { id: id.to_owned() };
    responses.delete(ctx, &delete).await.unwrap();
    assert_eq!(responses.delete(ctx, &delete).await.unwrap_err().code(), Code::NotFound);
    // A conversation with a hole is none.
    let body = json!({"model": "m", "input": "x", "previous_response_id": second});
    let error = ask(responses, ctx, body).await.err().unwrap();
    assert_eq!((error.code(), error.param()), (Code::PreviousResponseNotFound, Some("previous_response_id")));
    let text = error.message();
    assert!(text.contains(id) && text.contains(second) && text.contains("not kept any more"), "{text}");
}

#[tokio::test]
async fn what_is_not_to_be_kept_is_not() {
    let ground = Ground::new().await;
    let instance = ground.instance(ResponsesConfig { max_bytes: 2_000, ..long() }).await;
    let (responses, ctx) = (&instance.responses, &ground.ctx);
    let answer = plain(responses, ctx, json!({"model": "m", "input": "Hi", "store": false})).await;
    assert_eq!(answer["store"], false);
    let id = answer["id"].as_str().unwrap();
    assert_eq!(get(responses, ctx, id, &[]).await.unwrap_err().code(), Code::NotFound);
    // Too large.
    let asked = ask(responses, ctx, json!({"model": "m", "input": "x".repeat(3_000)})).await.unwrap();
    let (head, body) = read(asked).await;
    assert_eq!(head.headers["x-weir-warnings"], "dropped;store");
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&answer["store"], &answer["status"]), (&json!(false), &json!("completed")));
    let id = answer["id"].as_str().unwrap();
    assert_eq!(get(responses, ctx, id, &[]).await.unwrap_err().code(), Code::NotFound);
}

/// Nor does what can't be an id: a zero byte would be the database's error.
#[tokio::test]
async fn what_is_no_id_names_nothing() {
    let ground = Ground::new().await;
    let instance = ground.instance(long()).await;
    let (responses, ctx) = (&instance.responses, &ground.ctx);
    for id in ["", "resp_\0", "resp_1 ", "é", &"x".repeat(129)] {
        let body = json!({"model": "m", "input": "x", "previous_response_id": id});
        let error = ask(responses, ctx, body).await.err().unwrap();
        assert_eq!(error.code(), Code::PreviousResponseNotFound, "{id:?}");
        assert!(error.message().len() < 200);
        assert_eq!(get(responses, ctx, id, &[]).await.unwrap_err().code(), Code::NotFound, "{id:?}");
    }
}

#[tokio::test]
async fn another_tenant_s_response_is_not_there() {
    let ground = Ground::new().await;
    let instance = ground.instance(long()).await;
    let responses = &instance.responses;
    let id = begin(responses, &ground.ctx).await;
    let stranger = caller();
    assert_eq!(get(responses, &stranger, &id, &[]).await.unwrap_err().code(), Code::NotFound);
    let error = responses.cancel(&stranger, &super::super::CancelResponseRequest { id: id.clone() }).await;
    assert_eq!(error.unwrap_err().code(), Code::NotFound);
    let error = responses.delete(&stranger, &DeleteResponseRequest { id: id.clone() }).await;
    assert_eq!(error.unwrap_err().code(), Code::NotFound);
    let request = ListInputItemsRequest { id: id.clone(), ..ListInputItemsRequest::default() };
    assert_eq!(responses.input_items(&stranger, &request).await.unwrap_err().code(), Code::NotFound);
    let request = AttachResponseRequest { id: id.clone(), starting_after: None };
    assert_eq!(responses.attach(&stranger, request).await.err().unwrap().code(), Code::NotFound);
    let body = json!({"model": "m", "input": "x", "previous_response_id": id});
    let error = ask(responses, &stranger, body).await.err().unwrap();
    assert_eq!(error.code(), Code::PreviousResponseNotFound);
    assert!(get(responses, &ground.ctx, &id, &[]).await.is_ok());
}

/// Within a tenant, each user's are the user's; those of keys without one are theirs; the platform sees all.
#[tokio::test]
async fn another_user_s_response_is_not_there() {
    let ground = Ground::new().await;
    let instance = ground.instance(long()).await;
    let responses = &instance.responses;
    let of = |user: Option<UserId>| RequestContext {
        principal: Principal::Key { id: KeyId::new(), user },
        ..ground.ctx.clone()
    };
    let (ann, nobody) = (Some(UserId::new()), of(None));
    let platform = RequestContext { principal: Principal::Platform, ..ground.ctx.clone() };
    let feed = ground.fake.script();
    let running = begin(responses, &of(ann)).await;
    let whole = plain(responses, &of(ann), json!({"model": "m", "input": "Hi"})).await;
    let theirs = plain(responses, &nobody, json!({"model": "m", "input": "Hi"})).await;
    let theirs = theirs["id"].as_str().unwrap();
    for id in [running.as_str(), whole["id"].as_str().unwrap()] {
        // With another of the user's keys.
        assert!(get(responses, &of(ann), id, &[]).await.is_ok());
        assert!(get(responses, &platform, id, &[]).await.is_ok());
        for stranger in [of(Some(UserId::new())), nobody.clone()] {
            assert_eq!(get(responses, &stranger, id, &[]).await.unwrap_err().code(), Code::NotFound);
            let request = super::super::CancelResponseRequest { id: id.to_owned() };
            assert_eq!(responses.cancel(&stranger, &request).await.unwrap_err().code(), Code::NotFound);
            let request = DeleteResponseRequest { id: id.to_owned() };
            assert_eq!(responses.delete(&stranger, &request).await.unwrap_err().code(), Code::NotFound);
            let request = ListInputItemsRequest { id: id.to_owned(), ..ListInputItemsRequest::default() };
            assert_eq!(responses.input_items(&stranger, &request).await.unwrap_err().code(), Code::NotFound);
            let request = AttachResponseRequest { id: id.to_owned(), starting_after: None };
            assert_eq!(responses.attach(&stranger, request).await.err().unwrap().code(), Code::NotFound);
            let body = json!({"model": "m", "input": "x", "previous_response_id": id});
            let error = ask(responses, &stranger, body).await.err().unwrap();
            assert_eq!(error.code(), Code::PreviousResponseNotFound);
            let body = json!({"model": "m", "input": [{"type": "item_reference", "id": "rs_1"}]});
            let refers = ask(responses, &stranger, body).await.is_ok();
            assert_eq!(refers, stranger.user().is_none(), "its own turn has one of that name");
        }
    }
    assert_eq!(get(responses, &of(ann), theirs, &[]).await.unwrap_err().code(), Code::NotFound);
    assert!(get(responses, &nobody, theirs, &[]).await.is_ok());
    let request = super::super::CancelResponseRequest { id: running };
    assert!(responses.cancel(&of(ann), &request).await.is_ok());
    drop(feed);
}

/// As SDKs do that repeat nothing and name no response.
#[tokio::test]
async fn an_item_is_referred_to_without_its_response() {
    let ground = Ground::new().await;
    let instance = ground.instance(long()).await;
    let (responses, ctx) = (&instance.responses, &ground.ctx);
    let reference = |id: &str| json!({"type": "item_reference", "id": id});
    let said = |text: &str| json!({"role": "user", "content": text});
    let first = plain(responses, ctx, json!({"model": "m", "input": [said("one")]})).await;
    let input = json!([said("one"), reference("rs_1"), reference("msg_1"), said("two")]);
    let second = plain(responses, ctx, json!({"model": "m", "input": input})).await;
    let all = json!([said("one"), thought(), message(), said("two")]);
    assert_eq!(ground.fake.body(1)["input"], all);
    // What goes on from there has it all, once.
    let body = json!({"model": "m", "input": [said("three")], "previous_response_id": second["id"]});
    plain(responses, ctx, body).await;
    let sent = &ground.fake.body(2)["input"];
    assert_eq!((&sent[0], &sent[1], &sent[2]), (&all[0], &all[1], &all[2]));
    assert_eq!(sent.as_array().unwrap().len(), 7);
    // An item of a question, by the id that its list gives it; and one of a run.
    let request = ListInputItemsRequest {
        id: first["id"].as_str().unwrap().to_owned(),
        ..ListInputItemsRequest::default()
    };
    let items: Value = serde_json::from_slice(&responses.input_items(ctx, &request).await.unwrap()).unwrap();
    let listed = items["data"][0]["id"].as_str().unwrap();
    plain(responses, ctx, json!({"model": "m", "input": [reference(listed)]})).await;
    assert_eq!(ground.fake.body(3)["input"][0]["content"], "one");
    let feed = ground.fake.script();
    let id = begin(responses, ctx).await;
    let own = json!({"type": "message", "id": "msg_of_a_run", "role": "assistant", "content": []});
    let mut answer = answer();
    answer["output"] = json!([own]);
    feed.send(event("response.completed", 0, json!({"response": answer}))).unwrap();
    read(attach(responses, ctx, &id, None).await).await;
    plain(responses, ctx, json!({"model": "m", "input": [reference("msg_of_a_run")]})).await;
    assert_eq!(ground.fake.body(5)["input"], json!([own]));
    // Nobody else's, and none that is forgotten.
    let body = json!({"model": "m", "input": [reference("msg_1")]});
    let error = ask(responses, &caller(), body.clone()).await.err().unwrap();
    assert_eq!((error.code(), error.param()), (Code::NotFound, Some("input")));
    responses.delete(ctx, &DeleteResponseRequest { id }).await.unwrap();
    let body = json!({"model": "m", "input": [reference("msg_of_a_run")]});
    assert_eq!(ask(responses, ctx, body).await.err().unwrap().code(), Code::NotFound);
}

#[tokio::test]
async fn listed_messages_have_parts() {
    let ground = Ground::new().await;
    let instance = ground.instance(long()).await;
    let (responses, ctx) = (&instance.responses, &ground.ctx);
    let input = json!([{"role": "user", "content": "a"}, {"role": "assistant", "id": "m1", "content": "b"},
        {"type": "reasoning", "id": "r1", "summary": [], "encrypted_content": "x"}]);
    let made = plain(responses, ctx, json!({"model": "m", "input": input})).await;
    let request = ListInputItemsRequest {
        id: made["id"].as_str().unwrap().to_owned(),
        ascending: true,
        ..ListInputItemsRequest::default()
    };
    let items: Value = serde_json::from_slice(&responses.input_items(ctx, &request).await.unwrap()).unwrap();
    let data = &items["data"];
    assert_eq!(data[0]["content"], json!([{"type": "input_text", "text": "a"}]));
    assert!(data[0]["id"].as_str().unwrap().starts_with("msg_"), "{data}");
    assert_eq!((&data[0]["status"], &data[0]["type"]), (&json!("completed"), &json!("message")));
    assert_eq!(data[1]["content"], json!([{"type": "output_text", "text": "b", "annotations": []}]));
    assert_eq!((&data[1]["id"], &data[1]["type"]), (&json!("m1"), &json!("message")));
    assert_eq!(data[2], json!({"type": "reasoning", "id": "r1", "summary": []}));
}

#[tokio::test]
async fn a_stream_is_made_ours_and_ends_once() {
    let ground = Ground::new().await;
    let instance = ground.instance(long()).await;
    let (responses, ctx) = (&instance.responses, &ground.ctx);
    let body = json!({"model": "m", "input": "Hi", "stream": true});
    let (_, bytes) = read(ask(responses, ctx, body.clone()).await.unwrap()).await;
    let told = events(&bytes);
    assert_numbered(&told, 0);
    assert_eq!(*names(&told).last().unwrap(), "completed");
    let whole = &told.last().unwrap().1["response"];
    let id = whole["id"].as_str().unwrap();
    assert!(told.iter().all(|(_, data)| data.get("response").is_none_or(|r| r["id"] == id)));
    assert!(!String::from_utf8(bytes).unwrap().contains("secret thought"));
    assert_eq!(get(responses, ctx, id, &[]).await.unwrap(), *whole);
    let all = get(responses, ctx, id, &["reasoning.encrypted_content"]).await.unwrap();
    assert_eq!(all["output"][0], thought());

    // One that breaks off, and one that goes on after its end.
    let cut = ground.fake.script();
    [opening(0), opening(1), delta(2)].into_iter().for_each(|bytes| cut.send(bytes).unwrap());
    drop(cut);
    let (_, bytes) = read(ask(responses, ctx, body.clone()).await.unwrap()).await;
    let told = events(&bytes);
    assert_eq!(names(&told), ["created", "in_progress", "output_text.delta", "failed"]);
    assert_numbered(&told, 0);
    assert_eq!(told[3].1["response"]["error"]["code"], "server_error");
    let long = ground.fake.script();
    let both = [opening(0), completed(1), delta(2), completed(3)].concat();
    long.send(both.into()).unwrap();
    drop(long);
    let (_, bytes) = read(ask(responses, ctx, body).await.unwrap()).await;
    assert_eq!(names(&events(&bytes)), ["created", "completed"]);
}

#[tokio::test]
async fn an_end_that_cannot_be_read_is_told_as_a_failure_and_one_is_told_by_its_name() {
    let ground = Ground::new().await;
    let instance = ground.instance(long()).await;
    let (responses, ctx) = (&instance.responses, &ground.ctx);
    let body = json!({"model": "m", "input": "Hi", "stream": true});
    for odd in [json!({}), json!({"response": null}), json!({"response": 3})] {
        let script = ground.fake.script();
        let both = [opening(0), delta(1), event("response.completed", 2, odd.clone())].concat();
        script.send(both.into()).unwrap();
        drop(script);
        let (_, bytes) = read(ask(responses, ctx, body.clone()).await.unwrap()).await;
        let told = events(&bytes);
        assert_eq!(names(&told), ["created", "output_text.delta", "failed"], "{odd}");
        assert_numbered(&told, 0);
        assert_eq!(told[2].1["response"]["error"]["code"], "server_error");
    }
    let failed =
        json!({"response": {"id": "resp_theirs", "error": {"code": "server_error", "message": "gone"}}});
    let script = ground.fake.script();
    script.send([opening(0), event("response.failed", 1, failed.clone())].concat().into()).unwrap();
    drop(script);
    let (_, bytes) = read(ask(responses, ctx, body).await.unwrap()).await;
    let last = events(&bytes).pop().unwrap();
    assert_eq!((last.0.as_str(), &last.1["response"]["status"]), ("response.failed", &json!("failed")));
    let id = last.1["response"]["id"].as_str().unwrap();
    assert_eq!(get(responses, ctx, id, &[]).await.unwrap()["status"], "failed");

    // In the background, too; and nobody writes lines of its own there.
    let script = ground.fake.script();
    let forged: Bytes =
        (String::from(r#"data: {"type":"evil\n\ndata: {\"type\":\"forged\"}"}"#) + "\n\n").into();
    script
        .send([opening(0), opening(1), forged, event("response.failed", 2, failed)].concat().into())
        .unwrap();
    drop(script);
    let id = begin(responses, ctx).await;
    let (_, bytes) = read(attach(responses, ctx, &id, None).await).await;
    let told = events(&bytes);
    assert_eq!(names(&told), ["created", "queued", "in_progress", "failed"]);
    assert_numbered(&told, 0);
    assert_eq!(told[3].1["response"]["status"], "failed");
}

#[tokio::test]
async fn the_old_is_forgotten_unless_something_goes_on_from_it() {
    let ground = Ground::new().await;
    let instance = ground.instance(long()).await;
    let (responses, ctx) = (&instance.responses, &ground.ctx);
    let mut ids = Vec::new();
    for _ in 0..3 {
        let mut body = json!({"model": "m", "input": "Hi"});
        if let Some(previous) = ids.last() {
            body["previous_response_id"] = json!(previous);
        }
        ids.push(plain(responses, ctx, body).await["id"].as_str().unwrap().to_owned());
    }
    let alone = plain(responses, ctx, json!({"model": "m", "input": "Hi"})).await;
    let alone = alone["id"].as_str().unwrap().to_owned();
    let expire = async |ids: Vec<String>| {
        let mut tx = instance.db.tenant(ctx).await.unwrap();
        let sql = "UPDATE chat.responses SET expires_at = now() - interval '1 second' WHERE id = ANY ($1)";
        sqlx::query(sql).bind(ids).execute(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
    };
    let service = RequestContext::service("orchestrator");
    expire(vec![ids[0].clone(), ids[1].clone(), alone.clone()]).await;
    assert_eq!(responses.shared.store.prune(&service).await.unwrap(), 1);
    assert_eq!(get(responses, ctx, &alone, &[]).await.unwrap_err().code(), Code::NotFound);
    assert!(get(responses, ctx, &ids[0], &[]).await.is_ok());
    expire(ids.clone()).await;
    assert_eq!(responses.shared.store.prune(&service).await.unwrap(), 3);
    // Nobody but a service may.
    assert!(responses.shared.store.prune(ctx).await.is_err());
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_response() {
    let ground = Ground::new().await;
    let instance = ground.instance(long()).await;
    let feed = ground.fake.script();
    let body = json!({"model": "m", "input": "Hi", "stream": true});
    let mut frames = ask(&instance.responses, &ground.ctx, body).await.unwrap();
    feed.send(opening(0)).unwrap();
    for _ in 0..2 {
        frames.next().await.unwrap().unwrap();
    }
    drop(frames);
    tokio::time::timeout(PATIENCE, feed.closed()).await.expect("the provider is let go");
}
