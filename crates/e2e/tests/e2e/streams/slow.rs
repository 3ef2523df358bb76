//! Readers that are slower than their providers: nothing is piled up between them.

use serde_json::json;
use weir_e2e::stand::Stand;

use super::{Client, ended, read::Seen, tenant};

/// What fits into sockets and windows is far less than so many events.
const TOKENS: u64 = 150_000;

#[tokio::test]
async fn a_reader_that_stops_stops_its_provider_too() {
    let mut stand = Stand::start().await.unwrap();
    let http = tenant(&stand).await;
    let wish = json!({"tokens": TOKENS});
    let pairs =
        [(Client::Chat, "simulator"), (Client::Messages, "simulator"), (Client::Chat, "simulator-responses")];
    // All on connections that nobody has read from before: the kernel's buffers grow with what was read.
    let mut stopped = Vec::new();
    for (client, provider) in pairs {
        let model = format!("{provider}/sim-large");
        let mut slow = http.stream(&client.path(&model), &client.body(&model, &wish)).await.unwrap();
        slow.next().await.unwrap().unwrap();
        stopped.push(slow);
    }
    // Others of the same, meanwhile, come to their end: there was time enough.
    for (client, provider) in pairs {
        let model = format!("{provider}/sim-large");
        let quick = http.post(&client.path(&model), &client.body(&model, &wish)).await.unwrap();
        let text = String::from_utf8(quick.body.to_vec()).unwrap();
        assert!(Seen::of(&text, provider).is_longer_than(TOKENS / 2), "{client:?} {provider}");
    }
    drop(stopped);
    let calls = ended(&stand, 2 * pairs.len()).await;
    let stopped: Vec<_> = calls.iter().filter(|call| call["outcome"] == "cancelled").collect();
    assert_eq!(stopped.len(), pairs.len(), "{calls:?}");
    for call in stopped {
        assert!(call["sent"].as_u64() < Some(TOKENS), "{call}");
    }
    stand.stop().await.unwrap();
}
