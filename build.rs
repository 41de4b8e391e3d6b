//! Tells `countersign version` what it was built from: the target, and the commit (`COUNTERSIGN_COMMIT`, or what git says).
#![allow(clippy::disallowed_methods)]

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=COUNTERSIGN_COMMIT");
    let asked = || {
        let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
        let commit = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| commit.trim().to_owned())
    };
    let commit = std::env::var("COUNTERSIGN_COMMIT").ok().or_else(asked).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=COUNTERSIGN_COMMIT={commit}");
    println!("cargo::rustc-env=COUNTERSIGN_TARGET={}", std::env::var("TARGET").unwrap_or_default());
}
