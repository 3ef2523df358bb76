//! What providers say that they serve, each in its dialect.

use serde::Deserialize;
use weir_error::{Code, Error};
use weir_llm::Dialect;

use super::catalog::{Model, Provider};

/// A list longer than this is cut: it is a mistake or an attack.
const MAX_MODELS: usize = 10_000;
/// What Ollama takes a name without a tag for.
const LATEST: &str = ":latest";

/// Asks a provider for its list.
///
/// # Errors
/// It did not answer, or with no list.
pub(super) async fn discover(provider: &Provider) -> Result<Vec<Model>, Error> {
    let path = match provider.dialect {
        Dialect::OpenAi | Dialect::Responses | Dialect::Mistral => "/models",
        // The largest pages there are.
        Dialect::Anthropic => "/models?limit=1000",
        Dialect::Gemini => "/models?pageSize=1000",
        Dialect::Ollama => "/api/tags",
        Dialect::Bedrock => return Err(Error::new(Code::NotFound, "Bedrock lists its models elsewhere")),
    };
    let answer = provider.upstream.get(path).await.map_err(Error::internal)?;
    if !answer.status.is_success() {
        return Err(Error::new(Code::UpstreamFailed, format!("the provider answered {}", answer.status)));
    }
    read(provider.dialect, &answer.body)
}

fn read(dialect: Dialect, list: &[u8]) -> Result<Vec<Model>, Error> {
    #[derive(Deserialize)]
    struct List {
        data: Vec<Model>,
    }
    let mut models = match dialect {
        Dialect::Gemini => googles(list)?,
        Dialect::Ollama => ollamas(list)?,
        _ => serde_json::from_slice::<List>(list).map_err(Error::internal)?.data,
    };
    models.retain(|m| (1..=256).contains(&m.id.len()));
    models.truncate(MAX_MODELS);
    for model in &mut models {
        let at = model.created_at.take().and_then(|at| at.parse::<prost_types::Timestamp>().ok());
        model.created = at.map_or(model.created, |at| at.seconds);
    }
    Ok(models)
}

/// <https://ai.google.dev/api/models#Model>
fn googles(list: &[u8]) -> Result<Vec<Model>, Error> {
    #[derive(Deserialize)]
    struct List {
        models: Vec<Listed>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Listed {
        name: String,
        #[serde(default)]
        output_token_limit: Option<u64>,
    }
    let list: List = serde_json::from_slice(list).map_err(Error::internal)?;
    let model = |listed: Listed| Model {
        id: listed.name.strip_prefix("models/").unwrap_or(&listed.name).to_owned(),
        owned_by: "google".to_owned(),
        max_tokens: listed.output_token_limit,
        ..Model::default()
    };
    Ok(list.models.into_iter().map(model).collect())
}

/// <https://docs.ollama.com/api/tags>. The latest of a name is also served by the name alone.
fn ollamas(list: &[u8]) -> Result<Vec<Model>, Error> {
    #[derive(Deserialize)]
    struct List {
        models: Vec<Listed>,
    }
    #[derive(Deserialize)]
    struct Listed {
        name: String,
        #[serde(default)]
        modified_at: Option<String>,
    }
    let list: List = serde_json::from_slice(list).map_err(Error::internal)?;
    let model = |id: &str, listed: &Listed| Model {
        id: id.to_owned(),
        owned_by: "ollama".to_owned(),
        created_at: listed.modified_at.clone(),
        ..Model::default()
    };
    let both = list.models.iter().flat_map(|listed| {
        let bare = listed.name.strip_suffix(LATEST).map(|bare| model(bare, listed));
        [Some(model(&listed.name, listed)), bare]
    });
    Ok(both.flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_in_each_dialect_with_what_they_say_of_a_model() {
        for (dialect, list, expected) in [
            (
                Dialect::OpenAi,
                r#"{"object":"list","data":[{"id":"gpt-4o","object":"model","created":5,"owned_by":"openai"}]}"#,
                vec![("gpt-4o", 5, None)],
            ),
            (
                Dialect::Mistral,
                r#"{"data":[{"id":"mistral-small-latest","created":6,"owned_by":"mistralai","capabilities":{"completion_chat":true,"vision":true},"max_context_length":131072}]}"#,
                vec![("mistral-small-latest", 6, None)],
            ),
            (
                Dialect::Anthropic,
                r#"{"data":[{"type":"model","id":"claude","created_at":"1970-01-01T00:00:07Z","max_tokens":64000}],"has_more":false}"#,
                vec![("claude", 7, Some(64_000))],
            ),
            (
                Dialect::Gemini,
                r#"{"models":[{"name":"models/gemini-2.5-pro","inputTokenLimit":1048576,"outputTokenLimit":65536}]}"#,
                vec![("gemini-2.5-pro", 0, Some(65_536))],
            ),
            (
                Dialect::Ollama,
                r#"{"models":[{"name":"llama3.2:latest","modified_at":"1970-01-01T02:00:08.5+02:00","size":1},{"name":"qwen3:8b"}]}"#,
                vec![("llama3.2:latest", 8, None), ("llama3.2", 8, None), ("qwen3:8b", 0, None)],
            ),
        ] {
            let models = read(dialect, list.as_bytes()).unwrap();
            let models: Vec<_> = models.iter().map(|m| (m.id.as_str(), m.created, m.max_tokens)).collect();
            assert_eq!(models, expected, "{dialect:?}");
        }
        assert!(read(Dialect::Ollama, b"{}").is_err());
    }
}
