//! What was done to stored deliveries beside delivering them, for the audit trail.

use crate::telemetry::access_log::string;
use crate::telemetry::line::number;

/// So many deliveries are named in a record; of all there is the number.
pub const NAMED: usize = 64;

/// A filter of an operator is cut to so many bytes.
const FILTER_LIMIT: usize = 1 << 10;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InboxAction {
    /// Dead letters are attempted again.
    Redriven,
    /// Deliveries were removed by an operator.
    Purged,
    /// A route is held.
    Held,
    /// A route is released.
    Released,
    /// A delivery was shown, with its content.
    Shown,
    /// A delivery was given away as it is sent to the application.
    Exported,
    /// Dead letters were removed at the end of their retention.
    Expired,
    /// Dead letters were removed to make room for younger ones.
    Dropped,
}

impl InboxAction {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Redriven => "redriven",
            Self::Purged => "purged",
            Self::Held => "held",
            Self::Released => "released",
            Self::Shown => "shown",
            Self::Exported => "exported",
            Self::Expired => "expired",
            Self::Dropped => "dropped",
        }
    }
}

/// Something that was done to stored deliveries, or to what waits of a route.
#[derive(Clone, Copy, Debug)]
pub struct InboxChange<'a> {
    /// What.
    pub action: InboxAction,
    /// Who asked for it, as far as that is known; `countersign` for what the process does by its configuration.
    pub by: &'a str,
    /// Which deliveries were meant: the query of the operation. It may be empty.
    pub meant: &'a str,
    /// How many it concerned.
    pub count: u64,
    /// Their ids; [`NAMED`] of them are written.
    pub ids: &'a [[u8; 13]],
    /// Why it was not done, or not to its end.
    pub failed: Option<&'a str>,
}

impl InboxChange<'_> {
    /// Appends the members behind the event.
    pub(super) fn members(&self, out: &mut Vec<u8>) {
        string(out, b",\"action\":\"", self.action.word().as_bytes());
        string(out, b",\"by\":\"", self.by.as_bytes());
        let meant = self.meant.as_bytes();
        string(out, b",\"meant\":\"", meant.get(..FILTER_LIMIT).unwrap_or(meant));
        out.extend_from_slice(b",\"count\":");
        number(out, self.count);
        if !self.ids.is_empty() {
            out.extend_from_slice(b",\"deliveries\":[");
            for (position, id) in self.ids.iter().take(NAMED).enumerate() {
                out.extend_from_slice(if position == 0 { b"\"" } else { b",\"" });
                out.extend_from_slice(id);
                out.push(b'"');
            }
            out.push(b']');
        }
        if let Some(why) = self.failed {
            string(out, b",\"failed\":\"", why.as_bytes().get(..FILTER_LIMIT).unwrap_or(why.as_bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::audit::record::ENTRY_LIMIT;

    #[test]
    fn a_change_is_json_and_bounded() {
        let ids = vec![*b"0123456789abc"; 1_000];
        let long = "\"\n\u{1b}[31m\u{fffd}".repeat(4_000);
        let change = InboxChange {
            action: InboxAction::Purged,
            by: "127.0.0.1:40312, user 1000",
            meant: &long,
            count: 1_000,
            ids: &ids,
            failed: Some(&long),
        };
        let mut out = b"{\"event\":\"inbox\"".to_vec();
        change.members(&mut out);
        out.push(b'}');
        assert!(out.is_ascii() && !out.contains(&b'\n') && !out.contains(&0x1b));
        let read: serde_json::Value = serde_json::from_slice(&out).unwrap_or_default();
        assert_eq!((&read["action"], &read["count"]), (&"purged".into(), &1_000.into()));
        assert_eq!(read["deliveries"].as_array().map(Vec::len), Some(NAMED));
        assert!(out.len() < ENTRY_LIMIT * 2, "{}", out.len());
        let change = InboxChange { meant: "route=orders", failed: None, ids: &ids[..2], count: 2, ..change };
        let mut out = Vec::new();
        change.members(&mut out);
        let expected = ",\"action\":\"purged\",\"by\":\"127.0.0.1:40312, user 1000\",\"meant\":\"route=orders\",\"count\":2,\
                        \"deliveries\":[\"0123456789abc\",\"0123456789abc\"]";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }
}
