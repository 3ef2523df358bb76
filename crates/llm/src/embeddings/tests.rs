use proptest::prelude::*;
use serde_json::json;

use super::*;

/// What a provider is sent, and what is lost.
fn asked(api: &dyn Embed, inputs: &[Input], dimensions: Option<u32>, extra: &Value) -> (Value, String) {
    let (inputs, mut losses) = (inputs.iter().collect::<Vec<_>>(), Losses::default());
    let ask = Ask { model: "m/1", inputs: &inputs, dimensions, extra: extra.as_object().unwrap() };
    (serde_json::from_slice(&api.encode(&ask, &mut losses)).unwrap(), losses.header())
}

fn decoded(api: &dyn Embed, body: &Value, inputs: usize) -> Option<Embedded> {
    api.decode(&Answer { headers: &HeaderMap::new(), body: body.to_string().as_bytes() }, inputs)
}

fn bytes(numbers: &[f32]) -> Bytes {
    numbers.iter().flat_map(|f| f.to_le_bytes()).collect()
}

fn texts() -> Vec<Input> {
    vec![Input::Text("a".into()), Input::Text("b".into())]
}

const VERTEX: Platform = Platform::Vertex { project: None, location: String::new() };

fn vertex(model: &str) -> &'static dyn Embed {
    of(Dialect::Gemini, &VERTEX, model).unwrap()
}

fn bedrock(model: &str) -> &'static dyn Embed {
    of(Dialect::Bedrock, &Platform::Direct, model).unwrap()
}

#[test]
fn each_vendor_is_asked_in_its_own_words() {
    let extra = json!({"user": "me", "x_a": 1});
    assert_eq!(
        asked(&openai::OpenAi, &[Input::Tokens(vec![1, 2])], Some(8), &extra),
        (
            json!({"model": "m/1", "input": [[1, 2]], "encoding_format": "base64", "dimensions": 8, "user": "me", "x_a": 1}),
            String::new()
        )
    );
    assert_eq!(
        asked(&openai::Mistral, &texts(), Some(8), &extra),
        (
            json!({"model": "m/1", "input": ["a", "b"], "encoding_format": "float", "output_dimension": 8, "x_a": 1}),
            "dropped;user".to_owned()
        )
    );
    assert_eq!(
        asked(&openai::Ollama, &texts(), None, &json!({"user": "me", "keep_alive": 5, "title": "t"})),
        (
            json!({"model": "m/1", "input": ["a", "b"], "truncate": false, "keep_alive": 5}),
            "dropped;title, dropped;user".to_owned()
        )
    );
    let one = |text| json!({"model": "models/m/1", "content": {"parts": [{"text": text}]}, "outputDimensionality": 8});
    assert_eq!(
        asked(&google::Gemini, &texts(), Some(8), &json!({"user": "me", "autoTruncate": true})),
        (json!({"requests": [one("a"), one("b")]}), "dropped;autoTruncate, dropped;user".to_owned())
    );
    assert_eq!(google::Gemini.path("m/1"), "/models/m%2F1:batchEmbedContents");
}

#[test]
fn clouds_are_asked_as_their_models_are() {
    let extra = json!({"taskType": "RETRIEVAL_QUERY", "title": "t", "user": "me"});
    let lost = || "dropped;user".to_owned();
    let one = |text| json!({"content": text, "task_type": "RETRIEVAL_QUERY", "title": "t"});
    assert_eq!(
        asked(vertex("text-embedding-005"), &texts(), Some(8), &extra),
        (
            json!({"instances": [one("a"), one("b")], "parameters": {"outputDimensionality": 8, "autoTruncate": false}}),
            lost()
        )
    );
    let config = json!({"taskType": "RETRIEVAL_QUERY", "title": "t", "autoTruncate": false});
    assert_eq!(
        asked(vertex("gemini-embedding-2"), &texts()[..1], None, &extra),
        (json!({"content": {"parts": [{"text": "a"}]}, "embedContentConfig": config}), lost())
    );
    assert_eq!(
        asked(vertex("text-embedding-005"), &texts()[..1], None, &json!({"auto_truncate": true})).0["parameters"],
        json!({"autoTruncate": true})
    );
    assert_eq!(
        asked(
            bedrock("amazon.titan-embed-text-v2:0"),
            &texts()[..1],
            Some(256),
            &json!({"normalize": false, "user": "me"})
        ),
        (json!({"inputText": "a", "dimensions": 256, "normalize": false}), lost())
    );
    assert_eq!(
        asked(bedrock("us.cohere.embed-v4:0"), &texts(), Some(256), &extra),
        (
            json!({"texts": ["a", "b"], "input_type": "search_query", "output_dimension": 256}),
            "dropped;title, dropped;user".to_owned()
        )
    );
    assert_eq!(bedrock("cohere.embed-english-v3").path("a:0"), "/model/a%3A0/invoke");
    assert_eq!(
        vertex("gemini-embedding-001").path("gemini-embedding-001"),
        "/models/gemini-embedding-001:predict"
    );
    assert!(of(Dialect::Bedrock, &Platform::Direct, "amazon.nova-pro-v1:0").is_none());
    assert!(of(Dialect::Anthropic, &Platform::Direct, "claude").is_none());
}

#[test]
fn what_vectors_are_for_is_said_in_each_vendor_s_words() {
    let cohere = |extra: Value| {
        let (body, lost) = asked(&bedrock::Cohere, &texts(), None, &extra);
        (body["input_type"].as_str().unwrap().to_owned(), lost)
    };
    for (extra, said, lost) in [
        (json!({}), "search_document", ""),
        (json!({"input_type": "clustering"}), "clustering", ""),
        (json!({"taskType": "RETRIEVAL_DOCUMENT"}), "search_document", ""),
        (json!({"task_type": "QUESTION_ANSWERING"}), "search_query", "altered;task_type"),
        (json!({"taskType": "ELSE"}), "search_document", "dropped;taskType"),
    ] {
        assert_eq!(cohere(extra), (said.to_owned(), lost.to_owned()));
    }
    let google = |extra: Value| asked(&google::Gemini, &texts()[..1], None, &extra);
    let (body, lost) = google(json!({"input_type": "search_query"}));
    assert_eq!((&body["requests"][0]["taskType"], lost.as_str()), (&json!("RETRIEVAL_QUERY"), ""));
    let (body, lost) = google(json!({"input_type": "image"}));
    assert_eq!((&body["requests"][0]["taskType"], lost.as_str()), (&Value::Null, "dropped;input_type"));
}

#[test]
fn vectors_come_as_numbers_or_base64_in_any_order() {
    let (vector, other) = (bytes(&[1.5, -0.1]), bytes(&[0.25, 2.0]));
    let answer = json!({"data": [
        {"index": 1, "embedding": base64(&other)},
        {"index": 0, "embedding": [1.5, -0.1]},
    ], "usage": {"prompt_tokens": 7, "total_tokens": 7}});
    let embedded = decoded(&openai::OpenAi, &answer, 2).unwrap();
    assert_eq!(embedded, Embedded { vectors: vec![vector.clone(), other.clone()], input_tokens: Some(7) });
    let answer = json!({"embeddings": [[1.5, -0.1], [0.25, 2]], "prompt_eval_count": 3});
    let embedded = decoded(&openai::Ollama, &answer, 2).unwrap();
    assert_eq!((&embedded.vectors[1], embedded.input_tokens), (&other, Some(3)));
    let answer = json!({"embeddings": [{"values": [1.5, -0.1]}]});
    let embedded = decoded(&google::Gemini, &answer, 1).unwrap();
    assert_eq!(embedded, Embedded { vectors: vec![vector], input_tokens: None });
    assert_eq!(floats(&embedded.vectors[0]).collect::<Vec<_>>(), [1.5, -0.1]);
}

#[test]
fn clouds_answer_as_their_models_do() {
    let (vector, other) = (bytes(&[1.5, -0.1]), bytes(&[0.25, 2.0]));
    let both = |input_tokens| Some(Embedded { vectors: vec![vector.clone(), other.clone()], input_tokens });
    let one = |input_tokens| Some(Embedded { vectors: vec![vector.clone()], input_tokens });
    let prediction = |values: Value, statistics: Value| json!({"embeddings": {"values": values, "statistics": statistics}});
    let told = json!({"predictions": [
        prediction(json!([1.5, -0.1]), json!({"truncated": false, "token_count": 3})),
        prediction(json!([0.25, 2]), json!({"truncated": false, "token_count": 4.0})),
    ], "metadata": {"billableCharacterCount": 2}});
    assert_eq!(decoded(vertex("text-embedding-005"), &told, 2), both(Some(7)));
    let told = json!({"predictions": [prediction(json!([1.5, -0.1]), Value::Null)]});
    assert_eq!(decoded(vertex("gemini-embedding-001"), &told, 1), one(None));
    let told = json!({"embedding": {"values": [1.5, -0.1]}, "usageMetadata": {"promptTokenCount": 3}});
    assert_eq!(decoded(vertex("gemini-embedding-2"), &told, 1), one(Some(3)));
    let told = json!({"embedding": [1.5, -0.1], "inputTextTokenCount": 5, "embeddingsByType": {"float": [1.5, -0.1]}});
    assert_eq!(decoded(&bedrock::Titan, &told, 1), one(Some(5)));
    let headers = HeaderMap::from_iter([(
        http::HeaderName::from_static("x-amzn-bedrock-input-token-count"),
        http::HeaderValue::from_static("9"),
    )]);
    for embeddings in [json!([[1.5, -0.1], [0.25, 2]]), json!({"float": [[1.5, -0.1], [0.25, 2]]})] {
        let body = json!({"id": "x", "texts": ["a", "b"], "embeddings": embeddings}).to_string();
        let answer = Answer { headers: &headers, body: body.as_bytes() };
        assert_eq!(bedrock::Cohere.decode(&answer, 2), both(Some(9)));
    }
}

#[test]
fn calls_have_as_many_inputs_as_they_may() {
    let inputs: Vec<_> = [10, 20, 30, 99, 5].into_iter().map(|n| Input::Text("x".repeat(n))).collect();
    let inputs: Vec<_> = inputs.iter().collect();
    let sizes = |bound: Bound| -> Vec<Vec<usize>> {
        bound.parts(&inputs).into_iter().map(|part| part.iter().map(|input| input.size()).collect()).collect()
    };
    assert_eq!(sizes(Bound::default()), [vec![10, 20, 30, 99, 5]]);
    assert_eq!(sizes(Bound { inputs: 2, ..Bound::default() }), [vec![10, 20], vec![30, 99], vec![5]]);
    assert_eq!(sizes(Bound { inputs: 9, bytes: 50 }), [vec![10, 20], vec![30], vec![99], vec![5]]);
    assert_eq!(sizes(Bound::ONE).len(), 5);
}

#[test]
fn a_count_that_can_t_be_is_none() {
    let odd = [json!(1_u64 << 40), json!(u64::MAX), json!("many"), json!(null)];
    for (api, told) in [
        (&openai::OpenAi as &dyn Embed, "prompt_tokens"),
        (&google::Gemini, "promptTokenCount"),
        (&openai::Ollama, "prompt_eval_count"),
        (&bedrock::Titan, "inputTextTokenCount"),
    ] {
        let answer = |tokens: &Value| {
            json!({"data": [{"embedding": [1.0]}], "usage": {told: tokens}, "embedding": [1.0],
                "embeddings": if told == "promptTokenCount" { json!([{"values": [1.0]}]) } else { json!([[1.0]]) },
                "usageMetadata": {told: tokens}, told: tokens})
        };
        assert_eq!(decoded(api, &answer(&json!(7)), 1).unwrap().input_tokens, Some(7), "{told}");
        for tokens in &odd {
            let embedded = decoded(api, &answer(tokens), 1);
            assert_eq!(embedded.map(|embedded| embedded.input_tokens), Some(None), "{told}: {tokens}");
        }
    }
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
        assert_eq!(decoded(&openai::OpenAi, &wrong, 2), None, "{wrong}");
    }
    assert_eq!(decoded(&bedrock::Titan, &json!({"embedding": [1.0]}), 2), None);
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
