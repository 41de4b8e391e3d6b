//! What the metrics of a running process say about its surroundings.

use super::finding::{Finding, Grade};

/// Below this number of deliveries nothing is concluded.
const ENOUGH: f64 = 20.0;

/// Judges the page of `/metrics`.
pub(super) fn judge(metrics: &str) -> Vec<Finding> {
    let mut findings = vec![forwarded_for(metrics)];
    findings.extend(times(metrics));
    findings.extend(driver(metrics));
    findings
}

/// The sum of all series of a metric whose labels contain `label`.
fn sum(metrics: &str, name: &str, label: &str) -> f64 {
    let of = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        let whole = labels.is_empty() || labels.starts_with('{');
        (whole && labels.contains(label)).then(|| value.parse::<f64>().ok())?
    };
    metrics.lines().filter_map(of).sum()
}

/// Senders do not write `X-Forwarded-For`; proxies do.
fn forwarded_for(metrics: &str) -> Finding {
    let genuine = sum(metrics, "countersign_verifications_total", "");
    let unheard = sum(metrics, "countersign_untrusted_forwarded_for_total", "");
    if genuine < ENOUGH {
        return Finding::good("proxies", "too few deliveries yet to tell whether a proxy stands before the listeners");
    }
    if unheard * 2.0 < genuine {
        return Finding::good("proxies", "deliveries do not come through a proxy that is not trusted");
    }
    Finding::bad(
        "proxies",
        Grade::Fault,
        format!(
            "{unheard} of {genuine} genuine deliveries came with X-Forwarded-For from an address that is not trusted: a proxy \
             stands before the listener, and all clients look like one"
        ),
        "list the networks of that proxy in trusted_proxies of the listener; lists, budgets and the log then see the real clients",
    )
}

/// A clock that is wrong makes deliveries too old or too new.
fn times(metrics: &str) -> Option<Finding> {
    let genuine = sum(metrics, "countersign_verifications_total", "");
    let old = sum(metrics, "countersign_rejections_total", "reason=\"timestamp_stale\"");
    let new = sum(metrics, "countersign_rejections_total", "reason=\"timestamp_future\"");
    (old + new >= ENOUGH && old + new > genuine).then(|| {
        Finding::bad(
            "times",
            Grade::Warning,
            format!("{old} deliveries were too old and {new} too new, and {genuine} genuine: the clock may be wrong"),
            "compare `date -u` with another host, and synchronise the clock; replayed old deliveries look the same",
        )
    })
}

fn driver(metrics: &str) -> Option<Finding> {
    let ring = sum(metrics, "countersign_workers", "driver=\"io_uring\"");
    let all = sum(metrics, "countersign_workers", "");
    (all > 0.0)
        .then(|| Finding::good("process", format!("a process is running: {all} workers, {ring} of them on io_uring")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn page(genuine: u64, unheard: u64, old: u64) -> String {
        format!(
            "# HELP countersign_verifications_total x\n\
             countersign_verifications_total{{route=\"a\",key=\"1\"}} {genuine}\n\
             countersign_untrusted_forwarded_for_total {unheard}\n\
             countersign_rejections_total{{route=\"a\",reason=\"timestamp_stale\"}} {old}\n\
             countersign_workers{{driver=\"epoll\"}} 2\n"
        )
    }

    #[test]
    fn a_proxy_that_is_not_trusted_is_found() {
        let verdicts = |genuine, unheard, old| {
            let findings = judge(&page(genuine, unheard, old));
            findings.into_iter().map(|finding| (finding.examined, finding.verdict)).collect::<Vec<_>>()
        };
        let quiet = vec![("proxies", Grade::Good), ("process", Grade::Good)];
        assert_eq!(verdicts(5, 5, 0), quiet);
        assert_eq!(verdicts(100, 1, 0), quiet);
        assert_eq!(verdicts(100, 99, 0).first(), Some(&("proxies", Grade::Fault)));
        assert_eq!(verdicts(10, 0, 50).get(1), Some(&("times", Grade::Warning)));
        assert_eq!(sum(&page(7, 0, 0), "countersign_verifications", ""), 0.0, "names are compared whole");
    }
}
