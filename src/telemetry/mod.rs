//! What can be told of exchanges: to people, to Prometheus, to auditors. Formats and counts; decides nothing, and knows
//! nothing of the gate: what it is told is in [`exchange::Exchange`].

mod cells;
pub mod exchange;
pub mod exposition;
pub mod handshake;
pub mod histogram;
pub mod metrics;
pub mod names;
pub mod readings;
pub mod refusals;
pub mod tally;

pub use cells::{
    KeySeries, PoolMeter, RouteSeries, RouteTotals, UpstreamCells, UpstreamSeries, UpstreamTotals, WorkerCells,
};
