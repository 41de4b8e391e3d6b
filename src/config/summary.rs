//! What a configuration amounts to, in words, for `check`: every route, every bound, and the memory that strangers
//! can make us use.

use core::fmt::{self, Write};
use core::net::{IpAddr, Ipv6Addr};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::settings::{KeySettings, Listener, ProxyProtocol, RouteSettings, Settings, Verification};
use crate::config::tls_summary;
use crate::config::units::{show_duration, show_frequency, show_size, show_size_rounded};
use crate::config::{memory, readiness, records, reload};
use crate::gate::limits::OverBudget;
use crate::gate::networks::Network;
use crate::gate::replay::{DuplicateAnswer, ReplayPolicy, WhenFull};
use crate::gate::token_bucket::Rate;
use crate::gate::verify::{
    DigestAlgorithm, EqualBytes, Kind, MacAlgorithm, Scheme, SignatureSource, ToldApart, Validity,
};
use crate::ledger;
use crate::now::Now;

/// Describes settings for people. `now` tells which keys count at present.
#[must_use]
pub fn summary(settings: &Settings, now: Now) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = write_all(&mut text, settings, now);
    text
}

/// What will be wrong with these settings at this moment although they hold, in full sentences: routes of which no key
/// counts, certificates that do not hold.
#[must_use]
pub fn moment_warnings(settings: &Settings, now: Now) -> Vec<String> {
    let routes = settings.routes.iter().filter(|route| lacks_key(route, now));
    let routes = routes.map(|route| format!("The route \"{}\" has {NO_KEY}.", route.name));
    tls_summary::moment_warnings(&settings.listeners, now).chain(routes).collect()
}

pub(super) const NO_KEY: &str = "no key that counts at present: every delivery to it will be refused";

pub(super) fn lacks_key(route: &RouteSettings, now: Now) -> bool {
    let verification = route.verification.as_ref();
    verification.is_some_and(|it| !it.keys.iter().any(|key| key.validity.contains(now)))
}

fn write_all(out: &mut String, settings: &Settings, now: Now) -> fmt::Result {
    write_process(out, settings, now)?;
    for route in &settings.routes {
        write_route(out, settings, route, now)?;
    }
    write_limits(out, settings)?;
    records::write(out, settings)?;
    memory::write(out, settings)
}

pub(super) fn line(out: &mut String, label: &str, text: impl fmt::Display) -> fmt::Result {
    writeln!(out, "  {label:<11} {text}")
}

fn write_process(out: &mut String, settings: &Settings, now: Now) -> fmt::Result {
    let server = &settings.server;
    writeln!(out, "process")?;
    match server.workers {
        0 => line(out, "workers", "one per core that the cgroup grants")?,
        workers => line(out, "workers", workers)?,
    }
    line(out, "driver", server.driver.name())?;
    let (delay, grace) = (show_duration(server.drain_delay), show_duration(server.drain_grace));
    line(
        out,
        "drain",
        format_args!("accepts {delay} more at a stop, then finishes exchanges in flight within {grace}"),
    )?;
    line(out, "reload", reload::described(settings.reload))?;
    for listener in &settings.listeners {
        write_listener(out, listener, now)?;
    }
    write_admin(out, settings)?;
    let upstream = &settings.upstream;
    for address in &settings.upstreams {
        line(out, "upstream", address)?;
    }
    let (connect, response) = (show_duration(upstream.connect_timeout), show_duration(upstream.response_timeout));
    line(out, "", format_args!("connect within {connect}, respond within {response}"))?;
    let idle = show_duration(upstream.idle_timeout);
    let rest = show_duration(upstream.reuse_after);
    let kept = upstream.idle_connections;
    line(
        out,
        "",
        format_args!(
            "keep {kept} idle connections per worker and address for {idle}, rest {rest} between two deliveries"
        ),
    )
}

fn write_admin(out: &mut String, settings: &Settings) -> fmt::Result {
    let Some(admin) = &settings.admin else { return line(out, "admin", "no port: neither probes nor metrics") };
    let changes = if admin.remote_control { "whoever reaches it" } else { "this host alone" };
    line(out, "admin", format_args!("{}; reload and drain for {changes}", admin.address))?;
    admin.ready.iter().try_for_each(|ready| line(out, "", readiness::described(ready)))
}

fn write_listener(out: &mut String, listener: &Listener, now: Now) -> fmt::Result {
    line(out, "listener", listener.address)?;
    if listener.address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        line(out, "", "all addresses, IPv6 and IPv4 (a listener for an IPv4 address and this port goes first)")?;
    }
    tls_summary::write(out, listener, now)?;
    let proxies = listed(&listener.trusted_proxies);
    match (listener.proxy_protocol, listener.trusted_proxies.is_empty()) {
        (ProxyProtocol::Off, true) => line(out, "", "the client is the peer: no proxy is trusted"),
        (ProxyProtocol::Off, false) => {
            line(out, "", format_args!("X-Forwarded-For, Forwarded believed from {proxies}"))
        }
        (ProxyProtocol::V1V2, _) => {
            line(out, "", format_args!("connections from {proxies} alone, with a header of the PROXY protocol"))?;
            line(out, "", "X-Forwarded-For, Forwarded believed from the same")
        }
    }
}

/// Networks, as far as a line can hold them.
fn listed(networks: &[Network]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<String> = networks.iter().take(SHOWN).map(ToString::to_string).collect();
    match networks.len().checked_sub(SHOWN) {
        None | Some(0) => shown.join(", "),
        Some(more) => format!("{} and {more} more", shown.join(", ")),
    }
}

fn write_clients(out: &mut String, route: &RouteSettings) -> fmt::Result {
    let clients = &route.clients;
    let counts = if route.observe.allow { " (only counted)" } else { "" };
    match &clients.allow_file {
        None if clients.allow.is_empty() => line(out, "clients", "everyone")?,
        None => line(out, "clients", format_args!("{}{counts}", listed(&clients.allow)))?,
        Some(file) => {
            let file = file.path.display();
            line(out, "clients", format_args!("{}, with those in {file}{counts}", listed(&clients.allow)))?;
        }
    }
    if !clients.deny.is_empty() {
        line(out, "", format_args!("never {}{counts}", listed(&clients.deny)))?;
    }
    if route.callers.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = route.callers.patterns().iter().map(ToString::to_string).collect();
    line(out, "", format_args!("with one of these names in their certificate: {}", names.join(", ")))
}

fn write_route(out: &mut String, settings: &Settings, route: &RouteSettings, now: Now) -> fmt::Result {
    writeln!(out, "\nroute {}", route.name)?;
    let (methods, path) = (route.key.methods.join(", "), route.key.path.as_str());
    match &route.key.host {
        Some(host) => line(out, "requests", format_args!("{methods} {host}{path}"))?,
        None => line(out, "requests", format_args!("{methods} {path} (any host)"))?,
    }
    match &route.verification {
        None => {
            line(out, "scheme", "none")?;
            line(out, "WARNING", "nothing is verified: whoever reaches this route reaches the application")?;
        }
        Some(verification) => write_verification(out, route, verification, now)?,
    }
    if lacks_key(route, now) {
        line(out, "WARNING", format_args!("the route has {NO_KEY}"))?;
    }
    write_clients(out, route)?;
    write_body(out, route)?;
    write_admission(out, route)?;
    if let Some(upstream) = settings.upstreams.get(route.upstream) {
        line(out, "upstream", upstream)?;
    }
    match route.kept.names() {
        [] => Ok(()),
        names => line(out, "keeps", format_args!("{}, as anybody sends them", names.join(", "))),
    }
}

/// A sender knows nothing of our bound: what is longer is refused however often it comes.
fn write_body(out: &mut String, route: &RouteSettings) -> fmt::Result {
    line(out, "body", format_args!("at most {}", show_size(route.body_size)))?;
    let Some(scheme) = route.verification.as_ref().map(|it| &it.scheme) else { return Ok(()) };
    let Some(longest) = scheme.body_size.filter(|longest| *longest > route.body_size) else { return Ok(()) };
    let (name, longest) = (&scheme.name, show_size(longest));
    let fix = format_args!("body_size = \"{longest}\" takes all of them");
    line(
        out,
        "WARNING",
        format_args!("{name} sends up to {longest}; what is longer than the bound is refused (413); {fix}"),
    )
}

fn write_admission(out: &mut String, route: &RouteSettings) -> fmt::Result {
    let admission = &route.admission;
    if !admission.content_types.is_empty() {
        line(out, "media types", admission.content_types.join(", "))?;
    }
    if let Some(rate) = &admission.rate {
        let observed = if route.observe.rate { " (only counted)" } else { "" };
        line(out, "rate", format_args!("{}{observed}", show_rate(rate)))?;
    }
    Ok(())
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
    if !scheme.guards.is_empty() {
        line(out, "guard", &scheme.guards)?;
    }
    line(out, "found in", signature_place(&scheme.signature))?;
    if let Some(url) = &verification.public_url {
        line(out, "public url", url)?;
    }
    line(out, "replay key", scheme.replay_key().name())?;
    line(out, "", told_apart(scheme))?;
    if route.replay.is_none() {
        line(out, "replays", "off: a delivery that comes twice is forwarded twice, also one that was captured")?;
    }
    if let Some(policy) = &route.replay {
        replay_lines(policy, route.observe.replay).into_iter().try_for_each(|(label, text)| line(out, label, text))?;
        if !scheme.signs_timestamp() && !scheme.signs_id() {
            line(out, "", "what is equal within this time counts as one delivery")?;
        }
        if scheme.told_apart() == ToldApart::Bytes(EqualBytes::TwoEvents) && !route.observe.replay {
            let lifetime = show_duration(policy.lifetime);
            line(out, "WARNING", format_args!("the second of two equal events is lost within {lifetime}"))?;
        }
    }
    match verification.tolerance {
        Some(tolerance) => {
            let observed = if route.observe.tolerance { " (only counted)" } else { "" };
            line(out, "tolerance", format_args!("{} either way{observed}", show_duration(tolerance.distance())))?;
        }
        None => {
            line(out, "tolerance", "none: no timestamp is signed, so a captured delivery never goes stale by itself")?
        }
    }
    for key in &verification.keys {
        line(out, "key", format_args!("\"{}\", {}", key.id, validity(key, now)))?;
        if key.line_end_left_out {
            line(out, "", "the line end at its end is not part of it and has been left out")?;
        }
    }
    for weakness in scheme.warnings() {
        line(out, "WARNING", weakness.message)?;
    }
    Ok(())
}

/// What the replay key of a scheme means for two deliveries that have the same.
fn told_apart(scheme: &Scheme) -> &'static str {
    match scheme.told_apart() {
        ToldApart::Id => "the id is signed: what has the same id is the same delivery",
        ToldApart::Time => "the time is signed, and no id: what is equal at another time is another delivery",
        ToldApart::Bytes(EqualBytes::OneEvent) => {
            "neither id nor time is signed; bodies of this sender name their event: equal bytes are one event"
        }
        ToldApart::Bytes(EqualBytes::TwoEvents) => {
            "neither id nor time is signed, and two events of this sender can have equal bytes"
        }
        ToldApart::Bytes(EqualBytes::Unknown) => {
            "neither id nor time is signed, and it is not known whether two events can have equal bytes"
        }
        ToldApart::Nothing if scheme.signs() => "what is signed is the same in every delivery",
        ToldApart::Nothing => "nothing is signed: equal bodies cannot be told apart",
    }
}

/// What a route remembers, for how long and in how much memory.
fn replay_lines(policy: &ReplayPolicy, observed: bool) -> [(&'static str, String); 3] {
    let observed = if observed { " (only counted)" } else { "" };
    let duplicates = match policy.duplicates {
        DuplicateAnswer::Acknowledge => "acknowledged (200) and not forwarded",
        DuplicateAnswer::Conflict => "refused (409)",
    };
    let full = match policy.when_full {
        WhenFull::Refuse => "new ones are refused (503)",
        WhenFull::EvictOldest => "the oldest are forgotten",
    };
    let memory = show_size_rounded(ledger::memory(policy.capacity) as u64);
    [
        ("replays", format!("duplicates of accepted deliveries are {duplicates}{observed}")),
        ("", format!("for {} after the application has accepted them", show_duration(policy.lifetime))),
        ("", format!("{} deliveries in at most {memory}; when there are more, {full}", policy.capacity)),
    ]
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
    let Validity { not_before, not_after } = key.validity;
    let from = not_before.map(|start| format!(" from {}", show(start))).unwrap_or_default();
    let until = not_after.map(|end| format!(" until {}", show(end))).unwrap_or_default();
    match (not_before, not_after) {
        (_, Some(end)) if seconds >= end => format!("expired at {}", show(end)),
        (Some(start), _) if seconds < start => format!("does not count yet: it counts{from}{until}"),
        _ => format!("counts{from}{until}"),
    }
}

fn write_limits(out: &mut String, settings: &Settings) -> fmt::Result {
    let limits = &settings.limits;
    writeln!(out, "\nlimits")?;
    let (head, target) = (show_size(limits.head_size as u64), show_size(limits.target_size as u64));
    line(out, "head", format_args!("{head}, {} fields, target {target}", limits.headers))?;
    let (head, body) = (show_duration(limits.head_timeout), show_duration(limits.body_timeout));
    line(out, "time", format_args!("head within {head}, body within {body}"))?;
    let handshake = show_duration(limits.handshake_timeout);
    line(out, "", format_args!("TLS handshake within {handshake}, {} of them", limits.admission.handshakes))?;
    if settings.listeners.iter().any(|listener| listener.tls.is_some()) {
        let rate = show_rate(&limits.admission.handshakes_per_client);
        line(
            out,
            "",
            format_args!("handshakes without a genuine delivery, of each client: {rate}; more wait behind others"),
        )?;
    }
    let (idle, write) = (show_duration(limits.idle_timeout), show_duration(limits.write_timeout));
    line(out, "", format_args!("idle for {idle}, stalled while it takes a response for {write}"))?;
    match limits.body_rate_min {
        0 => {}
        speed => line(out, "", format_args!("a body at least at {}/s, after a grace period", show_size(speed)))?,
    }
    let admission = &limits.admission;
    let (all, client) = (admission.connections, admission.connections_per_client);
    line(out, "connections", format_args!("{all}, of one client {client}; idle ones go first"))?;
    let (requests, flight) = (limits.requests_per_connection, admission.requests_in_flight);
    line(out, "requests", format_args!("{requests} per connection, {flight} in flight"))?;
    let rate = show_rate(&admission.unverified_per_client);
    line(out, "clients", format_args!("{} tracked; not genuine, of each: {rate}", admission.clients_tracked))?;
    match admission.over_budget {
        OverBudget::Refuse => line(out, "", format_args!("more of one: refused before they are verified (429)")),
        OverBudget::Queue => {
            let (percent, requests) = (admission.over_budget_percent, admission.suspect_requests());
            let bodies = show_size(admission.suspect_body_memory());
            line(
                out,
                "",
                format_args!("more of one: wait for their turn, with all others like them in at most {percent} %:"),
            )?;
            line(out, "", format_args!("{requests} in flight, bodies of {bodies}, that share of each worker's time"))
        }
    }
}

pub(super) fn show_rate(rate: &Rate) -> String {
    format!("{}, {} at once", show_frequency(u64::from(rate.tokens), rate.per), rate.burst)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use core::time::Duration;

    use super::*;
    use crate::config::settings::parse_str;

    const TEXT: &str = r#"
[server]
workers = 1
[[listener]]
address = "127.0.0.1:8080"
[upstream]
address = "127.0.0.1:9000"
[[route]]
path = "/github"
rate = { rate = "500/s", burst = 1000 }
observe = ["rate"]
content_types = ["Application/JSON"]
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
allow = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.7", "2001:db8::/32"]
deny = ["192.0.2.1"]
observe = ["allow"]
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
            "admin       no port: neither probes nor metrics",
            "the client is the peer: no proxy is trusted",
            "clients     everyone",
            "clients     192.0.2.0/24, 198.51.100.0/24, 203.0.113.7/32 and 1 more (only counted)",
            "            never 192.0.2.1/32 (only counted)",
            "POST hooks.example.com/github",
            "POST /open (any host)",
            "{body} with",
            "replay key  tag of the signed content, by one key of the route",
            "replays     duplicates of accepted deliveries are acknowledged (200) and not forwarded\n",
            "            for 10m after the application has accepted them",
            "            262144 deliveries in at most 45.7MiB; when there are more, new ones are refused (503)",
            "            neither id nor time is signed; bodies of this sender name their event: equal bytes are one event",
            "            what is equal within this time counts as one delivery",
            "replays     1 tables, when full: 45.7MiB",
            "\"new\", counts from 2026-06-01T00:00:00Z",
            "\"old\", counts until 2026-07-01T00:00:00Z",
            "tolerance   none",
            "more of one: wait for their turn, with all others like them in at most 50 %:",
            "            2048 in flight, bodies of 128MiB, that share of each worker's time",
            "WARNING     nothing is verified",
            "body        at most 1MiB\n  WARNING     github sends up to 25MiB; what is longer than the bound is refused (413)",
            "upstream    unix:/run/app.sock",
            "rate        500/s, 1000 at once (only counted)",
            "media types application/json",
            "10000, of one client 256",
            "not genuine, of each: 100/s, 200 at once",
            "10000 connections × 26576B = 253.4MiB",
            "bodies      all together 256.0MiB",
            "65536 × 48B = 3.0MiB",
            "all         570.2MiB",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn what_tells_deliveries_apart_is_said_with_what_it_means() {
        let told = |scheme: &str, lines: &str| {
            let text = format!(
                "[[listener]]\naddress = '127.0.0.1:1'\n[upstream]\naddress = '127.0.0.1:2'\n\
                 [[route]]\npath = '/'\nscheme = '{scheme}'\nsecrets = [{{ id = '1', file = 'x' }}]\n{lines}\n"
            );
            summary(&parse_str("test.toml", &text).unwrap().0, Now::at_unix(Duration::from_secs(1)))
        };
        for (scheme, lines, part) in [
            ("svix", "", "replay key  delivery id\n              the id is signed: what has the same id"),
            ("stripe", "", "the time is signed, and no id: what is equal at another time is another delivery"),
            ("shopify", "", "bodies of this sender name their event: equal bytes are one event"),
            ("dropbox", "", "two events of this sender can have equal bytes\n  replays     off"),
            ("dropbox", "replay.mode = 'enforce'", "WARNING     the second of two equal events is lost within 10m"),
            ("meta", "", "it is not known whether two events can have equal bytes\n  replays     off"),
            ("token", "", "nothing is signed: equal bodies cannot be told apart\n  replays     off"),
            ("github", "body_size = '25MiB'", "body        at most 25MiB\n  upstream"),
        ] {
            let text = told(scheme, lines);
            assert!(text.contains(part), "{scheme}: {part}\n{text}");
        }
    }

    #[test]
    fn what_a_route_keeps_is_named() {
        let text =
            TEXT.replace("scheme = \"none\"", "scheme = \"none\"\nkeep_headers = [\"X-Real-IP\", \"Forwarded\"]");
        let (settings, _) = parse_str("test.toml", &text).unwrap();
        let text = summary(&settings, Now::at_unix(Duration::from_secs(1_781_000_000)));
        assert_eq!(text.matches("  keeps       X-Real-IP, Forwarded, as anybody sends them\n").count(), 1, "{text}");
    }

    #[test]
    fn keys_are_judged_at_the_given_moment() {
        assert!(at(1_700_000_000).contains("\"new\", does not count yet: it counts from 2026-06-01T00:00:00Z"));
        assert!(at(1_800_000_000).contains("\"old\", expired at 2026-07-01T00:00:00Z"));
        assert!(!at(1_800_000_000).contains("no key that counts"));
    }

    #[test]
    fn a_route_without_a_key_at_the_moment_is_named() {
        let text = TEXT.replace(
            "scheme = \"none\"",
            "scheme = \"github\"\nsecrets = [{ id = \"1\", file = \"x\", not_after = 2026-01-01T00:00:00Z }]",
        );
        let (settings, _) = parse_str("test.toml", &text).unwrap();
        let moment = |seconds| Now::at_unix(Duration::from_secs(seconds));
        let warnings = moment_warnings(&settings, moment(1_781_000_000));
        assert_eq!(
            warnings,
            ["The route \"open\" has no key that counts at present: every delivery to it will be refused."]
        );
        assert!(summary(&settings, moment(1_781_000_000)).contains("WARNING     the route has no key that counts"));
        assert!(moment_warnings(&settings, moment(1_700_000_000)).is_empty());
    }
}
