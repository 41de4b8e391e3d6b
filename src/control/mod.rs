//! The life of the process: start, stop, and what happens beside the workers. Owns the threads; never on the path of a
//! request.

pub mod desk;
pub mod event_log;
pub mod hardening;
pub mod plan;
pub mod resolver;
pub mod signals;
pub mod supervisor;
pub mod vitals;
