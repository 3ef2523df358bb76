//! The settings of providers that the simulator is: one for each way it is spoken to.

use crate::{ACCESS_KEY_ID, SECRET_ACCESS_KEY};

/// Any token of Google's form is good.
const GOOGLE_TOKEN: &str = "ya29.simulator";

/// A provider's name, what its address ends with, and its other settings.
type Provider = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// Settings by their dotted keys, for a simulator at `origin` (`http://host:port`).
#[must_use]
pub fn providers(origin: &str) -> Vec<(String, String)> {
    let providers: [Provider; 10] = [
        ("simulator", "/v1", &[("dialect", "openai")]),
        // The models are those of `simulator`, whose fallback it is not.
        ("simulator-responses", "/v1", &[("dialect", "responses"), ("only_named", "true")]),
        ("simulator-anthropic", "/v1", &[("dialect", "anthropic")]),
        ("simulator-gemini", "/v1beta", &[("dialect", "gemini")]),
        ("simulator-mistral", "/mistral/v1", &[("dialect", "mistral")]),
        ("simulator-ollama", "", &[("dialect", "ollama")]),
        (
            "simulator-bedrock",
            "",
            &[
                ("dialect", "bedrock"),
                ("region", "us-east-1"),
                ("access_key_id", ACCESS_KEY_ID),
                ("secret_access_key", SECRET_ACCESS_KEY),
            ],
        ),
        (
            "simulator-azure",
            "",
            &[
                ("dialect", "openai"),
                ("platform", "azure"),
                ("api_version", "2024-10-21"),
                ("api_key", "simulator"),
            ],
        ),
        (
            "simulator-vertex",
            "/v1",
            &[
                ("dialect", "gemini"),
                ("platform", "vertex"),
                ("project", "simulated"),
                ("access_token", GOOGLE_TOKEN),
            ],
        ),
        (
            "simulator-vertex-anthropic",
            "/v1",
            &[
                ("dialect", "anthropic"),
                ("platform", "vertex"),
                ("project", "simulated"),
                ("location", "us-east5"),
                ("access_token", GOOGLE_TOKEN),
            ],
        ),
    ];
    let mut settings = Vec::new();
    for (name, path, more) in providers {
        let key = |key: &str| format!("orchestrator.providers.{name}.{key}");
        settings.push((key("base_url"), format!("{origin}{path}")));
        settings.push((key("prices"), "simulator".to_owned()));
        settings.extend(more.iter().map(|(name, value)| (key(name), (*value).to_owned())));
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::providers;

    #[test]
    fn the_containers_get_the_same() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/simulator.env");
        let text = std::fs::read_to_string(file).unwrap();
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let told: Vec<_> = lines.map(|line| line.split_once('=').unwrap()).collect();
        let wanted = providers("http://simulator:8099");
        let name = |key: &str| format!("WEIR_{}", key.to_uppercase().replace('.', "__"));
        let wanted: Vec<_> = wanted.iter().map(|(key, value)| (name(key), value.as_str())).collect();
        assert_eq!(told, wanted.iter().map(|(name, value)| (name.as_str(), *value)).collect::<Vec<_>>());
    }
}
