//! Vectors by Weir's own model: nobody is asked, and nothing is owed.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;
use weir_embedding::{EmbedError, Model};
use weir_error::Error;
use weir_llm::{
    Dialect, Usage,
    canonical::Losses,
    embeddings::{Ask, Input},
};
use weir_proto::{
    chat::EmbedResponse,
    events::{Outcome, TokenSource},
};

use super::{Asked, Member, as_text};
use crate::{
    app::{
        meter::Ending,
        pricing::{usage_tokens, wire_usage},
    },
    config::OWN_PROVIDER,
};

/// Inputs that are larger together are worked on by a blocking thread.
const INLINE: usize = 4 * 1024;

/// As many at a time as there are processors: more would only wait for each other.
pub(super) fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from)))
}

/// # Errors
/// What the model has not, or what is no text.
pub(super) async fn embed(
    model: Model,
    asked: &Asked,
    member: Member,
    room: Arc<Semaphore>,
) -> Result<EmbedResponse, Error> {
    let Member { mut metered, inputs, weight, .. } = member;
    let mut losses = Losses::default();
    let borrowed: Vec<_> = inputs.iter().collect();
    let ask =
        Ask { model: model.name(), inputs: &borrowed, dimensions: asked.dimensions, extra: &asked.extra };
    ask.unknown(&mut losses);
    let warnings = asked.told(&losses)?;
    let length = model.length(asked.dimensions).map_err(wrong)?;
    let texts = as_text(&borrowed)?;
    metered.sending(Dialect::OpenAi, Bytes::new());
    metered.open(OWN_PROVIDER, model.name(), None)?;
    metered.reached(200);
    let vectors = if texts.iter().map(Input::size).sum::<usize>() <= INLINE {
        vectors(model, &texts, length)
    } else {
        let _turn = room.acquire_owned().await.map_err(Error::internal)?;
        let work = tokio::task::spawn_blocking(move || vectors(model, &texts, length));
        work.await.map_err(Error::internal)?
    };
    let vectors = vectors.map_err(wrong)?;
    let tokens = usage_tokens(Usage { input_tokens: weight, ..Usage::default() });
    let (outcome, source) = (Outcome::Succeeded, TokenSource::Counted);
    let ending = Ending { outcome, provider_status: 200, status: 200, tokens, source };
    let cost_nano_usd = metered.finish(ending).await;
    let (provider, model) = (OWN_PROVIDER.to_owned(), model.name().to_owned());
    Ok(EmbedResponse { vectors, usage: Some(wire_usage(tokens)), provider, model, cost_nano_usd, warnings })
}

fn vectors(model: Model, texts: &[Input], length: u32) -> Result<Vec<Bytes>, EmbedError> {
    let one = |input: &Input| {
        let Input::Text(text) = input else { return Err(EmbedError::Empty) };
        let vector = model.embed(text, Some(length))?;
        Ok(vector.into_iter().flat_map(f32::to_le_bytes).collect())
    };
    texts.iter().map(one).collect()
}

fn wrong(error: EmbedError) -> Error {
    let field = match error {
        EmbedError::Empty => "input",
        EmbedError::Dimensions { .. } => "dimensions",
    };
    Error::invalid(field, error.to_string())
}
