//! The durable inbox on the disk of this machine.
//!
//! [`shelf`] keeps deliveries in a row of small database files ([`generation`]), through a storage backend of its own
//! ([`backend`]) over [`disk`]: a [`directory`], or a simulated disk in the tests.
//! [`spooler`] is the thread that owns it.

pub mod backend;
mod ballast;
mod bounds;
pub mod directory;
pub mod disk;
pub mod examining;
pub mod file_trouble;
pub mod generation;
pub mod keys;
mod leaves;
mod moving;
pub mod overlay;
mod rekeying;
pub mod salvaging;
mod settling;
pub mod shelf;
pub mod spooler;
pub mod spooling;
mod standing;
mod starting;
mod storing;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod delivering_tests;
#[cfg(test)]
mod disk_in_tests;
#[cfg(test)]
mod disk_tests;
#[cfg(test)]
mod failure_tests;
#[cfg(test)]
mod hold_tests;
#[cfg(test)]
mod key_tests;
#[cfg(test)]
mod kill_tests;
#[cfg(test)]
mod offline_tests;
#[cfg(test)]
mod shelf_tests;
