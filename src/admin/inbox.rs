//! `/inbox`: the deliveries that are stored, and what can be done with them.
//!
//! | request | meaning |
//! |---|---|
//! | `GET /inbox?state=dead&route=NAME…` | a list |
//! | `GET /inbox/ID` | one delivery |
//! | `GET /inbox/ID/message` | its bytes, as the application gets them |
//! | `POST /-/inbox/redrive?…`, `POST /-/inbox/purge?…` | with `dry=1` it is only said which |
//! | `POST /-/inbox/hold?route=NAME`, `POST /-/inbox/release?route=NAME` | |
//!
//! All of it is for this host alone, as `/captured`: deliveries are secrets of the sender.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::inbox::delivery::DeliveryId;
use crate::inbox::operation::{
    DeliveryPage, InboxOperation, InboxReport, ListedDelivery, encoded, route_name, value_of,
};
use crate::inbox::store::{StoreStanding, StoredRecord};

use super::answer::{Answer, Media, Verdict};

/// Where deliveries are read.
const INBOX: &str = "/inbox";

/// Where something is done with them.
const CHANGES: &str = "/-/inbox/";

/// Text of a body that is shown with a delivery, in bytes; more of it is fetched as the message.
const SHOWN: usize = 16 << 10;

/// Whether a path is one of these.
#[must_use]
pub fn is_of_inbox(path: &str) -> bool {
    path.starts_with(CHANGES) || path.strip_prefix(INBOX).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// How an operation is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InboxForm {
    /// As JSON.
    Described,
    /// As the bytes of one delivery.
    Message,
}

/// How the admin port is asked for an operation: whether by POST, and the target.
#[must_use]
pub fn target(operation: &InboxOperation) -> (bool, String) {
    let dry = |page: &DeliveryPage, dry: bool| {
        let query = page.query();
        let mark = if query.is_empty() { "" } else { "&" };
        if dry { format!("{query}{mark}dry=1") } else { query }
    };
    match operation {
        InboxOperation::List(page) => (false, format!("{INBOX}?{}", page.query())),
        InboxOperation::Show(id) => (false, format!("{INBOX}/{id}")),
        InboxOperation::Redrive(page, only) => (true, format!("{CHANGES}redrive?{}", dry(page, *only))),
        InboxOperation::Purge(page, only) => (true, format!("{CHANGES}purge?{}", dry(page, *only))),
        InboxOperation::Hold(route, true) => (true, format!("{CHANGES}hold?route={}", encoded(route))),
        InboxOperation::Hold(route, false) => (true, format!("{CHANGES}release?route={}", encoded(route))),
    }
}

/// The target of the bytes of a delivery.
#[must_use]
pub fn message_target(id: DeliveryId) -> String {
    format!("{INBOX}/{id}/message")
}

/// The operation that a request asks for.
///
/// # Errors
/// The answer to a request that is none.
pub fn asked(path: &str, query: &str, changes: bool) -> Result<(InboxOperation, InboxForm), Answer> {
    let wrong = |why: String| Answer::text(Verdict::Malformed, why);
    let page = || DeliveryPage::parse(query).map_err(wrong);
    if let Some(what) = path.strip_prefix(CHANGES) {
        let route = || {
            let named = value_of(query, "route").ok_or_else(|| "which route? ?route=NAME".to_owned());
            named.and_then(route_name).map_err(wrong)
        };
        let operation = match what {
            _ if !changes => return Err(method("POST")),
            "redrive" => page().map(|(page, dry)| InboxOperation::Redrive(page, dry))?,
            "purge" => page().map(|(page, dry)| InboxOperation::Purge(page, dry))?,
            "hold" => InboxOperation::Hold(route()?, true),
            "release" => InboxOperation::Hold(route()?, false),
            _ => return Err(Answer::text(Verdict::Unknown, "there are redrive, purge, hold and release")),
        };
        return Ok((operation, InboxForm::Described));
    }
    if changes {
        return Err(method("GET, HEAD"));
    }
    let rest = path.strip_prefix(INBOX).unwrap_or_default().trim_start_matches('/');
    if rest.is_empty() {
        return page().map(|(page, _)| (InboxOperation::List(page), InboxForm::Described));
    }
    let (id, form) = match rest.strip_suffix("/message") {
        Some(id) => (id, InboxForm::Message),
        None => (rest, InboxForm::Described),
    };
    let id = id.parse::<DeliveryId>().map_err(|why| Answer::text(Verdict::Unknown, format!("{id}: {why}")))?;
    Ok((InboxOperation::Show(id), form))
}

fn method(allow: &'static str) -> Answer {
    Answer { allow, ..Answer::text(Verdict::MethodRefused, format!("{allow} here")) }
}

/// The answer to an operation that was carried out.
#[must_use]
pub fn answer(operation: &InboxOperation, form: InboxForm, report: &InboxReport) -> Answer {
    let missing = matches!(operation, InboxOperation::Show(_)) && report.deliveries.is_empty();
    if missing {
        return Answer::text(Verdict::Unknown, "there is no delivery with this id (any more)");
    }
    match (form, &report.content) {
        (InboxForm::Described, _) => Answer::document(Media::Json, described(report).to_string()),
        (InboxForm::Message, Some(record)) => Answer::document(Media::Bytes, message(record)),
        (InboxForm::Message, None) => Answer::text(Verdict::Failed, "it is damaged on disk and cannot be read"),
    }
}

/// A delivery as one HTTP/1.1 message.
#[must_use]
pub fn message(record: &StoredRecord) -> Vec<u8> {
    [record.head(), b"\r\n", record.body()].concat()
}

/// A report as JSON.
#[must_use]
pub fn described(report: &InboxReport) -> Value {
    let deliveries: Vec<Value> =
        report.deliveries.iter().map(|listed| delivery(listed, report.held.contains(&listed.route))).collect();
    let mut value = json!({
        "deliveries": deliveries,
        "more": report.more,
        "last": report.last.map(|id| id.to_string()),
        "held_routes": report.held,
        "standing": standing(&report.standing),
    });
    if let (Some(record), Some(members)) = (&report.content, value.as_object_mut()) {
        members.insert("head".to_owned(), Value::from(String::from_utf8_lossy(record.head())));
        let text = core::str::from_utf8(record.body()).ok().filter(|text| text.len() <= SHOWN);
        members.insert("body".to_owned(), Value::from(text));
    }
    value
}

fn delivery(listed: &ListedDelivery, held: bool) -> Value {
    let row = &listed.row;
    json!({
        "id": row.id.to_string(),
        "route": listed.route,
        "state": row.state.code(),
        "reason": row.reason.code(),
        "held": held,
        "status": (row.status > 0).then_some(row.status),
        "attempts": row.attempts,
        "redrives": row.redrives,
        "accepted": moment(row.accepted),
        "due": (row.due > 0).then(|| moment(row.due)),
        "changed": moment(row.changed),
        "head_bytes": row.head_length,
        "body_bytes": row.body_length,
        "ordered": row.order_key != [0; 16],
    })
}

/// How the inbox stands, as JSON.
#[must_use]
pub fn standing(standing: &StoreStanding) -> Value {
    json!({
        "waiting": standing.waiting,
        "dead": standing.dead,
        "damaged": standing.damaged,
        "locked": standing.locked,
        "former_keys": standing.former_keys,
        "bytes": standing.bytes,
        "dead_bytes": standing.dead_bytes,
        "limit_bytes": standing.limit,
        "files": standing.generations,
        "damaged_files": standing.damaged_files,
        "failing_since": standing.failing_since.map(moment),
        "dead_letters_full": standing.dead_letters_full,
    })
}

/// A moment in milliseconds since 1970 as RFC 3339.
fn moment(millis: u64) -> Option<String> {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).ok()?;
    moment.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::inbox::contract_tests::{fresh, now, put};
    use crate::inbox::filter::DeliveryFilter;
    use crate::inbox::memory::MemoryStore;

    fn asked_for(operation: &InboxOperation) -> InboxOperation {
        let (changes, target) = target(operation);
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        assert!(is_of_inbox(path), "{path}");
        let wrong = asked(path, query, !changes).map(|_| ()).unwrap_err();
        assert_eq!(wrong.verdict, Verdict::MethodRefused, "{path}");
        asked(path, query, changes).unwrap().0
    }

    #[test]
    fn an_operation_that_is_asked_for_is_the_one_that_is_meant() {
        let filter = DeliveryFilter { route: Some("a b/é".to_owned()), ..DeliveryFilter::default() };
        let page = DeliveryPage { filter, after: Some(DeliveryId(7)), room: Some(9) };
        for operation in [
            InboxOperation::List(page.clone()),
            InboxOperation::List(DeliveryPage::default()),
            InboxOperation::Show(DeliveryId(77)),
            InboxOperation::Redrive(page.clone(), true),
            InboxOperation::Redrive(DeliveryPage::default(), true),
            InboxOperation::Purge(page, false),
            InboxOperation::Hold("a&b".to_owned(), true),
            InboxOperation::Hold("a".to_owned(), false),
        ] {
            assert_eq!(asked_for(&operation), operation);
        }
        let message = asked(&message_target(DeliveryId(5)), "", false).unwrap();
        assert_eq!(message, (InboxOperation::Show(DeliveryId(5)), InboxForm::Message));
        for (path, query, changes, status) in [
            ("/inbox/short", "", false, 404),
            ("/inbox", "state=alive", false, 400),
            ("/-/inbox/hold", "", true, 400),
            ("/-/inbox/hold", "route=", true, 400),
            ("/-/inbox/hold", "route=a%0Aorders", true, 400),
            ("/-/inbox/release", "route=%1b[31m", true, 400),
            ("/-/inbox/drop", "", true, 404),
        ] {
            assert_eq!(asked(path, query, changes).unwrap_err().verdict.status(), status, "{path}");
        }
        assert!(!is_of_inbox("/inboxes") && !is_of_inbox("/-/inbox"));
    }

    #[test]
    fn a_delivery_is_described_and_given_byte_for_byte() {
        let mut store = MemoryStore::new(9, 9);
        let ids = put(&mut store, &[fresh("orders", b"{\"a\":1}"), fresh("orders", &[0xff, 0])]);
        let show = |id| InboxOperation::Show(id);
        let report = show(ids[0]).carry_out(&mut store, now(0)).unwrap();
        let described = described(&report);
        let delivery = &described["deliveries"][0];
        assert_eq!(delivery["id"], ids[0].to_string());
        assert_eq!((&delivery["state"], &delivery["reason"]), (&Value::from("waiting"), &Value::from("new")));
        assert_eq!(delivery["accepted"], "2026-11-24T00:00:00Z");
        assert_eq!(
            (&described["body"], &described["standing"]["waiting"]),
            (&Value::from("{\"a\":1}"), &Value::from(2))
        );
        let bytes = answer(&show(ids[0]), InboxForm::Message, &report).body;
        assert_eq!(bytes, b"POST /hook HTTP/1.1\r\nHost: app\r\n\r\n{\"a\":1}");
        let binary = show(ids[1]).carry_out(&mut store, now(0)).unwrap();
        assert!(super::described(&binary)["body"].is_null());
        let none = show(DeliveryId(99)).carry_out(&mut store, now(0)).unwrap();
        assert_eq!(answer(&show(DeliveryId(99)), InboxForm::Described, &none).verdict, Verdict::Unknown);
    }
}
