//! The whole program over real sockets: a proxy from a configuration file, an application that follows a script, and
//! clients that write exact bytes. Everything is on loopback and on ports that the system chooses.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

mod accepted;
mod admin;
mod answers;
mod audit;
mod believed;
mod boundaries;
mod captured;
mod client;
mod deliver;
mod demo;
mod doctor;
mod drain;
mod drain_command;
mod equal_bytes;
mod errands;
mod explain;
mod explain_captures;
mod explain_ends;
mod explain_first_lines;
mod explain_forms;
mod explain_headers;
mod explained_page;
mod fairness;
mod first_hour;
mod floods;
mod framing;
mod getting_started;
mod giving_way;
mod handover;
mod handshakes;
mod headers;
mod limits;
mod mtls;
mod newcomers;
mod pairing;
mod parked;
mod process;
mod process_log;
mod readings;
mod ready;
mod records;
mod reload;
mod reload_live;
mod reload_tls;
mod replay;
mod reused_ids;
mod sender_pages;
mod terminal;
mod tls;
mod upstream;
mod upstream_tls;
