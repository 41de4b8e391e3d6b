//! `keep_headers` of a route: what applications believe, and gets through all the same.

use crate::config::reader::Reader;
use crate::config::units::shorten;
use crate::gate::believed::{KEPT_LIMIT, KeptFields, NotKept};

/// Which fields reach the application of a route as they came.
pub(super) fn read(route: &Reader<'_>) -> KeptFields {
    let mut kept = KeptFields::default();
    let written = route.placed_strings("keep_headers").unwrap_or_default();
    if written.len() > KEPT_LIMIT {
        let message = format!("has {} names", written.len());
        route.error("keep_headers", message, format!("keep at most {KEPT_LIMIT}"));
    }
    for (name, place) in written.into_iter().take(KEPT_LIMIT) {
        if kept.names().iter().any(|known| known.eq_ignore_ascii_case(name)) {
            route.warning_at(place, format!("\"{name}\" is given twice"), "remove one of the two");
        } else if let Err(why) = kept.keep(name) {
            let (what, fix) = explain(why);
            route.error_at(place, format!("\"{}\" {what}", shorten(name)), fix);
        }
    }
    kept
}

/// What is wrong, and what to do.
const fn explain(why: NotKept) -> (&'static str, &'static str) {
    match why {
        NotKept::NotAName => ("is not a header name", "write the name alone: keep_headers = [\"X-Real-IP\"]"),
        NotKept::Ours => {
            ("is set by countersign and cannot be kept", "remove it; X-Forwarded-* of trusted_proxies is continued")
        }
        NotKept::OfTheConnection => ("belongs to the connection and ends here", "remove it"),
        NotKept::Spelling => ("cannot be kept: requests with this spelling are refused", "write it with \"-\""),
        NotKept::Passes => ("reaches the application anyway", "remove it"),
    }
}
