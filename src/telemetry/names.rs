//! Every metric, once: its name, its kind, its labels, its unit and what it means. Nothing is exported that does not
//! stand here ([`super::exposition`] takes nothing else), and the alert rules and dashboards are checked against it.
//!
//! Names follow the conventions of Prometheus: base units, `_total` for counters. Labels are bounded by the
//! configuration and by the tables of [`crate::outcome`]: never an address, an id of a delivery, a path.

use metrics::Unit;

/// What a metric does over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows, from 0 at the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

impl MetricKind {
    /// As `# TYPE` has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct MetricName {
    /// As it is exported.
    pub name: &'static str,
    /// What it does over time.
    pub kind: MetricKind,
    /// The names of its labels, in the order in which their values are given.
    pub labels: &'static [&'static str],
    /// What it counts.
    pub unit: Unit,
    /// What it means, for people.
    pub help: &'static str,
}

macro_rules! names {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $unit:ident $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $constant: MetricName = MetricName {
                name: $name, kind: MetricKind::$kind, labels: &[$($label),*], unit: Unit::$unit, help: $help,
            };
        )+

        /// Every metric, in the order of the table.
        pub const ALL: &[MetricName] = &[$($constant),+];
    };
}

names! {
    EXCHANGES = Counter "countersign_exchanges_total" ["route", "scheme", "outcome"] Count
        "Exchanges that have ended: forwarded, accepted (stored, and delivered later), answered (a handshake), duplicate, rejected or failed. Requests that fell under no route have an empty route.";
    RESPONSES = Counter "countersign_forwarded_responses_total" ["route", "class"] Count
        "Answers of the application to forwarded deliveries, by class of their status (1xx to 5xx).";
    REJECTIONS = Counter "countersign_rejections_total" ["route", "reason"] Count
        "Refusals by rule, by reason code. Acknowledged duplicates are among them.";
    FAULTS = Counter "countersign_faults_total" ["route", "side", "reason"] Count
        "Exchanges in which something broke, by whose fault it was and reason code.";
    BROKEN_ANSWERS = Counter "countersign_upstream_broken_answers_total" ["route", "rule"] Count
        "Answers of the application that could not be passed on, by the rule that they broke.";
    OBSERVED = Counter "countersign_observed_refusals_total" ["route", "reason"] Count
        "What checks that only count (observe) would have refused.";
    VERIFICATIONS = Counter "countersign_verifications_total" ["route", "key"] Count
        "Deliveries found genuine, by the id of the key that matched.";
    DUPLICATES = Counter "countersign_duplicates_total" ["route", "state"] Count
        "Deliveries that had come before: committed, or still in_flight. Those that are only observed count too.";
    REUSED_IDS = Counter "countersign_reused_ids_total" ["route"] Count
        "Deliveries that were forwarded although their signed id had come before: with another body.";
    RATE_REFUSALS = Counter "countersign_rate_refusals_total" ["route", "bucket"] Count
        "Requests refused because a token bucket was empty: that of the client, or that of the route.";
    UNTRUSTED_FORWARDED_FOR = Counter "countersign_untrusted_forwarded_for_total" [] Count
        "Genuine deliveries that came with X-Forwarded-For from a peer that is no trusted proxy. Many mean that trusted_proxies lacks a proxy.";
    REQUEST_BYTES = Counter "countersign_request_body_bytes_total" ["route"] Bytes
        "Bytes of request bodies received.";
    RESPONSE_BYTES = Counter "countersign_response_body_bytes_total" ["route"] Bytes
        "Bytes of answer bodies sent.";
    DURATION = Histogram "countersign_exchange_duration_seconds" ["route"] Seconds
        "Whole time of forwarded exchanges, from the first byte looked at to the last byte sent.";
    UPSTREAM_DURATION = Histogram "countersign_upstream_duration_seconds" ["route"] Seconds
        "From the verdict to the head of the application's answer.";
    LAST_DELIVERY = Gauge "countersign_last_delivery_timestamp_seconds" ["route"] Seconds
        "Unix time at which the last delivery was forwarded. Absent until there was one.";
    REPLAY_ENTRIES = Gauge "countersign_replay_entries" ["route"] Count
        "Deliveries remembered, those in flight included.";
    REPLAY_CLAIMS = Gauge "countersign_replay_claims_in_flight" ["route"] Count
        "Deliveries claimed and with the application.";
    REPLAY_CAPACITY = Gauge "countersign_replay_capacity" ["route"] Count
        "Deliveries that can be remembered.";
    CONNECTIONS_ACCEPTED = Counter "countersign_connections_accepted_total" [] Count
        "Connections accepted and let in.";
    CONNECTIONS = Gauge "countersign_connections" ["state"] Count
        "Open connections: active, or idle (waiting without buffers; counted anew every second).";
    CONNECTION_LIMIT = Gauge "countersign_connections_limit" [] Count
        "Connections that there may be.";
    CONNECTION_ENDS = Counter "countersign_connections_ended_total" ["reason"] Count
        "Connections refused or closed at a bound, without an exchange.";
    HANDSHAKES = Counter "countersign_tls_handshakes_total" ["version", "kind"] Count
        "TLS handshakes that let a client in, by version and kind: full, or resumed. Those that failed are among the ended connections (tls_ reasons).";
    HANDSHAKES_NOW = Gauge "countersign_tls_handshakes_in_progress" [] Count
        "TLS handshakes that are being made.";
    HANDSHAKE_LIMIT = Gauge "countersign_tls_handshakes_in_progress_limit" [] Count
        "TLS handshakes that may be made at a time.";
    HANDSHAKES_OVER_RATE = Counter "countersign_tls_handshakes_over_rate_total" [] Count
        "TLS handshakes begun by clients over their rate (handshakes_per_client). They wait behind others; those that were refused are among the ended connections (tls_handshake_rate_limited).";
    HANDSHAKES_WAITING = Gauge "countersign_tls_handshakes_over_rate_waiting" [] Count
        "TLS handshakes of clients over their rate that wait for their turn.";
    HANDSHAKES_WAITING_LIMIT = Gauge "countersign_tls_handshakes_over_rate_waiting_limit" [] Count
        "Such handshakes that may wait at a time: a quarter of those that may be made.";
    ACCEPT_PAUSES = Counter "countersign_accept_pauses_total" [] Count
        "Times that accepting paused because the process was out of descriptors or memory.";
    REQUESTS = Gauge "countersign_requests_in_flight" [] Count
        "Exchanges admitted and not ended.";
    REQUEST_LIMIT = Gauge "countersign_requests_in_flight_limit" [] Count
        "Exchanges that there may be at a time.";
    BODY_MEMORY = Gauge "countersign_body_memory_bytes" [] Bytes
        "Bytes of bodies held, and of the room that their buffers have for more.";
    BODY_MEMORY_LIMIT = Gauge "countersign_body_memory_limit_bytes" [] Bytes
        "Bytes of bodies that may be held.";
    SUSPECT_ENDS = Counter "countersign_over_budget_requests_total" ["result"] Count
        "Requests of clients that were over their budgets (unverified_per_client): genuine, not_genuine, or refused unseen because their share was full or the mode is to refuse.";
    SUSPECTS = Gauge "countersign_over_budget_requests_in_flight" [] Count
        "Exchanges admitted of clients over their budgets, and not proven genuine.";
    SUSPECT_LIMIT = Gauge "countersign_over_budget_requests_in_flight_limit" [] Count
        "Exchanges of clients over their budgets that there may be at a time.";
    SUSPECT_MEMORY = Gauge "countersign_over_budget_body_memory_bytes" [] Bytes
        "Bytes of body memory that exchanges of clients over their budgets hold.";
    SUSPECT_MEMORY_LIMIT = Gauge "countersign_over_budget_body_memory_limit_bytes" [] Bytes
        "Bytes of body memory that exchanges of clients over their budgets may hold.";
    TURNS_WAITING = Gauge "countersign_connections_waiting_for_turn" [] Count
        "Connections that wait for their turn: their last request was refused, their client is over its budget, or they send a large body; counted anew every second.";
    UPSTREAM_CONNECTS = Counter "countersign_upstream_connections_opened_total" ["upstream"] Count
        "Connections made to the application.";
    UPSTREAM_REUSES = Counter "countersign_upstream_connections_reused_total" ["upstream"] Count
        "Deliveries sent over a connection that was open already.";
    UPSTREAM_CONNECT_FAILURES = Counter "countersign_upstream_connect_failures_total" ["upstream"] Count
        "Attempts to connect to the application that failed or took too long.";
    UPSTREAM_STRAYS = Counter "countersign_upstream_stray_answers_total" ["upstream"] Count
        "Connections to the application that were closed because it had sent something beyond its answer.";
    UPSTREAM_IDLE = Gauge "countersign_upstream_connections_idle" ["upstream"] Count
        "Connections to the application that wait for their next use.";
    UPSTREAM_HEALTHY = Gauge "countersign_upstream_healthy" ["upstream"] Count
        "1 while an application that /ready asks for counts as one that can be reached, 0 while /ready says no because of it. Absent where it asks for none.";
    WORKERS = Gauge "countersign_workers" ["driver"] Count
        "Workers, by what they run on.";
    WORKER_CPU = Counter "countersign_worker_cpu_seconds_total" ["worker"] Seconds
        "CPU time of each worker's thread; its rate is the worker's utilisation.";
    WORKER_BEAT = Gauge "countersign_worker_heartbeat_age_seconds" ["worker"] Seconds
        "Time since each worker last ran its timer, which it does every second.";
    KEY_NOT_BEFORE = Gauge "countersign_key_not_before_timestamp_seconds" ["route", "key"] Seconds
        "Unix time from which a key counts, where it has such a bound.";
    KEY_NOT_AFTER = Gauge "countersign_key_not_after_timestamp_seconds" ["route", "key"] Seconds
        "Unix time from which a key no longer counts, where it has such a bound.";
    KEY_CHANGED = Gauge "countersign_key_changed_timestamp_seconds" ["route", "key"] Seconds
        "Unix time since which a key has been what it is: of its file at the start of the process, of the reload that changed it later; the start for one that is in no file.";
    KEY_LAST_MATCH = Gauge "countersign_key_last_match_timestamp_seconds" ["route", "key"] Seconds
        "Unix time at which a key last matched. Absent until it has.";
    GENERATION = Gauge "countersign_config_generation" [] Count
        "Which configuration is in force; 1 is the one that the process started with.";
    PUBLISHED_KEYS = Gauge "countersign_published_keys" ["url"] Count
        "Keys that are in use of those that a sender publishes at a URL. 0: deliveries that need them are refused.";
    KEY_FETCHES = Counter "countersign_key_fetches_total" ["url", "result"] Count
        "Times that the keys at a URL were fetched (success), or could not be (failure).";
    KEYS_FETCHED = Gauge "countersign_published_keys_fetched_timestamp_seconds" ["url"] Seconds
        "Unix time at which the keys at a URL were fetched last; 0 before the first time in this process.";
    PUBLISHED_RANGES = Gauge "countersign_published_ranges" ["sender"] Count
        "Networks of a sender that count, of those that it publishes. 0: allow lists let none of its addresses in.";
    RANGES_AS_OF = Gauge "countersign_published_ranges_as_of_timestamp_seconds" ["sender"] Seconds
        "Unix time at which the networks of a sender were those that it publishes; 0 where that is not known.";
    RANGE_FETCHES = Counter "countersign_range_fetches_total" ["sender", "result"] Count
        "Times that the networks of a sender were fetched and used (success), could not be fetched (failure), or were fetched and not used, since the list was empty, broken, too wide or collapsed (refused).";
    RELOADS = Counter "countersign_config_reloads_total" ["result"] Count
        "Times that the configuration was read again: success, or failure (the one in force stays).";
    RELOAD_GOOD = Gauge "countersign_config_last_reload_successful" [] Count
        "1 if the last reload put a configuration into force, 0 if it failed. 1 before the first.";
    CERTIFICATE_NOT_BEFORE = Gauge "countersign_certificate_not_before_timestamp_seconds" ["listener", "certificate"] Seconds
        "Unix time from which the certificate in a file holds that a listener shows.";
    CERTIFICATE_NOT_AFTER = Gauge "countersign_certificate_not_after_timestamp_seconds" ["listener", "certificate"] Seconds
        "Unix time after which the certificate in a file does not hold that a listener shows.";
    CLIENT_CA_NOT_AFTER = Gauge "countersign_client_ca_not_after_timestamp_seconds" ["listener", "client_ca", "authority"] Seconds
        "Unix time after which an authority of clients no longer holds, by its number in the file. What it has signed is accepted all the same.";
    READY = Gauge "countersign_ready" [] Count
        "1 while /ready says yes.";
    LOG_DROPPED = Counter "countersign_log_lines_dropped_total" [] Count
        "Lines of the process's log left out because strangers caused too many, or the writer was too slow.";
    ACCESS_LOG_MISSING = Counter "countersign_access_log_lines_missing_total" ["reason"] Count
        "Exchanges without a line in the access log: sampled (refused ones over the rate), or lost (its output was slow or failed).";
    AUDIT_UNRECORDED = Counter "countersign_audit_unrecorded_total" ["reason"] Count
        "Deliveries without a record of their own in the audit trail, which counts them: sampled (refused ones over the rate), or blocked (it could not be written).";
    AUDIT_FAILING = Gauge "countersign_audit_failing" [] Count
        "1 while the audit trail cannot be written. Absent where there is none.";
    AUDIT_UNPROVEN = Gauge "countersign_audit_unproven_records" [] Count
        "Records that were in the audit trail when the process started, that no seal proves and no killed process explains. Absent where there is none.";
    INBOX_ACCEPTED = Counter "countersign_inbox_accepted_total" ["route"] Count
        "Deliveries that were stored in the inbox, and acknowledged at once.";
    INBOX_ATTEMPTS = Counter "countersign_inbox_attempts_total" ["route", "result"] Count
        "Attempts to deliver what is stored that have ended: delivered, again (another one follows), or dead (it is a dead letter).";
    INBOX_WAITING = Gauge "countersign_inbox_waiting" ["route"] Count
        "Stored deliveries that wait for the application, those being attempted included.";
    INBOX_OLDEST = Gauge "countersign_inbox_oldest_seconds" ["route"] Seconds
        "Time since the oldest delivery that waits was accepted; 0 where none waits.";
    INBOX_DELIVERIES = Gauge "countersign_inbox_deliveries" ["state"] Count
        "Stored deliveries: waiting, dead (dead letters), or damaged (not what was written). Absent where there is no inbox.";
    INBOX_LOCKED = Gauge "countersign_inbox_locked" [] Count
        "Stored deliveries that are encrypted with a key that is not configured: kept, and not attempted. Absent where there is no inbox.";
    INBOX_BYTES = Gauge "countersign_inbox_bytes" [] Bytes
        "Bytes of the inbox on disk.";
    INBOX_LIMIT = Gauge "countersign_inbox_limit_bytes" [] Bytes
        "Bytes that the inbox may take on disk.";
    INBOX_FAILING = Gauge "countersign_inbox_failing" [] Count
        "1 while the inbox cannot store deliveries: its routes answer 503. Absent where there is none.";
    INBOX_DAMAGED_FILES = Gauge "countersign_inbox_damaged_files" [] Count
        "Files of the inbox that were set aside because they could not be opened.";
    INBOX_TAKEN_OVER = Counter "countersign_inbox_taken_over_total" [] Count
        "Deliveries that this process has taken over from replicas that had gone. 0 where the inbox is on disk.";
    INBOX_FENCED = Counter "countersign_inbox_fenced_total" [] Count
        "Ends of attempts that came too late: another replica had the delivery by then, or it was purged. 0 where the inbox is on disk.";
    SHARED_UP = Gauge "countersign_shared_up" [] Count
        "1 while every worker can ask the shared engine whether another process has a delivery. Absent where claims are not shared.";
    SHARED_OPERATIONS = Counter "countersign_shared_operations_total" ["operation", "result"] Count
        "What the shared engine was asked (claim, commit, release, take for tokens of a shared rate), and how that ended: done, duplicate (another process has accepted the delivery), in_flight (another has it), fenced (the claim had ended before), empty (no token), failed, late (no answer in time), or not_asked (it was away).";
    SHARED_SECONDS = Histogram "countersign_shared_operation_seconds" ["operation"] Seconds
        "Time until the shared engine answered.";
    SHARED_FALLBACKS = Counter "countersign_shared_fallbacks_total" ["route"] Count
        "Deliveries that were let through without the shared engine, which was away: another process may have accepted them, too, and a shared rate was that of this process alone.";
    BUILD = Gauge "countersign_build_info" ["version", "architecture"] Count
        "Always 1; what is running stands in the labels.";
    PROCESS_MEMORY = Gauge "process_resident_memory_bytes" [] Bytes
        "Resident memory of the process.";
    PROCESS_CPU = Counter "process_cpu_seconds_total" [] Seconds
        "CPU time of the process, user and system.";
    PROCESS_FILES = Gauge "process_open_fds" [] Count
        "Open file descriptors.";
    PROCESS_FILES_LIMIT = Gauge "process_max_fds" [] Count
        "File descriptors that may be open.";
    PROCESS_THREADS = Gauge "process_threads" [] Count
        "Threads of the process.";
    PROCESS_START = Gauge "process_start_time_seconds" [] Seconds
        "Unix time at which the process started.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        let mut seen = std::collections::BTreeSet::new();
        for MetricName { name, kind, labels, unit, help } in ALL {
            assert!(seen.insert(name), "{name} stands there twice");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == MetricKind::Counter, "{name}");
            let base = name.trim_end_matches("_total");
            match unit {
                Unit::Seconds => assert!(base.ends_with("_seconds"), "{name}"),
                Unit::Bytes => assert!(base.ends_with("_bytes"), "{name}"),
                Unit::Count => assert!(!base.ends_with("_seconds") && !base.ends_with("_bytes"), "{name}"),
                other => panic!("{name} has the unit {other:?}"),
            }
            assert!(help.ends_with('.'), "{name}");
            let bounded = ["route", "scheme", "outcome", "reason", "side", "key", "class", "state", "bucket"];
            let bounded = bounded.iter().chain(&[
                "upstream",
                "driver",
                "worker",
                "version",
                "architecture",
                "result",
                "certificate",
                "listener",
                "kind",
                "client_ca",
                "authority",
                "rule",
                "url",
                "sender",
                "operation",
            ]);
            assert!(labels.iter().all(|label| bounded.clone().any(|known| known == label)), "{name}: {labels:?}");
        }
    }
}
