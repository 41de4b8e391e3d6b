//! Input and output: the only room that imports monoio. It moves bytes between the socket and the pure rooms, keeps
//! deadlines, and decides nothing that [`crate::gate`] or [`crate::outcome`] can decide.

mod acceptor;
pub mod admit;
pub mod alarms;
mod breather;
pub mod buffer;
pub mod clock;
pub mod connection;
pub mod drain;
pub mod driver;
pub mod exchange;
pub mod forward;
mod forwarding;
pub mod ids;
pub mod inbound;
pub mod keep;
pub mod listener;
pub mod net;
pub mod orders;
pub mod outgoing;
pub mod pace;
pub mod parked;
pub mod parking;
pub mod peers;
pub mod pipe;
pub mod policy;
pub mod preface;
pub mod relay;
pub mod reply;
pub mod respond;
pub mod snapshot;
pub mod stream;
pub mod tls;
pub mod turns;
pub mod upstream;
pub mod waiting;
pub mod worker;
