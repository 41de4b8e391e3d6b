//! The page for Prometheus, read back.
#![allow(clippy::unwrap_used)]
use super::super::deliveries::DeliveryReading;
use super::super::exchange::{Exchange, RouteTag, Stages, Stated};
use super::super::health::{HealthReading, Standing};
use super::super::metrics::RouteLabels;
use super::super::readings::{
    AuthorityReading, CertificateReading, InboxReading, KeyReading, ProcessIdentity, PublisherReading, RangeReading,
    ReloadReading, ReplayReading, SharedReading, Usage, Vitals,
};
use super::*;
use crate::now::Now;
use crate::outcome::{Observed, Outcome};

fn publisher() -> PublisherReading {
    PublisherReading { url: "https://k".to_owned(), keys: 2, fetched: Some(7), succeeded: 3, failed: 1, error: None }
}

/// A process in which there is everything that can be told.
fn everything() -> Readings {
    let level = Usage { held: 1, limit: 2 };
    let (one, second) = (Some(1), Duration::from_secs(1));
    Readings {
        connections: level,
        requests: level,
        body_memory: level,
        handshakes: level,
        handshakes_over_rate: level,
        suspects: level,
        suspect_memory: level,
        drivers: vec!["epoll", "epoll"],
        fallback: None,
        worker_cpu: vec![second, second],
        replay: vec![ReplayReading { route: "a\"b".to_owned(), entries: level, claims: 1 }],
        keys: vec![KeyReading {
            route: "a\"b".to_owned(),
            key: "k".to_owned(),
            not_before: Some(1),
            not_after: Some(2),
            since: Some(3),
        }],
        log_dropped: 3,
        records: RecordsReading {
            left_out: 1,
            lost: 2,
            over_rate: 3,
            blocked: 4,
            audit_failing: Some(true),
            audit_unproven: Some(5),
        },
        generation: 4,
        identity: ProcessIdentity::default(),
        reload: Some(ReloadReading { succeeded: 3, failed: 1, at: 5, error: Some("wrong".to_owned()) }),
        publishers: vec![publisher()],
        ranges: vec![RangeReading { sender: "s".to_owned(), networks: 9, refused: 1, ..RangeReading::default() }],
        health: vec![HealthReading {
            upstream: "u".to_owned(),
            standing: Standing::Unhealthy,
            good: false,
            trouble: None,
            since: 1,
        }],
        certificates: vec![CertificateReading {
            listener: "127.0.0.1:1".to_owned(),
            name: "c".to_owned(),
            hosts: Vec::new(),
            fingerprint: String::new(),
            not_before: 1,
            not_after: 2,
        }],
        authorities: vec![authority()],
        shared: Some(SharedReading { server: "redis 7.0.15".to_owned(), connected: 1, workers: 2, trouble: None }),
        inbox: Some(InboxReading {
            bytes: Usage { held: 7, limit: 8 },
            routes: vec![DeliveryReading { route: "a\"b".to_owned(), results: [5, 6, 7], waiting: 8, oldest: second }],
            ..InboxReading::default()
        }),
        vitals: Vitals {
            memory: one,
            cpu: Some(second),
            files: one,
            files_limit: one,
            threads: one,
            started: Some(second),
        },
    }
}

fn authority() -> AuthorityReading {
    AuthorityReading { listener: "127.0.0.1:1".to_owned(), name: "ca".to_owned(), number: 1, not_after: 2 }
}

fn page(metrics: &Metrics) -> String {
    render(metrics, Scrape { readings: &everything(), monotonic: Duration::from_secs(9), ready: true })
}

fn counting() -> std::sync::Arc<Metrics> {
    let metrics = Metrics::new(2);
    let route = RouteLabels { name: "a\"b".to_owned(), scheme: "s".to_owned(), keys: vec!["k".into()] };
    let meters = metrics.register(&[route], &["u".to_owned()]);
    let mut observed = Observed::NONE;
    observed.note(Rejection::RouteRateLimited);
    observed.note(Rejection::IdReused);
    for worker in 0..2 {
        meters.record(&Exchange {
            worker,
            request_id: [b'0'; 32],
            ended: Now::at_unix(Duration::from_secs(7)),
            route: Some(RouteTag { position: 0, name: "a\"b", scheme: "s" }),
            peer: None,
            client: None,
            caller: None,
            method: b"POST",
            path: b"/",
            query: b"",
            outcome: Outcome::Forwarded { status: 204 },
            accepted: Some(204),
            broken_rule: None,
            observed,
            key_id: Some("k"),
            delivery_id: None,
            stated: Stated::default(),
            body: None,
            received: 1,
            sent: 1,
            stages: Stages::default(),
        });
    }
    metrics
}

#[test]
fn every_name_of_the_table_is_exported_with_what_it_means() {
    let page = page(&counting());
    for name in names::ALL {
        let head = format!("# HELP {0} {1}\n# TYPE {0} {2}\n{0}", name.name, name.help, name.kind.name());
        assert_eq!(page.matches(&head).count(), 1, "{} in\n{page}", name.name);
    }
    assert_eq!(page.matches("# TYPE ").count(), names::ALL.len(), "nothing that the table has not\n{page}");
}

#[test]
fn workers_are_added_up_and_names_of_operators_are_escaped() {
    let page = page(&counting());
    for line in [
        r#"countersign_verifications_total{route="a\"b",key="k"} 2"#,
        r#"countersign_forwarded_responses_total{route="a\"b",class="2xx"} 2"#,
        r#"countersign_observed_refusals_total{route="a\"b",reason="route_rate_limited"} 2"#,
        r#"countersign_reused_ids_total{route="a\"b"} 2"#,
        r#"countersign_exchange_duration_seconds_bucket{route="a\"b",le="0.0001"} 2"#,
        r#"countersign_exchange_duration_seconds_count{route="a\"b"} 2"#,
        r#"countersign_workers{driver="epoll"} 2"#,
        r#"countersign_worker_cpu_seconds_total{worker="1"} 1"#,
        "countersign_config_last_reload_successful 0",
        r#"countersign_upstream_healthy{upstream="u"} 0"#,
        r#"countersign_access_log_lines_missing_total{reason="lost"} 2"#,
        r#"countersign_audit_unrecorded_total{reason="blocked"} 4"#,
        r#"countersign_published_keys{url="https://k"} 2"#,
        r#"countersign_key_fetches_total{url="https://k",result="failure"} 1"#,
        r#"countersign_published_ranges{sender="s"} 9"#,
        r#"countersign_range_fetches_total{sender="s",result="refused"} 1"#,
        "countersign_audit_failing 1",
        "countersign_inbox_bytes 7",
        r#"countersign_inbox_attempts_total{route="a\"b",result="again"} 6"#,
        r#"countersign_inbox_oldest_seconds{route="a\"b"} 1"#,
        "countersign_audit_unproven_records 5",
        r#"countersign_key_changed_timestamp_seconds{route="a\"b",key="k"} 3"#,
        "process_cpu_seconds_total 1",
    ] {
        assert!(page.lines().any(|it| it == line), "{line} in\n{page}");
    }
}
