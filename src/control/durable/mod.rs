//! The inbox of a running process: [`gate`] is how workers reach the thread that stores, [`service`] starts and stops
//! both of its threads, `reported` tells the log what happens to its files. The store itself is [`super::inbox`].

pub mod gate;
pub mod place;
mod recall;
mod reported;
mod seed;
pub mod service;
