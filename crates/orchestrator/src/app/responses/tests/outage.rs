//! PostgreSQL away.

use weir_error::Code;

use super::*;

#[tokio::test]
async fn without_a_database_answers_are_not_kept_and_memory_is_unavailable() {
    let postgres = Postgres::private().await.unwrap();
    let ground = Ground::on(&postgres).await;
    let instance = ground.instance(long()).await;
    let (responses, ctx) = (&instance.responses, &ground.ctx);
    let id = plain(responses, ctx, json!({"model": "m", "input": "Hi"})).await["id"].clone();
    postgres.stop().await.unwrap();
    let (head, bytes) = read(ask(responses, ctx, json!({"model": "m", "input": "Hi"})).await.unwrap()).await;
    assert_eq!(head.headers["x-weir-warnings"], "dropped;store");
    let answer: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!((&answer["status"], &answer["store"]), (&json!("completed"), &json!(false)));
    let streamed = ask(responses, ctx, json!({"model": "m", "input": "Hi", "stream": true})).await.unwrap();
    let (head, bytes) = read(streamed).await;
    assert_eq!(head.headers["x-weir-warnings"], "dropped;store");
    assert_eq!(events(&bytes).last().unwrap().1["response"]["store"], false);
    for body in [
        json!({"model": "m", "input": "Hi", "previous_response_id": id}),
        json!({"model": "m", "input": "Hi", "background": true}),
    ] {
        let error = ask(responses, ctx, body).await.err().unwrap();
        assert_eq!(error.code(), Code::Unavailable);
        assert!(error.retry_after().is_some());
    }
    // What is not to be kept needs no database, and says nothing of it.
    let asked = ask(responses, ctx, json!({"model": "m", "input": "Hi", "store": false})).await.unwrap();
    assert!(read(asked).await.0.headers.is_empty());
    postgres.start().await.unwrap();
    assert!(get(responses, ctx, id.as_str().unwrap(), &[]).await.is_ok());
}

#[tokio::test]
async fn a_background_run_outlives_its_database_s_absence() {
    let postgres = Postgres::private().await.unwrap();
    let ground = Ground::on(&postgres).await;
    let instance = ground.instance(long()).await;
    let (responses, ctx) = (&instance.responses, &ground.ctx);
    let feed = ground.fake.script();
    let id = begin(responses, ctx).await;
    [opening(0), opening(1), delta(2)].into_iter().for_each(|bytes| feed.send(bytes).unwrap());
    until_kept(responses, ctx, &id, 3).await;
    let attached = attach(responses, ctx, &id, None).await;
    let reading = read(attached);
    let outage = async {
        postgres.stop().await.unwrap();
        [delta(3), delta(4), completed(5)].into_iter().for_each(|bytes| feed.send(bytes).unwrap());
        drop(feed);
        postgres.start().await.unwrap();
    };
    let ((_, bytes), ()) = tokio::join!(reading, outage);
    let told = events(&bytes);
    assert_numbered(&told, 0);
    let deltas = ["output_text.delta"; 3];
    assert_eq!(names(&told), [&["created", "queued", "in_progress"][..], &deltas, &["completed"]].concat());
}
