//! How connections of a worker wait for one another, and what lets them go on.
//!
//! | mechanism | what for | who waits | who wakes | how it ends |
//! |---|---|---|---|---|
//! | [`warm`] | the next request, expected at once | a connection that has just answered, with its buffer and its timer | its socket | the request comes, or a quarter of a second passes: it becomes idle |
//! | [`idle`], [`idle_set`] | the next request, or the first byte | a connection without a buffer; the set holds its permit | its socket; a change of policy wakes all | the request comes, its time is up, or it is closed so that another can be let in |
//! | [`slow_set`] | the client: the rest of a head or a body, an answer to be taken | a connection in the middle of a request or an answer | its socket | the client goes on, the deadline passes, or it is evicted so that others get what it holds |
//! | [`turns`], [`turn_loop`] | a share of the worker | connections whose last request was refused, large bodies, clients over their budget, first requests when many come at once | the turn loop, between two looks at the driver | its turn comes, by rank and age, or it is evicted |
//! | `handshake_turns` | a share of the worker for TLS handshakes, by their cost | a handshake before its signature | the turn loop | as many looks were done as the handshakes before it cost |
//! | `round_turns` | looks that take no longer than they should | the accept loops, before they accept another connection; connections whose time is over, before they end | the turn loop | a look has been done, and few enough had a turn since |
//! | [`fifo_lock`] | computing what is left of a large body, one at a time | deliveries with late work | the delivery before it, in order | it is handed the lock, or it is evicted |
//! | [`peers`] | room that other workers can make | a new connection or a request that met a limit | a timer: it tries again five times | there is room, or it is refused |
//! | [`wake_list`] | the record of a delivery to be durable | answers ([`crate::edge::call::await_record`]) | the thread that writes records; the sweep | the record is durable or cannot be written, or ten seconds pass |
//! | `edge/shared` | whether a delivery is new to all processes | a delivery that is new to this one | the task of the worker's connection to the shared engine | the engine answers, its time (50 ms) is over, or the connection ends |
//! | [`told`] | what another thread does for one request: a secret to be stored, a subscription to be confirmed | that request | that thread; the sweep | it is done or fails, or the time of the errand is over |
//!
//! How much `turns` and `round_turns` let happen between two looks follows from how long looks take (`round_size.rs`).
//!
//! Waiting for a single socket operation is the business of [`crate::edge::runtime::stream`]: a busy connection has one timer
//! that its deadlines share, and [`crate::edge::runtime::alarms`] keeps the deadlines of all idle ones.
//! `edge/runtime/coop.rs` makes a task on epoll pause that never has to wait.

pub mod fifo_lock;
mod handshake_turns;
pub mod idle;
pub mod idle_set;
pub mod peers;
mod round_size;
mod round_turns;
pub mod slow_set;
#[cfg(test)]
mod tests;
pub mod told;
mod turn_lines;
pub mod turn_loop;
pub mod turns;
pub mod wake_list;
pub mod warm;
