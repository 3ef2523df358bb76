//! What callers are told about their usage.

use sqlx::{Connection as _, PgConnection};
use weir_db::{Db, DbConfig, Inbox};
use weir_error::Code;
use weir_events::Event;
use weir_proto::{billing::UsageReport, events::Outcome};
use weir_testkit::until;
use weir_types::{KeyId, RequestContext, TenantId, UserId};

use crate::house::{HOUR, House, NOW, Someone, THIS_HOUR, platform, successes};

fn by_model(report: &UsageReport) -> Vec<(&str, u64)> {
    report.by_model.iter().map(|m| (m.model.as_str(), m.totals.as_ref().unwrap().requests)).collect()
}

fn by_hour(report: &UsageReport) -> Vec<(i64, u64)> {
    report.by_hour.iter().map(|h| (h.hour_ms, h.totals.as_ref().unwrap().requests)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_keys_and_the_platform_see_what_is_theirs() {
    let house = House::new().await;
    let tenant = TenantId::new();
    let key = Someone { tenant, key: KeyId::new(), user: None };
    let user = Someone { user: Some(UserId::new()), key: KeyId::new(), ..key };
    let users_other_key = Someone { key: KeyId::new(), ..user };
    let stranger = Someone::new();
    for (who, model, at, times) in [
        (key, "a", NOW, 1),
        (user, "a", NOW, 2),
        (user, "b", NOW - HOUR, 3),
        (users_other_key, "b", NOW, 4),
        (stranger, "a", NOW, 50),
        (user, "a", THIS_HOUR - 20 * 24 * HOUR, 5),
    ] {
        for _ in 0..times {
            let event = who.finished(Outcome::Succeeded, model, at);
            house.publish(&Event::request_finished(&event).unwrap()).await;
        }
    }
    house.settled().await;
    let report = house.usage(&key.ctx(), 0, 0).await.unwrap();
    assert_eq!(report.totals, Some(successes(1)));

    // The defaults: from the first of the month, in which twenty days ago is not.
    let report = house.usage(&user.ctx(), 0, 0).await.unwrap();
    assert_eq!((report.from_ms, report.to_ms), (1_698_796_800_000, NOW));
    assert_eq!(report.totals, Some(successes(9)));
    assert_eq!(by_model(&report), [("b", 7), ("a", 2)]);
    assert_eq!(by_hour(&report), [(THIS_HOUR - HOUR, 3), (THIS_HOUR, 6)]);
    assert_eq!(house.usage(&users_other_key.ctx(), 0, 0).await.unwrap(), report, "a user is one on all keys");

    let hour = house.usage(&user.ctx(), THIS_HOUR - 1, THIS_HOUR).await.unwrap();
    assert_eq!(by_hour(&hour), [(THIS_HOUR - HOUR, 3)], "from is rounded down, to is exclusive");
    let tenant = house.usage(&platform(tenant), THIS_HOUR - 30 * 24 * HOUR, 0).await.unwrap();
    assert_eq!(tenant.totals, Some(successes(15)));
    let nothing = house.usage(&platform(TenantId::new()), 0, 0).await.unwrap();
    assert_eq!((nothing.totals, nothing.by_hour.len()), (Some(successes(0)), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_why() {
    let house = House::new().await;
    let someone = Someone::new();
    let scopeless = RequestContext { scopes: [].into(), ..someone.ctx() };
    assert_eq!(house.usage(&scopeless, 0, 0).await.unwrap_err().code(), Code::PermissionDenied);
    let nobody = RequestContext { tenant: None, ..someone.ctx() };
    assert_eq!(house.usage(&nobody, 0, 0).await.unwrap_err().code(), Code::TenantRequired);
    for (from, to, param) in [(-1, 0, "from_ms"), (0, -1, "to_ms"), (NOW, 1, "from_ms"), (1, NOW, "from_ms")]
    {
        let error = house.usage(&someone.ctx(), from, to).await.unwrap_err();
        assert_eq!((error.code(), error.param()), (Code::InvalidArgument, Some(param)), "{from} {to}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_old_inbox_rows_are_forgotten() {
    let house = House::new().await;
    let mut admin = PgConnection::connect(&house.database.admin_url).await.unwrap();
    let insert = "INSERT INTO billing.inbox SELECT gen_random_uuid(), gen_random_uuid(), now() - make_interval(days => $1) \
         FROM generate_series(1, $2)";
    for (days, rows) in [(46, 2_500), (44, 3)] {
        sqlx::query(insert).bind(days).bind(rows).execute(&mut admin).await.unwrap();
    }
    let config = DbConfig { acquire_timeout_ms: 30_000, ..DbConfig::new(house.database.app_url.clone()) };
    let db = Db::connect_lazy(&config).unwrap();
    let pruned = Inbox::Billing.prune(&db, &RequestContext::service("test"), 45).await.unwrap();
    assert_eq!(pruned, 2_500);
    let left: i64 =
        sqlx::query_scalar("SELECT count(*) FROM billing.inbox").fetch_one(&mut admin).await.unwrap();
    assert_eq!(left, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_forgets_by_itself() {
    let mut house = House::new().await;
    let mut admin = PgConnection::connect(&house.database.admin_url).await.unwrap();
    let insert = "INSERT INTO billing.inbox SELECT gen_random_uuid(), gen_random_uuid(), now() - make_interval(days => days) \
         FROM unnest(ARRAY[46, 44]) AS days";
    sqlx::query(insert).execute(&mut admin).await.unwrap();
    house.restart().await;
    until("the old row to go", async || {
        let count = sqlx::query_scalar("SELECT count(*) FROM billing.inbox");
        let left: i64 = count.fetch_one(&mut admin).await.unwrap();
        (left == 1).then_some(())
    })
    .await;
}
