//! The admin port: probes, metrics, the status page, and what can be asked for: reload, drain,
//! and what is done with stored deliveries. One
//! thread of its own, one port of its own; it reads what workers have counted and never waits for one.
//!
//! What it knows of the process it asks at the [`desk`], behind which the room `control` sits.

pub mod answer;
mod captured;
pub mod desk;
pub mod endpoints;
pub mod history;
pub mod inbox;
pub mod page;
pub mod pairing;
mod reasons;
pub mod request;
pub mod server;
pub mod status;
pub mod visitor;
