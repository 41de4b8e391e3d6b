//! What can be told of exchanges: to people, to Prometheus, to auditors. Formats and counts; decides nothing, and knows
//! nothing of the gate: what it is told is in [`exchange::Exchange`].

pub mod access_log;
pub mod audit;
pub mod capture;
pub mod exchange;
pub mod line;
