//! Children that nobody looks after: of a launcher that was killed, or of a start that was given up.

use super::{Folder, nats, postgres, redis};
use crate::child::{Ending, Marker};

/// Every server that may run on this folder, by the text on its command line.
fn servers(folder: &Folder) -> [(&'static str, Marker, Ending); 4] {
    [
        (postgres::NAME, postgres::marker(&folder.join("postgres/data")), postgres::ENDING),
        (postgres::NAME, postgres::marker(&folder.elsewhere().join("postgres/data")), postgres::ENDING),
        (nats::NAME, nats::marker(folder), nats::ENDING),
        (redis::NAME, redis::marker(folder), redis::ENDING),
    ]
}

/// Ends them all and waits until they are gone; says how many there were. `hurry` leaves out the gentle signal.
pub(crate) async fn stop(folder: &Folder, hurry: bool) -> usize {
    let mut stops = Vec::new();
    for (name, marker, ending) in servers(folder) {
        stops.push(async move {
            let ending = if hurry { ending.get(1..).unwrap_or(ending) } else { ending };
            let count = marker.stop_all(ending).await;
            if count > 0 {
                tracing::info!(child = name, count, "stopped what was left running");
            }
            count
        });
    }
    futures_util::future::join_all(stops).await.into_iter().sum()
}

/// Ends the named one: it is not needed any more, because the environment names another server.
pub(crate) async fn stop_unneeded(folder: &Folder, name: &str) {
    for (_, marker, ending) in servers(folder).into_iter().filter(|(other, ..)| *other == name) {
        marker.stop_all(ending).await;
    }
}
