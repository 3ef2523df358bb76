use proptest::prelude::*;
use serde_json::json;

use super::*;

fn asked(api: &dyn Embed, inputs: &[Input], dimensions: Option<u32>) -> Value {
    let extra = Map::from_iter([("user".to_owned(), json!("me"))]);
    let inputs: Vec<_> = inputs.iter().collect();
    let ask = Ask { model: "m/1", inputs: &inputs, dimensions, extra: &extra };
    serde_json::from_slice(&api.encode(&ask)).unwrap()
}

fn texts() -> Vec<Input> {
    vec![Input::Text("a".into()), Input::Text("b".into())]
}

#[test]
fn each_vendor_is_asked_in_its_own_words() {
    assert_eq!(
        asked(&apis::OpenAi, &[Input::Tokens(vec![1, 2])], Some(8)),
        json!({"model": "m/1", "input": [[1, 2]], "encoding_format": "base64", "dimensions": 8, "user": "me"})
    );
    assert_eq!(
        asked(&apis::Mistral, &texts(), Some(8)),
        json!({"model": "m/1", "input": ["a", "b"], "encoding_format": "float", "output_dimension": 8, "user": "me"})
    );
    assert_eq!(
        asked(&apis::Ollama, &texts(), None),
        json!({"model": "m/1", "input": ["a", "b"], "truncate": false})
    );
    let one = |text| json!({"model": "models/m/1", "content": {"parts": [{"text": text}]}, "outputDimensionality": 8});
    assert_eq!(asked(&apis::Gemini, &texts(), Some(8)), json!({"requests": [one("a"), one("b")]}));
    assert_eq!(apis::Gemini.path("m/1"), "/models/m%2F1:batchEmbedContents");
}

#[test]
fn vectors_come_as_numbers_or_base64_in_any_order() {
    let vector: Bytes = [1.5f32, -0.1].iter().flat_map(|f| f.to_le_bytes()).collect();
    let other: Bytes = [0.25f32, 2.0].iter().flat_map(|f| f.to_le_bytes()).collect();
    let answer = json!({"data": [
        {"index": 1, "embedding": base64(&other)},
        {"index": 0, "embedding": [1.5, -0.1]},
    ], "usage": {"prompt_tokens": 7, "total_tokens": 7}});
    let embedded = apis::OpenAi.decode(answer.to_string().as_bytes(), 2).unwrap();
    assert_eq!(embedded, Embedded { vectors: vec![vector.clone(), other.clone()], input_tokens: Some(7) });
    let answer = json!({"embeddings": [[1.5, -0.1], [0.25, 2]], "prompt_eval_count": 3});
    let embedded = apis::Ollama.decode(answer.to_string().as_bytes(), 2).unwrap();
    assert_eq!((&embedded.vectors[1], embedded.input_tokens), (&other, Some(3)));
    let answer = json!({"embeddings": [{"values": [1.5, -0.1]}]});
    let embedded = apis::Gemini.decode(answer.to_string().as_bytes(), 1).unwrap();
    assert_eq!(embedded, Embedded { vectors: vec![vector], input_tokens: None });
    assert_eq!(floats(&embedded.vectors[0]).collect::<Vec<_>>(), [1.5, -0.1]);
}

#[test]
fn what_is_no_answer_is_none() {
    for wrong in [
        json!({"data": [{"index": 0, "embedding": [1.0]}]}),
        json!({"data": [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}]}),
        json!({"data": [{"index": 0, "embedding": [1.0]}, {"index": 2, "embedding": [1.0]}]}),
        json!({"data": [{"index": 0, "embedding": []}, {"index": 1, "embedding": [1.0]}]}),
        json!({"data": [{"index": 0, "embedding": "AAA="}, {"index": 1, "embedding": [1.0]}]}),
        json!({"data": [{"index": 0, "embedding": "not base64"}, {"index": 1, "embedding": [1.0]}]}),
        json!({"error": {"message": "no"}}),
    ] {
        assert_eq!(apis::OpenAi.decode(wrong.to_string().as_bytes(), 2), None, "{wrong}");
    }
}

proptest! {
    #[test]
    fn shares_add_up_and_are_fair(
        whole in 0..1u64 << 40,
        weights in proptest::collection::vec(0..1u64 << 32, 1..50),
    ) {
        let parts = shares(whole, &weights);
        prop_assert_eq!(parts.iter().sum::<u64>(), whole);
        let all: u128 = weights.iter().map(|w| u128::from(*w)).sum();
        for (part, weight) in parts.iter().zip(&weights).filter(|_| all > 0) {
            let fair = u128::from(whole) * u128::from(*weight) / all;
            prop_assert!(u128::from(*part).abs_diff(fair) <= 1, "{} of {}", part, fair);
        }
    }
}
