//! One request: its story and the stages of it.
//!
//! [`story`] is the table of contents. The stages take a [`request::Call`], and what carries it ([`carrier::Carrier`]); each
//! hands on a value that only it can make: an admission ([`admit`]), a verified delivery and its claim ([`judge`]), the
//! application's reply ([`forward`]).

pub mod admit;
pub mod asked;
pub mod await_record;
pub mod carrier;
pub mod challenge;
pub mod enqueue;
mod errand;
pub mod forward;
mod forwarded_headers;
pub mod ids;
pub mod inbound;
pub mod judge;
mod late;
pub mod outgoing;
pub mod pace;
pub mod read;
pub mod relay;
pub mod reply;
pub mod request;
pub mod story;
