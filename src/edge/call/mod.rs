//! One request: its story and the stages of it.

pub mod admit;
pub mod asked;
pub mod carrier;
pub mod forward;
mod forwarding;
pub mod ids;
pub mod inbound;
pub mod judge;
pub mod keep;
mod late;
pub mod outgoing;
pub mod pace;
pub mod read;
pub mod relay;
pub mod reply;
pub mod request;
pub mod story;
