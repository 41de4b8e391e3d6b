//! `/captured`: the refused requests that are kept, and `/captured/ID`: one of them, byte for byte, for `explain`.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::outcome::Outcome;
use crate::telemetry::capture::Captured;

use super::answer::{Answer, Media, Verdict};
use super::request::CAPTURED;
use super::status::millis;

/// Answers for this path, which begins with [`CAPTURED`].
pub(super) fn answer(kept: &[Arc<Captured>], path: &str) -> Answer {
    let id = path.strip_prefix(CAPTURED).unwrap_or_default().trim_start_matches('/');
    if id.is_empty() {
        let list: Vec<Value> = kept.iter().map(|captured| described(captured)).collect();
        return Answer::document(Media::Json, Value::from(list).to_string());
    }
    match kept.iter().find(|captured| captured.request_id == id.as_bytes()) {
        Some(captured) => Answer::document(Media::Bytes, captured.whole()),
        None => Answer::text(Verdict::Unknown, "no request with this id is kept (any more)"),
    }
}

fn described(captured: &Captured) -> Value {
    let reason = match captured.outcome {
        Outcome::Rejected(rejection) => rejection.code(),
        Outcome::Failed(fault) => fault.code(),
        Outcome::Forwarded { .. } | Outcome::Answered { .. } => captured.outcome.code(),
    };
    json!({
        "request_id": String::from_utf8_lossy(&captured.request_id),
        "at": millis(captured.at),
        "route": captured.route,
        "reason": reason,
        "cut": captured.is_cut(),
        "head": captured.shown(),
    })
}
