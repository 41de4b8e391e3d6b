//! The parts that the tests are written in: proxies, applications, clients, deliveries.

pub(crate) mod answer;
pub(crate) mod application;
pub(crate) mod child;
pub(crate) mod client;
pub(crate) mod delivery;
pub(crate) mod folder;
pub(crate) mod proxy;
pub(crate) mod secure;
pub(crate) mod tcp_table;

use std::time::{Duration, Instant};

pub(crate) use application::{Application, Visit};
pub(crate) use child::Program;
pub(crate) use client::Client;
pub(crate) use delivery::Delivery;
pub(crate) use proxy::{Driver, Proxy};

/// How long a test waits for what takes a few milliseconds. Nothing that goes well takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until `condition` holds; false when it does not within [`PATIENCE`].
pub(crate) fn eventually(mut condition: impl FnMut() -> bool) -> bool {
    let give_up = Instant::now() + PATIENCE;
    while Instant::now() < give_up {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

/// Bytes of `length` that repeat in no small period.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Runs each case on both drivers, as two tests. Where io_uring cannot be had, its test says so and passes.
macro_rules! on_both_drivers {
    ($($(#[$meta:meta])* $name:ident),+ $(,)?) => {
        mod on_io_uring {
            $(#[test] $(#[$meta])* fn $name() {
                match countersign::edge::driver::probe() {
                    Ok(()) => super::$name(crate::support::Driver::IoUring),
                    Err(why) => eprintln!("left out: {why}"),
                }
            })+
        }

        mod on_epoll {
            $(#[test] $(#[$meta])* fn $name() {
                super::$name(crate::support::Driver::Epoll);
            })+
        }
    };
}

pub(crate) use on_both_drivers;
