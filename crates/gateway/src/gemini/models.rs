//! `GET …/models` and `…/models/{model}` in Google's shape: <https://ai.google.dev/api/models>.

use http::StatusCode;
use serde::Serialize;
use weir_error::Error;
use weir_proto::chat::Model;

use super::query;
use crate::{
    House,
    asked::Asked,
    edge::Answer,
    models::{model, models, percent_decoded},
    reply,
};

const PAGE: usize = 50;
const MOST: usize = 1_000;
/// What may be asked of any: nobody's list says more.
const METHODS: [&str; 5] =
    ["generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents"];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    name: String,
    base_model_id: &'a str,
    version: &'static str,
    display_name: &'a str,
    supported_generation_methods: [&'static str; 5],
}

impl<'a> From<&'a Model> for Shown<'a> {
    fn from(model: &'a Model) -> Self {
        let tuned = model.id.starts_with("tunedModels/");
        Self {
            name: if tuned { model.id.clone() } else { format!("models/{}", model.id) },
            base_model_id: &model.id,
            version: "001",
            display_name: &model.id,
            supported_generation_methods: METHODS,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    models: Vec<Shown<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

/// Pages are told by the number of their first model.
pub(crate) async fn list(house: &House, asked: &Asked) -> Answer {
    let number = |name: &str| {
        let text = query(asked, name).filter(|text| !text.is_empty());
        let wrong = |_| Error::invalid(name, format!("Invalid value at '{name}'."));
        text.map(|text| text.parse::<usize>().map_err(wrong)).transpose()
    };
    let size = number("pageSize")?.filter(|size| *size > 0).unwrap_or(PAGE).min(MOST);
    let first = number("pageToken")?.unwrap_or(0);
    let models = models(house, asked).await?;
    let rest = models.get(first..).unwrap_or_default();
    let page = Page {
        models: rest.iter().take(size).map(Shown::from).collect(),
        next_page_token: (rest.len() > size).then(|| (first + size).to_string()),
    };
    reply::json(StatusCode::OK, &page)
}

pub(crate) async fn get(house: &House, asked: &Asked, id: &str) -> Answer {
    let id = String::from_utf8_lossy(&percent_decoded(id)).into_owned();
    let model = model(house, asked, &id, || format!("models/{id} is not found")).await?;
    reply::json(StatusCode::OK, &Shown::from(&model))
}
