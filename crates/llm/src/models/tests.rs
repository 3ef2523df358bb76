use super::*;
use crate::prices::day_ms;

fn today() -> i64 {
    day_ms("2026-11-21").unwrap()
}

#[test]
fn the_rows_that_come_with_weir_are_sound() {
    let known = load::load(BUILT_IN).unwrap();
    assert!(known.names.len() > 50 && known.retired.len() > 25);
}

#[test]
fn names_of_every_platform_are_known() {
    for (name, maker, context, thinks) in [
        ("gpt-4-turbo-2024-04-09", Maker::OpenAi, Some(128_000), Some(Thinks::None)),
        ("openai/GPT-4o", Maker::OpenAi, Some(128_000), Some(Thinks::None)),
        ("gpt-35-turbo", Maker::OpenAi, Some(16_385), Some(Thinks::None)),
        ("o3-mini-2025-01-31", Maker::OpenAi, Some(200_000), Some(Thinks::Level)),
        ("gpt-5.2-codex", Maker::OpenAi, None, Some(Thinks::Level)),
        ("openai.gpt-oss-120b-1:0", Maker::OpenAi, Some(131_072), Some(Thinks::Level)),
        (
            "us.anthropic.claude-haiku-4-5-20251001-v1:0",
            Maker::Anthropic,
            Some(200_000),
            Some(Thinks::Budget),
        ),
        ("global.anthropic.claude-opus-4-6-v1", Maker::Anthropic, Some(1_000_000), Some(Thinks::Adaptive)),
        (
            "arn:aws:bedrock:us-east-1:1:inference-profile/eu.anthropic.claude-3-haiku-20240307-v1:0",
            Maker::Anthropic,
            Some(200_000),
            Some(Thinks::None),
        ),
        ("claude-opus-4@20250514", Maker::Anthropic, Some(200_000), Some(Thinks::Budget)),
        ("my-claude-proxy", Maker::Anthropic, None, None),
        ("publishers/google/models/gemini-2.5-pro", Maker::Google, Some(1_048_576), Some(Thinks::Budget)),
        ("gemini-flash-latest", Maker::Google, None, Some(Thinks::Level)),
        ("gemini-1.5-flash-8b", Maker::Google, None, Some(Thinks::None)),
        ("mistral-medium-latest", Maker::Mistral, Some(262_144), Some(Thinks::Level)),
        ("mistral.mixtral-8x7b-instruct-v0:1", Maker::Mistral, None, None),
        ("meta.llama2-13b-chat-v1", Maker::Meta, Some(4_096), Some(Thinks::None)),
        ("us.meta.llama3-1-70b-instruct-v1:0", Maker::Meta, Some(131_072), Some(Thinks::None)),
        ("llama3.2:latest", Maker::Meta, None, Some(Thinks::None)),
    ] {
        let facts = facts(name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!((facts.maker, facts.context, facts.thinks), (maker, context, thinks), "{name}");
    }
    for unknown in ["m", "", "qwen3:8b", "deepseek-r1", "sim-think", "o", "opus"] {
        assert_eq!(facts(unknown), None, "{unknown}");
    }
}

#[test]
fn what_thinks_is_told_so_and_what_refuses_is_not_asked() {
    let of = |name: &str| *facts(name).unwrap();
    assert!(of("gpt-5.6-sol").max_completion_tokens && of("o1-preview").max_completion_tokens);
    assert!(!of("gpt-4o").max_completion_tokens && !of("gpt-oss-20b").max_completion_tokens);
    assert!(of("claude-opus-4-7").fixed_sampling && of("anthropic.claude-sonnet-5-5-v1:0").fixed_sampling);
    assert!(!of("claude-opus-4-6").fixed_sampling);
    for thinks in ["o1", "o3-mini", "openai/gpt-5", "gpt-5.1-codex", "gpt-5.6-sol", "gpt-7"] {
        assert!(of(thinks).fixed_sampling, "{thinks}");
    }
    for not in ["gpt-5-chat-latest", "gpt-4o", "gpt-oss-20b"] {
        assert!(!of(not).fixed_sampling, "{not}");
    }
    assert_eq!(of("claude-opus-5-5").max_output, Some(128_000));
}

#[test]
fn efforts_are_the_nearest_that_a_model_takes() {
    let of = |model: &str, asked: &str| {
        let efforts = facts(model).unwrap().efforts.unwrap();
        efforts.nearest(Effort::named(asked).unwrap()).map(Effort::name)
    };
    for (model, asked, expected) in [
        ("o3-mini", "max", Some("high")),
        ("o3-mini", "minimal", Some("low")),
        ("o3-mini", "none", None),
        ("gpt-5-mini", "xhigh", Some("high")),
        ("gpt-5-mini", "none", Some("minimal")),
        ("gpt-5.1", "none", Some("none")),
        ("gpt-5.1", "minimal", Some("low")),
        ("gpt-5-pro-2025-10-06", "low", Some("high")),
        ("claude-opus-4-6", "xhigh", Some("high")),
        ("claude-opus-4-6", "max", Some("max")),
    ] {
        assert_eq!(of(model, asked), expected, "{model} {asked}");
    }
}

#[test]
fn retired_models_have_successors_from_their_day_on() {
    for (name, expected) in [
        ("gpt-4-turbo-2024-04-09", vec!["gpt-5.6-sol", "gpt-5.6"]),
        ("gpt-3.5-turbo", vec!["gpt-5.6-terra"]),
        ("o3-mini", vec!["gpt-5.6-sol", "gpt-5.6"]),
        ("claude-3-haiku-20240307", vec!["claude-haiku-4-5-20251001", "claude-haiku-4-5"]),
        ("anthropic.claude-3-opus-20240229-v1:0", vec!["claude-opus-4-8"]),
        // Its successor was retired, too.
        ("gemini-1.5-pro", vec!["gemini-2.0-flash", "gemini-3.6-flash"]),
        ("mistral-medium-2312", vec!["mistral-medium-2604", "mistral-medium-latest"]),
        // Not yet.
        ("gpt-4o", vec![]),
        ("gpt-5.6-sol", vec![]),
        ("m", vec![]),
    ] {
        assert_eq!(successors(name, today()), expected, "{name}");
    }
    let day = day_ms("2026-10-23").unwrap();
    assert_eq!(successors("gpt-4", day - 1), Vec::<&str>::new());
    assert_eq!(successors("gpt-4", day).len(), 2);
}

#[test]
fn rows_that_contradict_themselves_are_refused() {
    let row = |more: &str| {
        format!(
            "[[family]]\nvendor = \"openai\"\nsource = \"https://example.com/x\"\nreviewed = \"2026-11-21\"\n{more}\n"
        )
    };
    let a = row("models = [\"gpt-a\", \"gpt-b\"]");
    let gone = |more: &str| {
        format!(
            "{a}[[retired]]\nvendor = \"openai\"\nsource = \"https://example.com/x\"\nreviewed = \"2026-11-21\"\n{more}\n"
        )
    };
    assert!(
        load::load(&gone("models = [\"gpt-a\"]\nfrom = \"2026-01-01\"\nsuccessor = [\"gpt-b\"]")).is_ok()
    );
    let back = "models = [\"gpt-b\"]\nfrom = \"2026-01-01\"\nsuccessor = [\"gpt-a\"]";
    let round = gone("models = [\"gpt-a\"]\nfrom = \"2026-01-01\"\nsuccessor = [\"gpt-b\"]")
        + &format!(
            "[[retired]]\nvendor = \"openai\"\nsource = \"https://example.com/x\"\nreviewed = \"2026-11-21\"\n{back}\n"
        );
    for (wrong, says) in [
        (row("models = []"), "names in lower case"),
        (row("models = [\"GPT\"]"), "names in lower case"),
        (row("models = [\"a/b\"]"), "names in lower case"),
        (row("models = [\"a*b\"]"), "at the ends"),
        (row("models = [\"*a\"]"), "ends with it"),
        (row("models = [\"x\", \"x\"]"), "another row"),
        (row("models = [\"xy*\", \"xy*\"]"), "another row"),
        (row("models = [\"x\"]\ncontext = 0"), "no number"),
        (row("models = [\"x\"]\ncontext = 10\nmax_output = 11"), "more than context"),
        (row("models = [\"x\"]\nthinks = \"deeply\""), "unknown variant"),
        (row("models = [\"x\"]\nwindow = 1"), "unknown field"),
        (row("models = [\"x\"]\nthinks = \"budget\"\nthinks_off = \"never\""), "decide themselves"),
        (row("models = [\"x\"]\nthinks = \"budget\"\nefforts = [\"low\"]"), "in words only"),
        (gone("models = [\"gpt-a\"]\nfrom = \"soon\"\nsuccessor = [\"gpt-b\"]"), "no day"),
        (gone("models = [\"gpt-a\"]\nfrom = \"2026-01-01\"\nsuccessor = [\"gpt-c\"]"), "no family"),
        (gone("models = [\"gpt-a\"]\nfrom = \"2026-01-01\"\nsuccessor = [\"gpt-a\"]"), "its own"),
        (round, "comes back"),
    ] {
        let error = load::load(&wrong).map(|_| ()).unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(format!("{error} {source}").contains(says), "{error} {source} {says}");
    }
}
