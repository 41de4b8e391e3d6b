//! What a configuration amounts to, in words, for `check`: every route, every bound, and the memory that strangers
//! can make us use.

use core::fmt::{self, Write};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::settings::{KeySettings, RouteSettings, Settings, Verification};
use crate::config::units::{show_duration, show_size, show_size_rounded};
use crate::gate::replay::{DuplicateAnswer, ReplayMode, ReplayPolicy, WhenFull, memory};
use crate::gate::verify::{DigestAlgorithm, Kind, MacAlgorithm, Scheme, SignatureSource};
use crate::now::Now;

/// Describes settings for people. `now` tells which keys count at present.
#[must_use]
pub fn summary(settings: &Settings, now: Now) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = write_all(&mut text, settings, now);
    text
}

fn write_all(out: &mut String, settings: &Settings, now: Now) -> fmt::Result {
    write_process(out, settings)?;
    for route in &settings.routes {
        write_route(out, settings, route, now)?;
    }
    write_limits(out, settings)?;
    write_memory(out, settings)
}

fn line(out: &mut String, label: &str, text: impl fmt::Display) -> fmt::Result {
    writeln!(out, "  {label:<11} {text}")
}

fn write_process(out: &mut String, settings: &Settings) -> fmt::Result {
    let server = &settings.server;
    writeln!(out, "process")?;
    match server.workers {
        0 => line(out, "workers", "one per core that the cgroup grants")?,
        workers => line(out, "workers", workers)?,
    }
    line(out, "driver", server.driver.name())?;
    line(out, "grace", format_args!("{} for exchanges in flight at a stop", show_duration(server.shutdown_grace)))?;
    for listener in &settings.listeners {
        line(out, "listener", listener.address)?;
    }
    let upstream = &settings.upstream;
    for address in &settings.upstreams {
        line(out, "upstream", address)?;
    }
    let (connect, response) = (show_duration(upstream.connect_timeout), show_duration(upstream.response_timeout));
    line(out, "", format_args!("connect within {connect}, respond within {response}"))?;
    let idle = show_duration(upstream.idle_timeout);
    line(out, "", format_args!("keep {} idle connections per worker and address for {idle}", upstream.idle_connections))
}

fn write_route(out: &mut String, settings: &Settings, route: &RouteSettings, now: Now) -> fmt::Result {
    writeln!(out, "\nroute {}", route.name)?;
    let host = route.key.host.as_deref().unwrap_or("*");
    line(out, "requests", format_args!("{} {host}{}", route.key.methods.join(", "), route.key.path.as_str()))?;
    match &route.verification {
        None => {
            line(out, "scheme", "none")?;
            line(out, "WARNING", "nothing is verified: whoever reaches this route reaches the application")?;
        }
        Some(verification) => write_verification(out, route, verification, now)?,
    }
    line(out, "body", format_args!("at most {}", show_size(route.body_size)))?;
    match settings.upstreams.get(route.upstream) {
        Some(upstream) => line(out, "upstream", upstream),
        None => Ok(()),
    }
}

fn write_verification(out: &mut String, route: &RouteSettings, verification: &Verification, now: Now) -> fmt::Result {
    let scheme = &verification.scheme;
    line(out, "scheme", described(scheme))?;
    if scheme.signs() {
        line(
            out,
            "signed",
            format_args!("{} with {}", scheme.content.to_string().escape_debug(), algorithm(scheme.kind)),
        )?;
    } else {
        line(out, "signed", "nothing")?;
    }
    line(out, "found in", signature_place(&scheme.signature))?;
    if let Some(url) = &verification.public_url {
        line(out, "public url", url)?;
    }
    line(out, "replay key", scheme.replay_key().name())?;
    if route.replay.is_none() {
        line(out, "replays", "off: a delivery that comes twice is forwarded twice")?;
    }
    if let Some(policy) = &route.replay {
        replay_lines(policy).into_iter().try_for_each(|(label, text)| line(out, label, text))?;
        if !scheme.signs_timestamp() && !scheme.signs_id() {
            line(out, "", "neither time nor id is signed: what is equal within this time counts as one delivery")?;
        }
    }
    match verification.tolerance {
        Some(tolerance) => line(out, "tolerance", format_args!("{} either way", show_duration(tolerance.distance())))?,
        None => line(out, "tolerance", "none: no timestamp is signed")?,
    }
    for key in &verification.keys {
        line(out, "key", format_args!("\"{}\", {}", key.id, validity(key, now)))?;
    }
    if !verification.keys.iter().any(|key| key.validity.contains(now)) {
        line(out, "WARNING", "no key counts at present: every delivery will be refused")?;
    }
    for warning in scheme.warnings() {
        line(out, "WARNING", warning)?;
    }
    Ok(())
}

/// What a route remembers, for how long and in how much memory.
fn replay_lines(policy: &ReplayPolicy) -> [(&'static str, String); 3] {
    let mode = match policy.mode {
        ReplayMode::Enforce => "enforced",
        ReplayMode::Observe => "observed only: duplicates are forwarded and noted",
    };
    let duplicates = match policy.duplicates {
        DuplicateAnswer::Acknowledge => "acknowledged (200) and not forwarded",
        DuplicateAnswer::Conflict => "refused (409)",
    };
    let full = match policy.when_full {
        WhenFull::Refuse => "new ones are refused (503)",
        WhenFull::EvictOldest => "the oldest are forgotten",
    };
    let memory = show_size_rounded(memory(policy.capacity) as u64);
    [
        ("replays", format!("{mode}; duplicates of accepted deliveries are {duplicates}")),
        ("", format!("for {} after the application has accepted them", show_duration(policy.lifetime))),
        ("", format!("{} deliveries in at most {memory}; when there are more, {full}", policy.capacity)),
    ]
}

/// What the tables of replays take when all of them are full.
fn write_replay_tables(out: &mut String, settings: &Settings) -> fmt::Result {
    let tables = settings.routes.iter().filter_map(|route| route.replay.as_ref());
    let (count, bytes) = tables.fold((0_u64, 0_u64), |(count, bytes), policy| {
        (count + 1, bytes.saturating_add(memory(policy.capacity) as u64))
    });
    line(out, "replays", format_args!("{count} tables, when full: {}", show_size_rounded(bytes)))
}

fn described(scheme: &Scheme) -> String {
    let mut text = scheme.name.clone();
    if !scheme.description.is_empty() {
        text = format!("{text}: {}", scheme.description);
    }
    if !scheme.status.is_empty() {
        text = format!("{text} (description: {})", scheme.status);
    }
    text
}

const fn algorithm(kind: Kind) -> &'static str {
    match kind {
        Kind::Hmac(MacAlgorithm::HmacSha1) => "HMAC-SHA1",
        Kind::Hmac(MacAlgorithm::HmacSha256) => "HMAC-SHA256",
        Kind::Hmac(MacAlgorithm::HmacSha384) => "HMAC-SHA384",
        Kind::Hmac(MacAlgorithm::HmacSha512) => "HMAC-SHA512",
        Kind::Digest(DigestAlgorithm::Sha1) => "SHA-1",
        Kind::Digest(DigestAlgorithm::Sha256) => "SHA-256",
        Kind::Public(algorithm) => algorithm.name(),
        Kind::Token => "a static token",
        Kind::Basic => "a static password",
    }
}

fn signature_place(source: &SignatureSource) -> String {
    match source {
        SignatureSource::Headers(names) => format!("header {}", names.join(", ")),
        SignatureSource::Json(_) => "a field of the JSON body".to_owned(),
        SignatureSource::Form(name) => format!("form field {name}"),
        SignatureSource::Query(name) => format!("query parameter {name}"),
    }
}

fn validity(key: &KeySettings, now: Now) -> String {
    let show = |seconds: i64| {
        let instant = OffsetDateTime::from_unix_timestamp(seconds).ok();
        instant.and_then(|instant| instant.format(&Rfc3339).ok()).unwrap_or_else(|| seconds.to_string())
    };
    let seconds = i64::try_from(now.unix.as_secs()).unwrap_or(i64::MAX);
    let state = match (key.validity.not_before, key.validity.not_after) {
        _ if key.validity.contains(now) => "counts",
        (Some(start), _) if seconds < start => "does not count yet",
        _ => "has expired",
    };
    let from = key.validity.not_before.map(|start| format!(" from {}", show(start))).unwrap_or_default();
    let until = key.validity.not_after.map(|end| format!(" until {}", show(end))).unwrap_or_default();
    format!("{state}{from}{until}")
}

fn write_limits(out: &mut String, settings: &Settings) -> fmt::Result {
    let limits = &settings.limits;
    writeln!(out, "\nlimits")?;
    let (head, target) = (show_size(limits.head_size as u64), show_size(limits.target_size as u64));
    line(out, "head", format_args!("{head}, {} fields, target {target}", limits.headers))?;
    let (head, body) = (show_duration(limits.head_timeout), show_duration(limits.body_timeout));
    line(out, "time", format_args!("head within {head}, body within {body}"))?;
    let (idle, write) = (show_duration(limits.idle_timeout), show_duration(limits.write_timeout));
    line(out, "", format_args!("idle for {idle}, stalled while it takes a response for {write}"))?;
    line(out, "requests", format_args!("{} per connection", limits.requests_per_connection))
}

/// What strangers can make us hold: the head and body buffers of every connection. What a connection costs beside
/// them (its task, the kernel's socket buffers) does not grow with what is sent.
fn write_memory(out: &mut String, settings: &Settings) -> fmt::Result {
    const EXAMPLE: u64 = 1000;
    let head = settings.limits.head_size as u64;
    let largest = settings.routes.iter().max_by_key(|route| route.body_size);
    let (body, name) = largest.map_or((0, ""), |route| (route.body_size, route.name.as_str()));
    let each = head.saturating_add(body);
    writeln!(out, "\nmemory that strangers can make this process buffer")?;
    let (head, body) = (show_size(head), show_size(body));
    line(out, "each", format_args!("connection: head {head} + body {body} (route {name}) = {}", show_size(each)))?;
    write_replay_tables(out, settings)?;
    let all = show_size_rounded(each.saturating_mul(EXAMPLE));
    line(out, "all", format_args!("N connections: N × {}; {EXAMPLE} of them: {all}", show_size(each)))?;
    line(out, "", "N is bounded only by the file descriptors of the process: this version has no")?;
    line(out, "", "bound of its own on connections, nor on all buffered bytes together")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use core::time::Duration;

    use super::*;
    use crate::config::settings::parse_str;

    const TEXT: &str = r#"
[[listener]]
address = "127.0.0.1:8080"
[upstream]
address = "127.0.0.1:9000"
[[route]]
path = "/github"
host = "hooks.example.com"
scheme = "github"
secrets = [
  { id = "new", file = "new", not_before = 2026-06-01T00:00:00Z },
  { id = "old", file = "old", not_after = 2026-07-01T00:00:00Z },
]
[[route]]
path = "/open"
scheme = "none"
body_size = "5MiB"
upstream = "unix:/run/app.sock"
"#;

    fn at(seconds: u64) -> String {
        let (settings, _) = parse_str("test.toml", TEXT).unwrap();
        summary(&settings, Now::at_unix(Duration::from_secs(seconds)))
    }

    #[test]
    fn a_summary_names_what_matters() {
        let text = at(1_781_000_000);
        for part in [
            "listener    127.0.0.1:8080",
            "POST hooks.example.com/github",
            "{body} with",
            "replay key  verified tag",
            "replays     enforced; duplicates of accepted deliveries are acknowledged (200) and not forwarded",
            "            for 10m after the application has accepted them",
            "            262144 deliveries in at most 18.0MiB; when there are more, new ones are refused (503)",
            "            neither time nor id is signed: what is equal within this time counts as one delivery",
            "replays     1 tables, when full: 18.0MiB",
            "\"new\", counts from 2026-06-01T00:00:00Z",
            "\"old\", counts until 2026-07-01T00:00:00Z",
            "tolerance   none",
            "WARNING     nothing is verified",
            "upstream    unix:/run/app.sock",
            "head 16KiB + body 5MiB (route open) = 5136KiB",
            "N × 5136KiB; 1000 of them: 4.8GiB",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn keys_are_judged_at_the_given_moment() {
        assert!(at(1_700_000_000).contains("\"new\", does not count yet"));
        assert!(at(1_800_000_000).contains("\"old\", has expired"));
        assert!(!at(1_800_000_000).contains("no key counts"));
    }
}
