//! Tests of the whole house, and what they need: a house in this process or as a child, an HTTP client that shows
//! what went over the wire, load, and the books it is compared with. For tests only.

pub mod books;
pub mod child;
pub mod http;
pub mod load;
pub mod split;
pub mod stand;
pub mod wait;
