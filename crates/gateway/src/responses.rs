//! `/v1/responses/…`: what is kept of responses. They are made like any chat.

use std::collections::HashMap;

use axum::body::Body;
use http::{Method, Response, StatusCode};
use percent_encoding::percent_decode_str;
use weir_error::{Error, require_scope};
use weir_proto::chat::{
    CancelResponseRequest, DeleteResponseRequest, GetResponseRequest, ListInputItemsRequest, ResponseBody,
    responses_client::ResponsesClient,
};
use weir_rpc::Transport;
use weir_types::{RequestContext, scope};

use crate::{House, asked::Asked, chat, edge::Answer, reply};

/// Where a client's stream of events broke off: <https://html.spec.whatwg.org/multipage/server-sent-events.html>.
const LAST_EVENT_ID: &str = "last-event-id";

/// `GET` and `DELETE /v1/responses/{id}`.
pub(crate) async fn one(house: &House, asked: &Asked, id: &str) -> Answer {
    if asked.method == Method::DELETE {
        return call(house, asked, async |mut client, ctx| {
            let request = DeleteResponseRequest { id: id.to_owned() };
            client.delete(weir_rpc::request(&ctx, request)).await
        })
        .await;
    }
    let query = Query::parse(asked.uri.query().unwrap_or_default())?;
    let starting_after = query.number("starting_after")?;
    if query.flag("stream")? {
        return attach(house, asked, id, starting_after).await;
    }
    let include = query.all("include");
    call(house, asked, async |mut client, ctx| {
        let request = GetResponseRequest { id: id.to_owned(), include: include.clone() };
        client.get(weir_rpc::request(&ctx, request)).await
    })
    .await
}

/// `POST /v1/responses/{id}/cancel`.
pub(crate) async fn cancel(house: &House, asked: &Asked, id: &str) -> Answer {
    call(house, asked, async |mut client, ctx| {
        let request = CancelResponseRequest { id: id.to_owned() };
        client.cancel(weir_rpc::request(&ctx, request)).await
    })
    .await
}

/// `GET /v1/responses/{id}/input_items`.
pub(crate) async fn input_items(house: &House, asked: &Asked, id: &str) -> Answer {
    let query = Query::parse(asked.uri.query().unwrap_or_default())?;
    let ascending = match query.one("order") {
        None | Some("desc") => false,
        Some("asc") => true,
        Some(_) => {
            return Err(Error::invalid("order", "Invalid value for 'order': expected 'asc' or 'desc'."));
        }
    };
    let limit = query.number("limit")?.unwrap_or(20);
    let Some(limit) = u32::try_from(limit).ok().filter(|n| (1..=100).contains(n)) else {
        return Err(Error::invalid("limit", "Invalid 'limit': expected an integer between 1 and 100."));
    };
    let after = query.one("after").unwrap_or_default();
    call(house, asked, async |mut client, ctx| {
        let request = ListInputItemsRequest { id: id.to_owned(), limit, after: after.to_owned(), ascending };
        client.input_items(weir_rpc::request(&ctx, request)).await
    })
    .await
}

/// The events of a background response, from the beginning or from where the client was.
async fn attach(house: &House, asked: &Asked, id: &str, starting_after: Option<u64>) -> Answer {
    let last = || asked.header(LAST_EVENT_ID).and_then(|id| id.trim().parse().ok());
    let starting_after = starting_after.or_else(last);
    chat::attach(house, asked, id, starting_after).await
}

fn client(house: &House) -> ResponsesClient<Transport> {
    ResponsesClient::new(house.orchestrator.clone())
        .max_decoding_message_size(house.config.max_answer.as_usize())
}

/// Not a model call, but one of the tenant's requests.
async fn call(
    house: &House,
    asked: &Asked,
    call: impl AsyncFnOnce(
        ResponsesClient<Transport>,
        RequestContext,
    ) -> Result<tonic::Response<ResponseBody>, tonic::Status>,
) -> Result<Response<Body>, Error> {
    let grant = house.tenant_grant(asked).await?;
    let _visit = house.admit_rest(asked, &grant)?;
    let ctx = asked.context(&grant, house.config.call_timeout);
    require_scope(&ctx, scope::CHAT_WRITE)?;
    let _slot = house.access.enter()?;
    let answer = call(client(house), ctx).await?.into_inner();
    Ok(reply::bytes(StatusCode::OK, reply::JSON, answer.body))
}

/// A query string; names in brackets, as some SDKs write arrays, are the same without.
struct Query(HashMap<String, Vec<String>>);

impl Query {
    fn parse(query: &str) -> Result<Self, Error> {
        let mut found: HashMap<String, Vec<String>> = HashMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded(name)?;
            let name = name.strip_suffix("[]").unwrap_or(&name).to_owned();
            found.entry(name).or_default().push(decoded(value)?);
        }
        Ok(Self(found))
    }

    fn all(&self, name: &str) -> Vec<String> {
        self.0.get(name).cloned().unwrap_or_default()
    }

    fn one(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.last().map(String::as_str)
    }

    fn flag(&self, name: &str) -> Result<bool, Error> {
        match self.one(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Error::invalid(name, format!("Invalid type for '{name}': expected a boolean."))),
        }
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Error> {
        let wrong = || Error::invalid(name, format!("Invalid type for '{name}': expected an integer."));
        self.one(name).map(|value| value.parse().map_err(|_| wrong())).transpose()
    }
}

fn decoded(text: &str) -> Result<String, Error> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().map(std::borrow::Cow::into_owned);
    decoded.map_err(|_| Error::invalid("query", "the query is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_as_sdks_write_them() {
        let query =
            Query::parse("stream=true&include%5B%5D=a.b&include[]=c&starting_after=7&x=1+2%33").unwrap();
        assert!(query.flag("stream").unwrap() && !query.flag("other").unwrap());
        assert_eq!((query.all("include"), query.one("x")), (vec!["a.b".into(), "c".into()], Some("1 23")));
        assert_eq!(query.number("starting_after").unwrap(), Some(7));
        assert_eq!(Query::parse("stream=1").unwrap().flag("stream").unwrap_err().param(), Some("stream"));
        assert_eq!(Query::parse("limit=x").unwrap().number("limit").unwrap_err().param(), Some("limit"));
        assert!(Query::parse("a=%ff").is_err());
    }
}
