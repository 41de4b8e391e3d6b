//! An attempt as the thread that delivers makes it: its request, and what is told of its end.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::inbox::agenda::Due;
use crate::inbox::judgement::AttemptEnd;
use crate::inbox::store::{Settled, Settlement, StoredRecord};
use crate::now::Now;
use crate::telemetry::attempt::Attempted;
use crate::telemetry::deliveries::AttemptResult;

use super::observer::Observer;

/// An attempt that has ended.
pub(super) struct EndedAttempt {
    pub(super) due: Due,
    pub(super) record: Arc<StoredRecord>,
    pub(super) end: AttemptEnd,
    /// When it began.
    pub(super) begun: Duration,
}

impl EndedAttempt {
    /// What follows, where this is to be made durable.
    pub(super) fn result(settlement: Option<&Settlement>) -> AttemptResult {
        match settlement.map(|settlement| settlement.settled) {
            Some(Settled::Done) => AttemptResult::Delivered,
            Some(Settled::Dead { .. }) => AttemptResult::Dead,
            Some(Settled::Again { .. }) | None => AttemptResult::Again,
        }
    }

    /// Tells of it. One that was given up before a byte left is none.
    pub(super) fn tell(&self, observer: &dyn Observer, route: &str, settlement: Option<&Settlement>, now: Now) {
        if self.end == AttemptEnd::NotSent {
            return;
        }
        let reason = match settlement.map(|settlement| settlement.settled) {
            Some(Settled::Done) => "delivered",
            Some(Settled::Dead { reason }) => reason.code(),
            Some(Settled::Again { .. }) | None => self.end.reason().code(),
        };
        observer.attempted(&Attempted {
            ended: now,
            request_id: request_id(self.record.head()),
            route,
            delivery: self.due.id.text(),
            attempt: self.due.attempt,
            is_redriven: self.due.redrives > 0,
            result: Self::result(settlement),
            reason,
            status: self.end.status(),
            took: now.monotonic.saturating_sub(self.begun),
            age: now.unix.saturating_sub(Duration::from_millis(self.due.accepted)),
        });
    }
}

/// The id that the request got which brought the delivery: it is in the head that was stored.
fn request_id(head: &[u8]) -> Option<[u8; 32]> {
    const FIELD: &[u8] = b"\r\nX-Request-Id: ";
    let at = memchr::memmem::find(head, FIELD)?;
    head.get(at + FIELD.len()..)?.first_chunk().copied()
}

/// The request of an attempt: the head as it was stored, what only this attempt knows, and the body.
pub(super) fn request(due: &Due, record: &StoredRecord) -> Vec<u8> {
    let mut out = Vec::with_capacity(record.head().len() + record.body().len() + 192);
    out.extend_from_slice(record.head());
    let seconds = i64::try_from(due.accepted / 1_000).unwrap_or(0);
    let accepted = OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|it| it.format(&Rfc3339).ok());
    crate::wire::encode::field(&mut out, b"X-Countersign-Delivery", &due.id.text());
    crate::wire::encode::field_u64(&mut out, b"X-Countersign-Attempt", u64::from(due.attempt));
    crate::wire::encode::field(&mut out, b"X-Countersign-Accepted", accepted.unwrap_or_default().as_bytes());
    if due.redrives > 0 {
        crate::wire::encode::field(&mut out, b"X-Countersign-Redriven", b"true");
    }
    crate::wire::encode::end(&mut out);
    out.extend_from_slice(record.body());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_the_request_is_read_from_the_head() {
        let id = *b"0123456789abcdef0123456789abcdef";
        let head = [&b"POST / HTTP/1.1\r\nHost: a\r\nX-Request-Id: "[..], &id, b"\r\n"].concat();
        assert_eq!(request_id(&head), Some(id));
        for other in [&b"POST / HTTP/1.1\r\n"[..], b"", b"POST / HTTP/1.1\r\nX-Request-Id: 0123\r\n"] {
            assert_eq!(request_id(other), None);
        }
    }
}
