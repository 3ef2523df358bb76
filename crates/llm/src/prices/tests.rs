use proptest::prelude::*;

use super::*;

/// 2026-11-21.
const NOW_MS: i64 = 1_795_219_200_000;

fn one(more: &str) -> String {
    format!(
        "[[price]]\nvendor = \"v\"\nmodels = [\"m\"]\nfrom = \"2026-01-01\"\nsource = \"https://example.com/prices\"\n\
         reviewed = \"2026-11-21\"\nusd_per_million = {{ input = \"1\", output = \"4\" }}\n{more}"
    )
}

fn refused(text: &str) -> String {
    Prices::with(Some(text)).unwrap_err().to_string()
}

#[test]
fn what_comes_with_weir_is_sound() {
    let prices = Prices::built_in().unwrap();
    for (vendor, model) in [
        ("openai", "gpt-4o-mini"),
        ("openai", "gpt-5.4-2026-03-05"),
        ("anthropic", "claude-haiku-4-5-20251001"),
        ("google", "gemini-2.5-pro"),
        ("mistral", "mistral-large-2512"),
        ("openai", "text-embedding-3-small"),
    ] {
        assert!(prices.knows(vendor, model, NOW_MS), "{vendor}/{model}");
    }
    assert!(!prices.knows("openai", "claude-haiku-4-5", NOW_MS));
    assert!(!prices.knows("openai", "gpt-5-unheard-of", NOW_MS));
}

#[test]
fn rows_that_make_no_sense_are_refused() {
    for (text, reason) in [
        (one("colour = \"red\""), "colour"),
        (one("to = \"2026-01-01\""), "not after"),
        (one("to = \"2026-02-30\""), "no day"),
        (one("long = { above = 0 }"), "above"),
        (one("long = { above = 5, usd_per_million = { input = \"0.5\" } }"), "less than the shorter"),
        (one("tiers = { flex = \"-1\" }"), "multiple"),
        (one("tiers = { standard = \"2\" }"), "multiple"),
        (one("tiers = { other = \"2\" }"), "multiple"),
        (one("tiers = { lunar = \"2\" }"), "lunar"),
        (one("").replace("https://example.com/prices", "hearsay"), "source"),
        (one("").replace("source", "sauce"), "sauce"),
        (one("").replace("2026-11-21", "lately"), "reviewed"),
        (one("").replace("\"1\"", "\"1e3\""), "no price"),
        (one("").replace("\"1\"", "\"0.0000000001\""), "no price"),
        (one("").replace("\"1\"", "\"100000.1\""), "no price"),
        (one("").replace("\"1\"", "1.5"), "string"),
        (one("").replace("output = \"4\"", "cache_read = \"2\""), "more than input"),
        (one("").replace("models = [\"m\"]", "models = []"), "names"),
        (
            format!("{}{}", one("to = \"2026-05-02\"\n"), one("").replace("2026-01-01", "2026-05-01")),
            "another row",
        ),
        (format!("{}{}", one(""), one("")), "another row"),
    ] {
        let said = refused(&text);
        let whole = format!("{said} {:?}", Prices::with(Some(&text)).unwrap_err());
        assert!(whole.contains(reason), "{reason}: {whole}");
    }
}

#[test]
fn an_operator_s_rows_replace_a_model_s() {
    let own = one("").replace("\"v\"", "\"openai\"").replace("\"m\"", "\"gpt-4o-mini\"");
    let prices = Prices::with(Some(&own)).unwrap();
    let usage = Usage { input_tokens: 1_000, ..Usage::default() };
    let cost = prices.cost("openai", "gpt-4o-mini", NOW_MS, &usage).unwrap();
    assert_eq!((cost.nano_usd, &*cost.row), (1_000_000, "openai/gpt-4o-mini@2026-01-01"));
    assert_eq!(prices.cost("openai", "gpt-4o-mini", 1_767_225_599_999, &usage), None);
    assert!(prices.knows("openai", "gpt-4o", NOW_MS));
}

#[test]
fn a_row_holds_from_its_first_day_to_the_day_before_its_last() {
    let prices = Prices::built_in().unwrap();
    let usage = Usage { input_tokens: 1_000_000, ..Usage::default() };
    let at = |day: &str, ms: i64| {
        let at_ms = date::day_ms(day).unwrap() + ms;
        prices.cost("anthropic", "claude-sonnet-5-5", at_ms, &Usage { cache_read_tokens: 1_000_000, ..usage })
    };
    assert_eq!(at("2026-10-07", -1).unwrap().nano_usd, 200_000_000);
    assert_eq!(at("2026-10-07", 0).unwrap().nano_usd, 100_000_000);
    assert_eq!(at("2026-09-28", -1), None);
}

#[test]
fn the_whole_of_a_long_request_costs_more() {
    let prices = Prices::built_in().unwrap();
    let cost = |input_tokens, cache_read_tokens| {
        let usage = Usage { input_tokens, cache_read_tokens, output_tokens: 1_000, ..Usage::default() };
        prices.cost("google", "gemini-2.5-pro", NOW_MS, &usage).unwrap().nano_usd
    };
    assert_eq!(cost(200_000, 0), 250_000_000 + 10_000_000);
    assert_eq!(cost(200_001, 0), 500_002_500 + 15_000_000);
    assert_eq!(cost(200_001, 200_000), 2_500 + 50_000_000 + 15_000_000);
}

#[test]
fn what_has_no_price_makes_the_whole_unknown() {
    let prices = Prices::built_in().unwrap();
    let cost =
        |model: &str, usage: Usage, tier| prices.cost("openai", model, NOW_MS, &Usage { tier, ..usage });
    let usage = Usage { input_tokens: 10, output_tokens: 10, ..Usage::default() };
    assert!(cost("gpt-4o-mini", usage, Tier::Standard).is_some());
    assert_eq!(cost("gpt-4o-mini", usage, Tier::Other), None);
    assert_eq!(cost("gpt-4o-mini", usage, Tier::Priority), None);
    assert_eq!(cost("gpt-4o-mini", Usage { cache_write_tokens: 1, ..usage }, Tier::Standard), None);
    assert_eq!(cost("gpt-4o-mini", Usage { input_audio_tokens: 1, ..usage }, Tier::Standard), None);
    assert_eq!(cost("text-embedding-3-small", usage, Tier::Standard), None);
    // Above its threshold, for which there are no rates.
    assert_eq!(cost("gpt-5.5", Usage { input_tokens: 272_001, ..usage }, Tier::Standard), None);
    // Audio from the cache: at which rate?
    assert_eq!(
        cost("gpt-audio", Usage { input_audio_tokens: 10, cache_read_tokens: 1, ..usage }, Tier::Standard),
        None
    );
    // Numbers that can't be.
    assert_eq!(cost("gpt-4o-mini", Usage { cache_read_tokens: 11, ..usage }, Tier::Standard), None);
}

#[test]
fn a_tier_is_a_multiple() {
    let prices = Prices::built_in().unwrap();
    let usage = Usage { input_tokens: 1_001, cache_read_tokens: 500, output_tokens: 3, ..Usage::default() };
    let cost = |tier| prices.cost("openai", "gpt-5.4", NOW_MS, &Usage { tier, ..usage }).unwrap().nano_usd;
    // 501 × 2.5 + 500 × 0.25 + 3 × 15, in millionths of a dollar.
    assert_eq!(cost(Tier::Standard), 1_252_500 + 125_000 + 45_000);
    assert_eq!(cost(Tier::Flex), 711_250);
    assert_eq!(cost(Tier::Priority), 2_845_000);
}

#[test]
fn halves_are_rounded_up_once() {
    // A nano-dollar and a half a token.
    let own = one("").replace("\"1\"", "\"0.0015\"").replace("\"4\"", "\"0.0005\"");
    let prices = Prices::with(Some(&own)).unwrap();
    let cost = |input_tokens, output_tokens| {
        let usage = Usage { input_tokens, output_tokens, ..Usage::default() };
        prices.cost("v", "m", NOW_MS, &usage).unwrap().nano_usd
    };
    assert_eq!([cost(1, 0), cost(2, 0), cost(1, 1), cost(0, 1), cost(3, 3)], [2, 3, 2, 1, 6]);
}

#[test]
fn dollars_are_written_without_loss() {
    for (nano, text) in [
        (0, "0"),
        (1, "0.000000001"),
        (1_500_000_000, "1.5"),
        (2_000_000_000, "2"),
        (123_456_789_012, "123.456789012"),
    ] {
        assert_eq!(usd(nano), text);
        assert_eq!(rate::decimal(text, 9), Some(nano));
    }
    for wrong in ["", ".", "1.", ".5", "+1", "-1", "1e3", "1,5", "1.0000000001", "99999999999999999999"] {
        assert_eq!(rate::decimal(wrong, 9), None, "{wrong}");
    }
}

fn usages() -> impl Strategy<Value = Usage> {
    let n = 0..=(1u64 << 32);
    (n.clone(), n.clone(), n.clone(), n.clone(), n.clone(), n).prop_map(
        |(fresh, output, read, write, hour, thought)| Usage {
            input_tokens: fresh + read + write,
            output_tokens: output,
            cache_read_tokens: read,
            cache_write_tokens: write,
            cache_write_1h_tokens: hour.min(write),
            reasoning_tokens: thought.min(output),
            ..Usage::default()
        },
    )
}

proptest! {
    #[test]
    fn lines_add_up_and_more_never_costs_less(usage in usages(), more in 0..1_000_000u64) {
        let prices = Prices::built_in().unwrap();
        let cost = |usage: &Usage| prices.cost("anthropic", "claude-haiku-5-5", NOW_MS, &Usage { tier: Tier::Batch, ..*usage }).unwrap();
        let whole = cost(&usage);
        prop_assert_eq!(whole.lines.iter().map(|l| l.nano_usd).sum::<u64>(), whole.nano_usd);
        prop_assert_eq!(
            whole.lines.iter().map(|l| l.tokens).sum::<u64>(),
            usage.input_tokens + usage.output_tokens
        );
        let larger = Usage { input_tokens: usage.input_tokens + more, ..usage };
        prop_assert!(cost(&larger).nano_usd >= whole.nano_usd);
        let longer = Usage { output_tokens: usage.output_tokens + more, ..usage };
        prop_assert!(cost(&longer).nano_usd >= whole.nano_usd);
        let cached = Usage { input_tokens: usage.input_tokens + more, cache_read_tokens: usage.cache_read_tokens + more, ..usage };
        prop_assert!(cost(&cached).nano_usd <= cost(&larger).nano_usd);
    }

    #[test]
    fn nothing_overflows(a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) {
        let prices = Prices::built_in().unwrap();
        let usage = Usage {
            input_tokens: a,
            output_tokens: b,
            cache_read_tokens: c,
            cache_write_tokens: d,
            cache_write_1h_tokens: e,
            reasoning_tokens: f,
            ..Usage::default()
        };
        drop(prices.cost("anthropic", "claude-haiku-5-5", NOW_MS, &Usage { tier: Tier::Fast, ..usage }));
        drop(prices.cost("anthropic", "claude-opus-5-5", NOW_MS, &Usage { tier: Tier::Fast, ..usage }));
    }
}
