//! Log probabilities of tokens.

use serde::{Deserialize, Serialize};

use crate::canonical::Logprob;

#[derive(Deserialize)]
pub(super) struct WireLogprobs {
    #[serde(default)]
    content: Option<Vec<WireLogprob>>,
    #[serde(default)]
    refusal: Option<Vec<WireLogprob>>,
}

#[derive(Deserialize)]
struct WireLogprob {
    #[serde(default)]
    token: String,
    #[serde(default)]
    logprob: Option<f64>,
    #[serde(default)]
    bytes: Option<Vec<u8>>,
    #[serde(default)]
    top_logprobs: Option<Vec<WireLogprob>>,
}

impl WireLogprobs {
    pub(super) fn into_canonical(self) -> Vec<Logprob> {
        let tokens = self.content.filter(|c| !c.is_empty()).or(self.refusal);
        tokens.unwrap_or_default().into_iter().map(WireLogprob::into_canonical).collect()
    }
}

impl WireLogprob {
    fn into_canonical(self) -> Logprob {
        Logprob {
            token: self.token,
            // OpenAI's word for one that is out of reach.
            logprob: self.logprob.unwrap_or(-9999.0),
            bytes: self.bytes,
            top: self.top_logprobs.unwrap_or_default().into_iter().map(Self::into_canonical).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct OutLogprobs<'a> {
    content: Option<Vec<OutLogprob<'a>>>,
    refusal: Option<Vec<OutLogprob<'a>>>,
}

#[derive(Debug, Serialize)]
struct OutLogprob<'a> {
    #[serde(flatten)]
    token: OutToken<'a>,
    top_logprobs: Vec<OutToken<'a>>,
}

#[derive(Debug, Serialize)]
struct OutToken<'a> {
    token: &'a str,
    logprob: f64,
    bytes: Option<&'a [u8]>,
}

impl<'a> From<&'a Logprob> for OutToken<'a> {
    fn from(of: &'a Logprob) -> Self {
        Self { token: &of.token, logprob: of.logprob, bytes: of.bytes.as_deref() }
    }
}

impl<'a> OutLogprobs<'a> {
    /// `None` when there are none.
    pub(super) fn new(of: impl IntoIterator<Item = &'a Logprob>, refusal: bool) -> Option<Self> {
        let of = of.into_iter().map(|token| OutLogprob {
            token: token.into(),
            top_logprobs: token.top.iter().map(OutToken::from).collect(),
        });
        let all: Vec<_> = of.collect();
        match (all.is_empty(), refusal) {
            (true, _) => None,
            (false, false) => Some(Self { content: Some(all), refusal: None }),
            (false, true) => Some(Self { content: None, refusal: Some(all) }),
        }
    }
}
