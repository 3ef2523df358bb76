//! What the gateway says of itself agrees with what it does.

use super::*;
use crate::{docs, endpoint};

#[tokio::test]
async fn the_description_names_every_endpoint_and_no_other() {
    let document = docs::document().unwrap();
    let described: Vec<String> = weir_rest::openapi::endpoints(&document).map(|(name, _)| name).collect();
    for name in &described {
        let (method, path) = name.split_once(' ').unwrap();
        if matches!(path, "/live" | "/ready") {
            continue;
        }
        let found = endpoint::find(path).unwrap_or_else(|| panic!("{name} is described, but not there"));
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        assert!(found.endpoint.methods().contains(&method), "{name}");
    }
    for (path, methods) in endpoint::described() {
        for method in methods.iter().filter(|m| **m != Method::HEAD) {
            let name = format!("{method} {path}");
            assert!(
                described.contains(&name),
                "{name} is there, but src/docs/openapi.json does not describe it"
            );
        }
    }
    assert!(described.contains(&"DELETE /v1/users/me/api-keys/{id}".to_owned()));
}

#[tokio::test]
async fn the_description_is_whole() {
    let house = house();
    let response = get("/openapi.json").send(&house).await;
    assert_eq!(header(&response, "content-type"), Some("application/json"));
    assert_eq!(header(&response, "x-content-type-options"), Some("nosniff"));
    let document = body_json(response).await;
    assert_eq!(document["openapi"], "3.1.0");
    let text = document.to_string();
    for (at, _) in text.match_indices("\"$ref\":\"#") {
        let pointer = text[at + 9..].split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer} leads nowhere");
    }
    let mut ids = std::collections::HashSet::new();
    for (name, operation) in weir_rest::openapi::endpoints(&document) {
        assert!(ids.insert(operation["operationId"].to_string()), "{name}");
        assert!(operation["summary"].as_str().is_some_and(|s| s.len() > 3), "{name}");
    }
    let create = &document["paths"]["/v1/tenants"]["post"];
    let schema = create["requestBody"]["content"]["application/json"]["schema"]["$ref"].as_str().unwrap();
    let schema = document.pointer(&schema[1..]).unwrap();
    assert_eq!((&schema["additionalProperties"], &schema["required"]), (&json!(false), &json!(["name"])));
    assert_eq!(schema["properties"]["tier"]["enum"][0], "free");
    assert!(create["responses"]["201"]["headers"]["location"].is_object());
    assert_eq!(get("/api/v1/openapi.json").json(&house).await.1, document);
}

#[tokio::test]
async fn every_operation_s_service_has_a_way_to_it() {
    let house = house();
    for operation in weir_rest::api().unwrap().operations() {
        assert!(house.edge.0.transport(operation.service()).is_some(), "{}", operation.name());
    }
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let house = house();
    let response = get("/docs").send(&house).await;
    assert!(
        header(&response, "content-security-policy")
            .unwrap()
            .starts_with("default-src 'none'; script-src 'self'")
    );
    let page = String::from_utf8(body_bytes(response).await.to_vec()).unwrap();
    assert!(!page.contains("http:") && !page.contains("https:"));
    let files: Vec<_> = page.split('"').filter(|part| part.starts_with("/docs/")).collect();
    assert_eq!(files.len(), 3, "{files:?}");
    for file in files {
        let response = get(file).header("accept-encoding", "br, gzip").send(&house).await;
        assert_eq!(response.status(), StatusCode::OK, "{file}");
        let packed = header(&response, "content-encoding") == Some("gzip");
        let body = body_bytes(response).await;
        assert_eq!(packed, body.starts_with(&[0x1f, 0x8b]), "{file}");
        assert!(body.len() > 300);
    }
    let response = get("/docs/swagger-ui.css").header("accept-encoding", "identity").send(&house).await;
    assert_eq!(response.status(), StatusCode::NOT_ACCEPTABLE);
    assert_eq!(get("/docs/other.js").send(&house).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn problems_lead_to_a_page_that_explains_them() {
    let house = house();
    let (_, problem) = get("/v1/nothing").json(&house).await;
    let page = problem["type"].as_str().unwrap().to_owned();
    assert_eq!(page, "/errors/not_found");
    let response = get(&page).header("accept", "text/html").send(&house).await;
    assert_eq!(header(&response, "content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(header(&response, "vary"), Some("accept"));
    let (status, explained) = get(&page).header("accept", "application/json").json(&house).await;
    assert_eq!(
        (status, &explained["status"], &explained["retry"]),
        (StatusCode::OK, &json!(404), &json!("no"))
    );
    let (_, all) = get("/errors").header("accept", "application/json").json(&house).await;
    assert_eq!(all["data"].as_array().unwrap().len(), weir_error::Code::ALL.len());
    assert!(body_bytes(get("/errors").send(&house).await).await.starts_with(b"<!doctype html>"));
    assert_eq!(get("/errors/oops").json(&house).await.1["code"], "not_found");
}
