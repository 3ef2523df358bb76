//! `POST /v1/tokenize`, in the shape of vLLM's: <https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html>.
//! What isn't there is said as well: how exact the count is, and what it would cost.

use std::collections::BTreeMap;

use axum::body::Body;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use weir_error::{Error, require_scope};
use weir_llm::prices;
use weir_proto::chat::{
    TokenizeRequest, TokenizeResponse, chat_client::ChatClient, tokenize_request::Source,
};
use weir_types::scope;

use crate::{House, asked::Asked, edge::Answer, reply, reply::plainly};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    model: String,
    prompt: Option<String>,
    messages: Option<Box<RawValue>>,
    tools: Option<Box<RawValue>>,
    /// There are none to add to a text; messages have theirs.
    #[serde(rename = "add_special_tokens")]
    _special: Option<bool>,
    #[serde(rename = "add_generation_prompt")]
    _generation: Option<bool>,
    return_token_strs: Option<bool>,
    max_tokens: Option<u64>,
}

#[derive(Serialize)]
struct Tokenized {
    count: u64,
    /// Where the model's window is known.
    max_model_len: Option<u64>,
    tokens: Option<Vec<u32>>,
    token_strs: Option<Vec<String>>,
    tokenizer: String,
    exact: bool,
    error_percent: u32,
    estimate: Estimate,
}

#[derive(Serialize)]
struct Estimate {
    input_cost_usd: Option<String>,
    max_cost_usd: Option<String>,
    price_row: Option<String>,
}

/// It costs no tokens, but counts among the tenant's requests.
pub(crate) async fn tokenize(house: &House, asked: &Asked, body: Body) -> Answer {
    asked.check_json_head(house.config.max_body.as_usize())?;
    let grant = house.tenant_grant(asked).await?;
    let ctx = asked.context(&grant, house.config.call_timeout);
    require_scope(&ctx, scope::CHAT_WRITE)?;
    let (body, _upload) = house.read_body(&grant, body).await?;
    let _slot = house.access.enter()?;
    let (request, strs) = read(&body)?;
    let listed = request.tokens;
    let _permit = house.admit(asked, &grant, 0)?;
    let mut client = ChatClient::new(house.orchestrator.clone())
        .max_decoding_message_size(house.config.max_answer.as_usize());
    let counted = client.tokenize(weir_rpc::request(&ctx, request)).await?.into_inner();
    reply::json(StatusCode::OK, &shown(counted, listed, strs))
}

fn read(body: &[u8]) -> Result<(TokenizeRequest, bool), Error> {
    let wrong = |e: serde_json::Error| Error::invalid("body", format!("not as described: {}", plainly(&e)));
    let wanted: Wanted = serde_json::from_slice(body).map_err(wrong)?;
    let strs = wanted.return_token_strs.unwrap_or(false);
    let (source, tokens) = match (wanted.prompt, wanted.messages) {
        (Some(prompt), None) => (Source::Text(prompt), true),
        (None, Some(messages)) => {
            let mut chat = BTreeMap::from([("messages", messages)]);
            chat.extend(wanted.tools.map(|tools| ("tools", tools)));
            (Source::Chat(serde_json::to_vec(&chat).map_err(Error::internal)?.into()), false)
        }
        _ => return Err(Error::invalid("prompt", "either `prompt` or `messages`")),
    };
    let request = TokenizeRequest {
        model: wanted.model,
        source: Some(source),
        tokens,
        token_strs: strs,
        max_output_tokens: wanted.max_tokens.unwrap_or_default(),
    };
    Ok((request, strs))
}

fn shown(counted: TokenizeResponse, listed: bool, strs: bool) -> Tokenized {
    let all = listed && counted.exact && counted.tokens.len() as u64 == counted.count;
    Tokenized {
        count: counted.count,
        max_model_len: counted.max_model_tokens,
        tokens: all.then_some(counted.tokens),
        token_strs: (all && strs).then_some(counted.token_strs),
        tokenizer: counted.tokenizer,
        exact: counted.exact,
        error_percent: counted.error_percent,
        estimate: Estimate {
            input_cost_usd: counted.input_cost_nano_usd.map(prices::usd),
            max_cost_usd: counted.most_cost_nano_usd.map(prices::usd),
            price_row: Some(counted.price_row).filter(|row| !row.is_empty()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_or_messages_are_wanted() {
        let read = |text: &str| read(text.as_bytes());
        let (request, strs) =
            read(r#"{"model":"m","prompt":"a","return_token_strs":true,"max_tokens":7}"#).unwrap();
        assert_eq!((request.source, strs), (Some(Source::Text("a".into())), true));
        assert_eq!((request.tokens, request.max_output_tokens), (true, 7));
        let (request, _) =
            read(r#"{"model":"m","messages":[1],"tools":[2],"add_special_tokens":true}"#).unwrap();
        assert_eq!(request.source, Some(Source::Chat(r#"{"messages":[1],"tools":[2]}"#.into())));
        for wrong in [
            r#"{"model":"m"}"#,
            r#"{"model":"m","prompt":"a","messages":[]}"#,
            r#"{"prompt":"a"}"#,
            r#"{"model":"m","prompt":7}"#,
            r#"{"model":"m","prompt":"a","colour":"red"}"#,
            "null",
            "7",
        ] {
            let said = read(wrong).unwrap_err().to_string();
            assert!(!said.contains("struct") && !said.contains("Wanted"), "{wrong}: {said}");
        }
    }

    #[test]
    fn tokens_are_shown_where_they_are_the_model_s_own() {
        let counted = TokenizeResponse {
            count: 2,
            tokens: vec![1, 2],
            token_strs: vec!["a".into(), "b".into()],
            exact: true,
            input_cost_nano_usd: Some(300),
            ..TokenizeResponse::default()
        };
        let all = serde_json::to_value(shown(counted.clone(), true, true)).unwrap();
        assert_eq!(
            (&all["tokens"], &all["token_strs"]),
            (&serde_json::json!([1, 2]), &serde_json::json!(["a", "b"]))
        );
        assert_eq!(all["estimate"]["input_cost_usd"], "0.0000003");
        let none =
            serde_json::to_value(shown(TokenizeResponse { exact: false, ..counted }, true, true)).unwrap();
        assert!(none["tokens"].is_null() && none["token_strs"].is_null());
    }
}
