//! What can be told of exchanges: to people, to Prometheus, to auditors. Formats and counts; decides nothing, and knows
//! nothing of the gate: what it is told is in [`exchange::Exchange`].

pub mod access_log;
pub mod advice;
pub mod attempt;
pub mod audit;
pub mod capture;
mod cells;
pub mod deliveries;
pub mod engine;
pub mod exchange;
pub mod exposition;
pub mod handshake;
pub mod health;
pub mod histogram;
pub mod line;
pub mod metrics;
pub mod names;
pub mod readings;
pub mod refusals;
pub mod suspicion;
pub mod tally;

pub use cells::{
    KeySeries, PoolMeter, RouteSeries, RouteTotals, UpstreamCells, UpstreamSeries, UpstreamTotals, WorkerCells,
};
