//! What the rest of `edge` runs on: the driver and its clock, sockets with deadlines, buffers. [`net`] is the seam: real
//! sockets in production, [`pipe`] and virtual time in tests.

pub mod alarms;
pub mod buffer;
pub mod clock;
pub(in crate::edge) mod coop;
pub mod driver;
pub mod net;
pub mod pipe;
pub mod stream;
pub mod target;
