//! The life of the process: start, stop, and what happens beside the workers. Owns the threads; never on the path of a
//! request.

pub mod access_log;
pub mod audit;
mod audit_end;
pub mod audit_file;
mod audit_sink;
pub mod background;
pub mod bind_advice;
pub mod captures;
mod causes;
pub mod composition;
pub mod desk;
pub mod doctor;
pub mod durable;
pub mod engine_inbox;
pub mod event_log;
mod explained;
pub mod hardening;
pub mod inbox;
pub mod inventory;
mod journal;
mod listeners;
pub mod lookout;
pub mod meters;
mod operated;
mod pairing;
pub mod phase;
pub mod plan;
pub mod probe;
pub mod publishers;
pub mod records;
pub mod reload;
pub mod reload_words;
pub mod reloader;
pub mod resolver;
pub mod service_manager;
pub mod signals;
pub mod supervisor;
mod swap;
pub mod terminal;
mod trail;
pub mod vitals;
mod watch;

pub use journal::Writers;
