//! `countersign version`: what this binary is, and what it finds here.

use std::process::ExitCode;

use serde_json::json;

use crate::edge::driver::{self, DriverChoice};

use super::output::{OutputFlag, line};

#[derive(Debug, clap::Args)]
pub(super) struct VersionArguments {
    #[command(flatten)]
    output: OutputFlag,
}

/// Of the package.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from, as far as the build knew; and for what.
const COMMIT: &str = env!("COUNTERSIGN_COMMIT");
const TARGET: &str = env!("COUNTERSIGN_TARGET");

/// What secures TLS and signatures.
const CRYPTO: &str = "rustls with ring";

pub(super) fn run(arguments: &VersionArguments) -> ExitCode {
    let (driver, why) = match driver::build(DriverChoice::Auto) {
        Ok((runtime, fallback)) => (runtime.driver().name(), fallback.map(|why| why.to_string())),
        Err(why) => ("none", Some(why.to_string())),
    };
    if arguments.output.is_json() {
        line(json!({ "version": VERSION, "commit": COMMIT, "target": TARGET, "driver": driver, "fallback": why, "crypto": CRYPTO }).to_string());
    } else {
        line(format!("countersign {VERSION}"));
        line(format!("commit   {COMMIT}"));
        line(format!("target   {TARGET}"));
        let why = why.map(|why| format!(" (io_uring is not available: {why})")).unwrap_or_default();
        line(format!("driver   {driver}{why}"));
        line(format!("crypto   {CRYPTO}"));
    }
    ExitCode::SUCCESS
}
