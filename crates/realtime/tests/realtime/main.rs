//! Realtime as clients see it: a real WebSocket on a real listener.

#[cfg(test)]
mod client;
#[cfg(test)]
mod door;
#[cfg(test)]
mod ending;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod turns;
#[cfg(test)]
mod upstream;
