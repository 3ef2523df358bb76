//! What may be named as a model, listed and asked for one by one, in each of three vendors' shapes.

use super::*;

fn house_with_names() -> House {
    let house = house();
    *house.fakes.0.names.lock() =
        vec![("auto", "router"), ("best", "tenant-alias"), ("sim-1", "tenant-alias")];
    house
}

/// The members named so, in order.
fn each<'a>(list: &'a Value, name: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|model| model[name].as_str().unwrap()).collect()
}

#[tokio::test]
async fn aliases_are_listed_as_what_they_are_in_all_three_shapes() {
    let house = house_with_names();
    let all = ["auto", "best", "meta/llama:3", "sim-1"];
    let (_, list) = get("/v1/models").key(&house.key).json(&house).await;
    assert_eq!(each(&list["data"], "id"), all);
    assert_eq!(each(&list["data"], "owned_by"), ["router", "tenant-alias", "sim", "tenant-alias"]);
    let anthropic = get("/v1/models").key(&house.key).header("anthropic-version", "2023-06-01");
    assert_eq!(each(&anthropic.json(&house).await.1["data"], "id"), all);
    let (_, list) = get("/v1beta/models").key(&house.key).json(&house).await;
    assert_eq!(each(&list["models"], "baseModelId"), all);
}

#[tokio::test]
async fn whatever_may_be_named_is_found() {
    let house = house_with_names();
    for id in ["auto", "best", "sim/unlisted", "sim%2Funlisted", "meta/llama:3"] {
        for (path, member) in [("/v1/models", "id"), ("/v1beta/models", "baseModelId")] {
            let (status, model) = get(&format!("{path}/{id}")).key(&house.key).json(&house).await;
            assert_eq!((status, &model[member]), (StatusCode::OK, &json!(id.replace("%2F", "/"))));
        }
        let ask = get(&format!("/v1/models/{id}")).key(&house.key).header("anthropic-version", "2023-06-01");
        assert_eq!(ask.json(&house).await.1["type"], "model", "{id}");
    }
    for id in ["nope", "other/unlisted"] {
        let (status, error) = get(&format!("/v1/models/{id}")).key(&house.key).json(&house).await;
        assert_eq!((status, &error["error"]["code"]), (StatusCode::NOT_FOUND, &json!("model_not_found")));
    }
}

#[tokio::test]
async fn anthropic_s_clients_get_the_page_they_ask_for() {
    let house = house_with_names();
    let ask = |query: &str| {
        get(&format!("/v1/models?{query}")).key(&house.key).header("anthropic-version", "2023-06-01")
    };
    for (query, ids, more) in [
        ("limit=2", &["auto", "best"][..], true),
        ("limit=2&after_id=best", &["meta/llama:3", "sim-1"], false),
        ("limit=1&before_id=sim-1", &["meta/llama:3"], true),
        ("before_id=best", &["auto"], false),
        ("after_id=sim-1", &[], false),
    ] {
        let (status, list) = ask(query).json(&house).await;
        assert_eq!((status, each(&list["data"], "id").as_slice()), (StatusCode::OK, ids), "{query}");
        let ends = (list["first_id"].as_str(), list["last_id"].as_str());
        assert_eq!(ends, (ids.first().copied(), ids.last().copied()), "{query}");
        assert_eq!(list["has_more"], more, "{query}");
    }
    for wrong in ["limit=0", "limit=x", "limit=1001", "after_id=nope", "before_id=nope"] {
        let (status, error) = ask(wrong).json(&house).await;
        assert_eq!((status, &error["type"]), (StatusCode::BAD_REQUEST, &json!("error")), "{wrong}");
    }
}
