//! Several relays at once, many keys, and who may see an outbox.

use std::collections::BTreeMap;

use weir_runtime::Tasks;
use weir_types::Principal;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn several_relays_share_the_work_and_keep_each_key_in_order() {
    let world = World::ready().await;
    let tenants = [TenantId::new(), TenantId::new()];
    let tasks = Tasks::new();
    for _ in 0..3 {
        world.relay().spawn("relay", &tasks);
    }
    let mut count = 0;
    for round in 0..40 {
        for tenant in tenants {
            let keys = ["a", "b", "c", "d"];
            let letters: Vec<_> =
                (0..25).map(|n| letter(tenant, keys[n % 4], round * 25 + n as u32)).collect();
            count += letters.len();
            world.write(tenant, &letters).await;
        }
    }
    world.empty().await;
    assert!(tasks.stop(PATIENCE).await);
    let stored = world.stored().await;
    assert_eq!(stored.len(), count);
    let mut by_key: BTreeMap<_, Vec<u32>> = BTreeMap::new();
    for (tenant, key, payload) in &stored {
        by_key.entry((tenant, key)).or_default().push(number(payload));
    }
    assert_eq!(by_key.len(), 8);
    assert!(by_key.values().all(|numbers| numbers.is_sorted()), "{by_key:?}");
    let published = world.metric(r#"weir_outbox_published_total{outbox="control"}"#).unwrap();
    assert_eq!(published as usize, count, "each by one relay");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_relay_holds_a_keys_first_letter_nobody_takes_the_second() {
    let world = World::ready().await;
    let tenant = TenantId::new();
    let service = RequestContext::service("test");
    world.write(tenant, &[letter(tenant, "a", 1)]).await;
    let mut one = world.db.lookup(&service).await.unwrap();
    assert_eq!(Outbox::Control.take(&mut one, 10).await.unwrap().len(), 1);
    world.write(tenant, &[letter(tenant, "a", 2), letter(tenant, "b", 3)]).await;
    let mut other = world.db.lookup(&service).await.unwrap();
    let taken = Outbox::Control.take(&mut other, 10).await.unwrap();
    assert_eq!(taken.iter().map(|t| number(&t.payload)).collect::<Vec<_>>(), [3]);
    assert_eq!(taken[0].trace.as_deref(), Some(TRACE));
    drop((one, other));
    let mut third = world.db.lookup(&service).await.unwrap();
    let all = until("what the dropped ones held", async || {
        let all = Outbox::Control.take(&mut third, 10).await.unwrap();
        (all.len() == 3).then_some(all)
    })
    .await;
    assert_eq!(all.iter().map(|t| number(&t.payload)).collect::<Vec<_>>(), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_is_refused_holds_up_its_own_key_only() {
    let world = World::ready().await;
    let tenant = TenantId::new();
    let nowhere = Letter { subject: "nowhere.at.all".into(), ..letter(tenant, "a", 1) };
    world.write(tenant, &[nowhere, letter(tenant, "a", 2), letter(tenant, "b", 3)]).await;
    let pass = world.relay().pass().await.unwrap();
    assert_eq!((pass.published, pass.failed), (1, 1));
    assert_eq!(world.stored().await.iter().map(|s| number(&s.2)).collect::<Vec<_>>(), [3]);
    assert_eq!(world.waiting().await, 2);
    // Its way opens: it is tried again.
    world.admin("UPDATE control.outbox SET subject = replace(subject, 'nowhere.at.all', 'weir.audit.' || tenant_id || '.a')").await;
    let tasks = Tasks::new();
    world.relay().spawn("relay", &tasks);
    world.empty().await;
    assert!(tasks.stop(PATIENCE).await);
    assert_eq!(world.stored().await.iter().map(|s| number(&s.2)).collect::<Vec<_>>(), [3, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_letters_of_one_key_are_taken_within_a_statement_s_time() {
    let world = World::ready().await;
    let tenant = TenantId::new();
    world
        .admin(&format!(
            "INSERT INTO control.outbox (tenant_id, key, event_id, subject, payload, time_ms) \
             SELECT '{tenant}', 'a', gen_random_uuid(), 'weir.audit.{tenant}.a', int4send(n), 0 \
             FROM generate_series(1, 20000) n ORDER BY n; ANALYZE control.outbox"
        ))
        .await;
    let pass = world.relay().pass().await.unwrap();
    assert!(pass.published > 0 && pass.failed == 0, "{pass:?}");
    let first: Vec<_> = world.stored().await.iter().map(|s| number(&s.2)).collect();
    assert_eq!(first, (1..=pass.published as u32).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_that_were_refused_go_behind_the_others() {
    let world = World::ready().await;
    let tenant = TenantId::new();
    let nowhere = |key: String, n| Letter { subject: "nowhere.at.all".into(), ..letter(tenant, &key, n) };
    let refused: Vec<_> = (0..300).map(|n| nowhere(format!("k{}", n / 2), n)).collect();
    world.write(tenant, &refused).await;
    world.admin("UPDATE control.outbox SET failures = 1").await;
    world.write(tenant, &[letter(tenant, "a", 1)]).await;
    let pass = world.relay().pass().await.unwrap();
    assert_eq!(pass.published, 1);
    assert!(pass.failed > 0, "they are tried again all the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_services_read_an_outbox_and_nobody_writes_for_another_tenant() {
    let world = World::new().await;
    let tenant = TenantId::new();
    world.write(tenant, &[letter(tenant, "a", 1)]).await;
    for principal in [Principal::Platform, Principal::Key { id: weir_types::KeyId::new(), user: None }] {
        let ctx = RequestContext { principal, ..ctx(tenant) };
        assert!(Outbox::Control.state(&world.db, &ctx).await.is_err());
        let mut tx = world.db.lookup(&ctx).await.unwrap();
        assert!(Outbox::Control.take(&mut tx, 1).await.is_err());
    }
    let ctx = ctx(tenant);
    let mut tx = world.db.tenant(&ctx).await.unwrap();
    let seen = sqlx::query("SELECT * FROM control.outbox").execute(tx.conn()).await.unwrap_err();
    assert!(seen.to_string().contains("permission denied"), "{seen}");
    let mut tx = world.db.tenant(&ctx).await.unwrap();
    let foreign = sqlx::query(
        "INSERT INTO control.outbox (tenant_id, key, event_id, subject, payload, time_ms) \
         VALUES (gen_random_uuid(), 'a', gen_random_uuid(), 's', '', 0)",
    );
    let refused = foreign.execute(tx.conn()).await.unwrap_err();
    assert!(refused.to_string().contains("row-level security"), "{refused}");
    let mut batch = world.db.batch(&RequestContext::service("test")).await.unwrap();
    assert!(Outbox::Control.write(&mut batch, &ctx, &[letter(tenant, "a", 2)]).await.is_err());
    batch.switch(tenant).await.unwrap();
    Outbox::Control.write(&mut batch, &ctx, &[letter(tenant, "a", 2)]).await.unwrap();
    batch.commit().await.unwrap();
    assert_eq!(world.waiting().await, 2);
}
