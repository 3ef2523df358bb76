//! What is pushed, and what holds without.

use super::*;

#[tokio::test]
async fn a_pushed_revocation_counts_at_once_and_beats_an_answer_under_way() {
    let house = house(Config::default());
    let revoke = |key: &Key| {
        let change = KeyChange { key_id: key.id.to_string(), revoked: true };
        background::apply(&house.access.0.lookup, &change, 0).unwrap();
    };
    let (key, late) = (house.key(|_| {}), house.key(|_| {}));
    assert_eq!(house.code(&key.text).await, None);
    revoke(&key);
    assert_eq!(house.code(&key.text).await, Some(Code::InvalidApiKey));
    assert_eq!(house.asked(), 1);

    house.control.0.held.send_replace(true);
    let overtaken = async {
        house.wait_for_questions(2).await;
        revoke(&late);
        house.control.0.held.send_replace(false);
    };
    let (answer, ()) = futures_util::future::join(house.code(&late.text), overtaken).await;
    assert_eq!(answer, Some(Code::InvalidApiKey));
    assert_eq!(house.code(&late.text).await, Some(Code::InvalidApiKey));
    assert_eq!(house.asked(), 2);
}

#[tokio::test]
async fn revocations_are_followed_on_a_real_bucket_also_those_from_before() {
    let nats = weir_testkit::Nats::start().await.unwrap();
    let config = weir_events::NatsConfig { url: nats.url().into(), ..Default::default() };
    let metrics = weir_events::EventMetrics::new(&weir_telemetry::Metrics::new());
    let bus = Bus::connect(&config, metrics).await.unwrap();
    let house = house_on(Config::default(), Some(bus.clone()));
    let (before, after) = (house.key(|_| {}), house.key(|_| {}));
    let push = async |key: &Key| {
        let change = prost::Message::encode_to_vec(&KeyChange { key_id: key.id.to_string(), revoked: true });
        until("the bucket to take it", async || {
            let name = format!("{}.{}", key.tenant, key.id);
            bus.push(Bucket::KEYS).put(&name, change.clone().into()).await.ok()
        })
        .await;
    };
    let refused = async |key: &Key| {
        until("the revocation", async || {
            (house.code(&key.text).await == Some(Code::InvalidApiKey)).then_some(())
        })
        .await;
    };
    push(&before).await;
    assert_eq!(house.code(&before.text).await, None);
    let tasks = Tasks::new();
    house.access.spawn(&tasks);
    refused(&before).await;
    assert_eq!(house.code(&after.text).await, None);
    push(&after).await;
    refused(&after).await;
    assert!(tasks.stop(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn without_push_a_revocation_counts_at_every_gateway_after_thirty_seconds() {
    let gateways = [house(Config::default()), house(Config::default())];
    let key = gateways[0].key(|_| {});
    // Both ask the same control plane, each by a clock of its own.
    let grant = gateways[0].control.0.keys.lock().get(&sha256(&key.text)).cloned().unwrap();
    gateways[1].control.0.keys.lock().insert(sha256(&key.text), grant);
    for gateway in &gateways {
        assert_eq!(gateway.code(&key.text).await, None);
        gateway.delete(&key);
        gateway.ticker.advance_ms(29_999);
        assert_eq!(gateway.code(&key.text).await, None, "nobody told it");
        gateway.ticker.advance_ms(1);
        assert_eq!(gateway.code(&key.text).await, Some(Code::InvalidApiKey));
    }
}

#[tokio::test]
async fn pushed_terms_count_at_once_and_beat_an_older_answer() {
    let house = house(Config::default());
    let limits = |requests| Some(RateLimits { requests_per_minute: Some(requests), tokens_per_minute: None });
    let key = house.key(|grant| (grant.rate_limits, grant.tenant_version) = (limits(10), 1));
    let push = |version, requests, suspended| {
        let tenant_id = key.tenant.to_string();
        let state = TenantState { tenant_id, version, rate_limits: limits(requests), suspended };
        background::apply_tenant(&house.access.0.lookup, &state).unwrap();
    };
    let limit = async || house.grant(&key).await.limits().requests_per_minute;
    assert_eq!(limit().await, Some(10));
    push(3, 30, false);
    push(2, 20, true);
    assert_eq!(limit().await, Some(30), "the later one holds");
    house.ticker.advance_ms(31_000);
    assert_eq!(limit().await, Some(30), "an answer of an older version changes nothing");
    assert_eq!(house.asked(), 2);

    push(4, 30, true);
    assert_eq!(house.code(&key.text).await, Some(Code::InvalidApiKey));
    // The control plane says the same; then the tenant is active again before that is forgotten.
    let grant = house.control.0.keys.lock().remove(&sha256(&key.text)).unwrap();
    house.ticker.advance_ms(31_000);
    assert_eq!(house.code(&key.text).await, Some(Code::InvalidApiKey));
    house.control.0.keys.lock().insert(sha256(&key.text), KeyGrant { tenant_version: 5, ..grant });
    assert_eq!(house.code(&key.text).await, Some(Code::InvalidApiKey));
    push(5, 30, false);
    assert_eq!(house.code(&key.text).await, None);
}

#[tokio::test]
async fn what_makes_no_sense_is_skipped_and_counted_and_a_lost_watch_doubts_every_key() {
    let nats = weir_testkit::Nats::start().await.unwrap();
    let config = weir_events::NatsConfig { url: nats.url().into(), ..Default::default() };
    let metrics = weir_telemetry::Metrics::new();
    let bus = Bus::connect(&config, weir_events::EventMetrics::new(&metrics)).await.unwrap();
    let house = house_on(Config::default(), Some(bus.clone()));
    let key = house.key(|_| {});
    assert_eq!(house.code(&key.text).await, None);
    let tasks = Tasks::new();
    house.access.spawn(&tasks);
    let good = TenantState { tenant_id: key.tenant.to_string(), version: 9, ..Default::default() };
    let good = prost::Message::encode_to_vec(&TenantState { suspended: true, ..good });
    for (bucket, name, value) in [
        (Bucket::TENANTS, TenantId::new().to_string(), b"\xff\xff".to_vec()),
        (Bucket::TENANTS, TenantId::new().to_string(), good.clone()),
        (Bucket::KEYS, "nonsense".to_owned(), b"\xff".to_vec()),
        (Bucket::TENANTS, key.tenant.to_string(), good),
    ] {
        weir_testkit::until("a push", async || bus.push(bucket).put(&name, value.clone().into()).await.ok())
            .await;
    }
    weir_testkit::until("the suspension", async || house.code(&key.text).await).await;
    weir_testkit::until("the counts", async || {
        let text = metrics.encode();
        // Told once, or again if the connection was slow to come.
        let skipped = |bucket: &str| {
            let line = format!("weir_push_undecodable_total{{bucket=\"{bucket}\"}} ");
            text.lines().find_map(|l| l.strip_prefix(&line)).and_then(|n| n.parse::<u64>().ok())
        };
        (skipped("weir_tenants")? >= 2 && skipped("weir_keys")? >= 1).then_some(())
    })
    .await;

    let other = house.key(|_| {});
    assert_eq!(house.code(&other.text).await, None);
    house.delete(&other);
    house.ticker.advance_ms(2_000);
    assert_eq!(house.code(&other.text).await, None, "young, and nothing was lost");
    nats.stop().await.unwrap();
    nats.restart().await.unwrap();
    weir_testkit::until("the lost watch to be noticed", async || {
        // Each use may be the first after it.
        house.ticker.advance_ms(1);
        (house.code(&other.text).await == Some(Code::InvalidApiKey)).then_some(())
    })
    .await;
    assert!(house.ticker.now() < 1_000_000_000_000 + ms(15_000), "long before its age would have it checked");
    assert!(tasks.stop(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn a_pushed_change_is_asked_about_before_the_next_use() {
    let house = house(Config::default());
    let key = house.key(|_| {});
    assert_eq!(house.code(&key.text).await, None);
    if let Some(grant) = house.control.0.keys.lock().get_mut(&sha256(&key.text)) {
        grant.scopes = vec![scope::USAGE_READ.to_owned()];
    }
    let change = KeyChange { key_id: key.id.to_string(), revoked: false };
    background::apply(&house.access.0.lookup, &change, ms(30_000)).unwrap();
    assert!(house.grant(&key).await.has_scope(scope::USAGE_READ));
    assert!(!house.grant(&key).await.has_scope(scope::CHAT_WRITE));
}
