//! Readers that are slower than their providers: nothing is piled up between them.

use serde_json::json;
use weir_e2e::stand::Stand;

use super::{Client, ended, read::Seen, tenant};

/// What is on its way in sockets and windows is far less than so many events.
const TOKENS: u64 = 150_000;

#[tokio::test]
async fn a_reader_that_stops_stops_its_provider_too() {
    let mut stand = Stand::start().await.unwrap();
    let http = tenant(&stand).await;
    let wish = json!({"tokens": TOKENS});
    let pairs =
        [(Client::Chat, "simulator"), (Client::Messages, "simulator"), (Client::Chat, "simulator-responses")];
    for (n, (client, provider)) in pairs.into_iter().enumerate() {
        let model = format!("{provider}/sim-large");
        let (path, body) = (client.path(&model), client.body(&model, &wish));
        let mut slow = http.stream(&path, &body).await.unwrap();
        slow.next().await.unwrap().unwrap();
        // Another of the same, meanwhile, comes to its end: there was time enough.
        let quick = http.post(&path, &body).await.unwrap();
        let text = String::from_utf8(quick.body.to_vec()).unwrap();
        assert!(Seen::of(&text, provider).is_longer_than(TOKENS / 2), "{client:?} {provider}");
        drop(slow);
        let calls = ended(&stand, 2 * (n + 1)).await;
        let stopped: Vec<_> = calls.iter().filter(|call| call["outcome"] == "cancelled").collect();
        assert_eq!(stopped.len(), n + 1, "{client:?} {provider}");
        for call in stopped {
            assert!(call["sent"].as_u64() < call["completion_tokens"].as_u64(), "{call}");
        }
    }
    stand.stop().await.unwrap();
}
