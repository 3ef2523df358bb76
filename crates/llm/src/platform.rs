//! Where a dialect is served: by its vendor, or by a cloud that has its own addresses and credentials for it.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What may stand in a segment of a path as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A name as one segment of a path.
#[must_use]
pub fn segment(name: &str) -> Cow<'_, str> {
    match name {
        "." => "%2E".into(),
        ".." => "%2E%2E".into(),
        name => utf8_percent_encode(name, SEGMENT).into(),
    }
}

/// Whether a name leads elsewhere where it stands in a path: servers take it for its own or the upper folder, also when
/// it is encoded.
#[must_use]
pub fn leads_elsewhere(name: &str) -> bool {
    name.split(['/', '\\']).any(|segment| matches!(segment, "." | ".."))
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Platform {
    /// The vendor's own, or anything that has its paths.
    #[default]
    Direct,
    /// Azure OpenAI: <https://learn.microsoft.com/azure/ai-foundry/openai/reference>.
    Azure {
        /// A date: paths by deployment, and this version with each. `None`: the v1 API, whose models are deployments.
        /// `Some("preview")`: the same, with what is not yet in it.
        api_version: Option<String>,
    },
    /// Vertex AI: <https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference>.
    Vertex {
        /// `None`: with an API key alone, in express mode.
        project: Option<String>,
        /// `global` or a region.
        location: String,
    },
}

impl Platform {
    /// A dialect's path as it is here, below the platform's base URL.
    #[must_use]
    pub fn path<'a>(&self, path: Cow<'a, str>, model: &str) -> Cow<'a, str> {
        match self {
            Self::Direct => path,
            Self::Azure { api_version: None } => format!("/openai/v1{path}").into(),
            Self::Azure { api_version: Some(version) } if !is_date(version) => {
                let version = segment(version);
                with_query(&format!("/openai/v1{path}"), &format!("api-version={version}")).into()
            }
            Self::Azure { api_version: Some(version) } => {
                // Responses name the deployment in the body alone.
                let place = match path.as_ref() {
                    by_body if by_body.starts_with("/responses") || by_body.starts_with("/models") => {
                        "/openai".to_owned()
                    }
                    _ => format!("/openai/deployments/{}", segment(model)),
                };
                with_query(&format!("{place}{path}"), &format!("api-version={}", segment(version))).into()
            }
            Self::Vertex { project, location } => {
                let place = project
                    .as_ref()
                    .map(|project| format!("/projects/{}/locations/{}", segment(project), segment(location)));
                // Google's own models, unless the path says whose.
                let publisher = if path.starts_with("/publishers/") { "" } else { "/publishers/google" };
                format!("{}{publisher}{path}", place.unwrap_or_default()).into()
            }
        }
    }
}

/// `2024-10-21`, `2025-04-01-preview`
fn is_date(version: &str) -> bool {
    version.starts_with(|c: char| c.is_ascii_digit())
}

fn with_query(path: &str, query: &str) -> String {
    let sign = if path.contains('?') { '&' } else { '?' };
    format!("{path}{sign}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_known() {
        for name in [".", "..", "../x", "x/..", "a/./b", "..\\x"] {
            assert!(leads_elsewhere(name), "{name}");
        }
        for name in ["", "gpt-4.1", "...", "a..b", "vendor/model:1.5", "..x"] {
            assert!(!leads_elsewhere(name), "{name}");
        }
        assert_eq!((segment(".."), segment("a.b/c")), ("%2E%2E".into(), "a.b%2Fc".into()));
    }

    #[test]
    fn paths_are_those_of_the_platform() {
        let azure = |version: Option<&str>| Platform::Azure { api_version: version.map(str::to_owned) };
        let vertex = |project: Option<&str>| Platform::Vertex {
            project: project.map(str::to_owned),
            location: "global".to_owned(),
        };
        let chat = "/chat/completions";
        let generate = "/models/gemini-2.5-pro:streamGenerateContent?alt=sse";
        for (platform, path, expected) in [
            (Platform::Direct, chat, chat),
            (azure(None), chat, "/openai/v1/chat/completions"),
            (azure(Some("preview")), chat, "/openai/v1/chat/completions?api-version=preview"),
            (
                azure(Some("2024-10-21")),
                chat,
                "/openai/deployments/my%20gpt%2F4/chat/completions?api-version=2024-10-21",
            ),
            (
                azure(Some("2025-04-01-preview")),
                "/responses",
                "/openai/responses?api-version=2025-04-01-preview",
            ),
            (
                vertex(Some("p-1")),
                generate,
                "/projects/p-1/locations/global/publishers/google/models/gemini-2.5-pro:streamGenerateContent?alt=sse",
            ),
            (
                vertex(Some("p-1")),
                "/publishers/anthropic/models/m:rawPredict",
                "/projects/p-1/locations/global/publishers/anthropic/models/m:rawPredict",
            ),
            (
                vertex(None),
                generate,
                "/publishers/google/models/gemini-2.5-pro:streamGenerateContent?alt=sse",
            ),
        ] {
            assert_eq!(platform.path(path.into(), "my gpt/4"), expected);
        }
    }
}
