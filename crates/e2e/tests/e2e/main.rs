//! The whole house over real HTTP: a real PostgreSQL, a real NATS, the simulated provider.

#[cfg(test)]
mod anthropic;
#[cfg(test)]
mod bounds;
#[cfg(test)]
mod catalogue;
#[cfg(test)]
mod chat;
#[cfg(test)]
mod dead_letters;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod metering;
#[cfg(test)]
mod money;
#[cfg(test)]
mod monitoring;
#[cfg(test)]
mod observability;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod outages;
#[cfg(test)]
mod providers;
#[cfg(test)]
mod pushed;
#[cfg(test)]
mod responses;
#[cfg(test)]
mod skew;
#[cfg(test)]
mod strangers;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod turns;
#[cfg(test)]
mod watched;
#[cfg(test)]
mod websocket;
