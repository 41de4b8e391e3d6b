//! How connections wait, and who lets them go on.

pub mod baton;
mod handshake_turns;
pub mod parked;
pub mod parking;
pub mod peers;
pub mod turns;
pub mod usher;
pub mod waiting;
pub mod wake_list;
pub mod warm;
