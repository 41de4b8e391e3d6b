//! The durable inbox in the engine of `[shared]`: what [`crate::inbox::engine`] decides, over a blocking connection of the
//! thread that owns the store.
//!
//! `line` is a connection, `dial` makes one and finds out whether the server is fit, `link` keeps one and makes another when
//! it ends; [`store`] is the store over it, with `putting`, `settling`, `ticking`, `looking` and `ordering` as its parts;
//! `sealing` makes records of deliveries and opens them.

mod dial;
mod line;
mod link;
mod looking;
mod ordering;
mod putting;
mod reconciling;
mod sealing;
mod settling;
pub mod store;
mod ticking;

pub use dial::examine;

#[cfg(test)]
mod answer_tests;
#[cfg(test)]
mod store_tests;
