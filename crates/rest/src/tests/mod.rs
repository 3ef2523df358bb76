//! The transcoder over a contract that has everything, and what contracts may not say.

mod broken;
mod compat;
mod describing;
mod reading;
mod writing;

use std::path::{Path, PathBuf};

use http::Method;
use prost_reflect::DynamicMessage;
use weir_error::Error;

use crate::{Api, Binding, BuildError};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Descriptors of a proto in `testdata`, or of a changed text of it.
pub(crate) fn descriptors(text: &str) -> Result<Vec<u8>, String> {
    use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};
    struct Given(String);
    impl FileResolver for Given {
        fn open_file(&self, name: &str) -> Result<File, protox::Error> {
            if name != "shop.proto" {
                return Err(protox::Error::file_not_found(name));
            }
            File::from_source(name, &self.0)
        }
    }
    let mut resolver = ChainFileResolver::new();
    resolver.add(Given(text.to_owned()));
    resolver.add(IncludeFileResolver::new(folder("../../proto")));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).include_source_info(true);
    compiler.open_file("shop.proto").map_err(|e| e.to_string())?;
    Ok(compiler.encode_file_descriptor_set())
}

pub(crate) fn shop_proto() -> String {
    std::fs::read_to_string(folder("testdata/shop.proto")).unwrap()
}

fn shop() -> Api {
    Api::new(&descriptors(&shop_proto()).unwrap()).unwrap()
}

fn built(text: &str) -> Result<Api, BuildError> {
    Api::new(&descriptors(text).unwrap())
}

fn binding<'a>(api: &'a Api, method: &Method, path: &str) -> &'a Binding {
    api.find(path).and_then(|route| route.binding(method)).unwrap()
}

/// What a request is read as, its URL being `path?query`.
fn request(api: &Api, method: &Method, url: &str, body: &str) -> Result<DynamicMessage, Error> {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    api.request(binding(api, method, path), path, query, body.as_bytes())
}

fn refused(api: &Api, method: &Method, url: &str, body: &str) -> (String, String) {
    let error = request(api, method, url, body).err().unwrap_or_else(|| panic!("{url} {body} was taken"));
    (error.code().as_str().to_owned(), error.param().unwrap_or("-").to_owned())
}

#[test]
fn the_protos_of_this_version_can_be_served() {
    let api = crate::api().unwrap();
    assert!(api.operations().len() >= 9);
    for operation in api.operations() {
        assert!(!operation.summary.is_empty() && operation.summary.len() < 60, "{}", operation.name());
    }
}

#[test]
fn routes_know_their_methods() {
    let api = shop();
    let methods = |path: &str| api.find(path).map(|r| r.methods().to_vec());
    assert_eq!(methods("/v1/shops/x/things"), Some(vec![Method::GET, Method::HEAD, Method::POST]));
    assert_eq!(methods("/v1/shops/x/things/1"), Some(vec![Method::PATCH]));
    assert_eq!(methods("/v1/shops/x/things/"), None);
    assert_eq!(methods("/v1/shops//things"), None);
    let route = api.find("/v1/shops/x/things").unwrap();
    assert_eq!(route.pattern(), "/v1/shops/{shop}/things");
    assert_eq!(route.binding(&Method::HEAD), route.binding(&Method::GET));
    assert!(api.operations().iter().all(|o| o.method.name() != "Inspect"));
}

#[test]
fn a_service_s_own_word_for_a_field_becomes_the_client_s() {
    let api = shop();
    let param = |method, path: &str, named: &str| api.param(binding(&api, &method, path), named);
    let create = |named| param(Method::POST, "/v1/shops/x/things", named);
    assert_eq!(create("price_nano_usd").as_deref(), Some("/price_usd"));
    assert_eq!(create("nested.more[2].deep").as_deref(), Some("/nested/more/2/deep"));
    assert_eq!(create("tags[0]").as_deref(), Some("/tags/0"));
    assert_eq!(create("shop").as_deref(), Some("shop"));
    assert_eq!(create("X-Tenant-ID"), None);
    let patch = |named| param(Method::PATCH, "/v1/shops/x/things/1", named);
    assert_eq!(patch("thing.name").as_deref(), Some("/name"));
    assert_eq!(patch("dry_run").as_deref(), Some("dry_run"));
    assert_eq!(param(Method::GET, "/v1/shops/x/things", "since_ms").as_deref(), Some("since"));
}
