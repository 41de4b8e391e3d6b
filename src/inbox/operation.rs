//! What an operator asks of the inbox, and the answer: the same over the admin port and on a directory.
//!
//! An operation as text is a query (`state=dead&route=orders&limit=100`): that is how it reaches the admin port.

use core::fmt::Write as _;

use crate::inbox::delivery::{DeliveryId, DeliveryReason, DeliveryState};
use crate::inbox::filter::DeliveryFilter;
use crate::inbox::row::DeliveryRow;
use crate::inbox::store::{DeliveryStore, Fetched, StoreOrder, StoreStanding, StoreTrouble, StoredRecord};
use crate::now::Now;

/// An operation concerns at most so many deliveries: the thread of the store does nothing else meanwhile.
pub const MOST: usize = 1_000;

/// Deliveries that are meant, a page of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryPage {
    /// Which ones.
    pub filter: DeliveryFilter,
    /// Those behind this one, in the order of ids.
    pub after: Option<DeliveryId>,
    /// At most so many; [`MOST`] where nothing is said.
    pub room: Option<usize>,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InboxOperation {
    /// Deliveries, without their content.
    List(DeliveryPage),
    /// One delivery with its content.
    Show(DeliveryId),
    /// Dead letters are to be attempted again; with `true` it is only said which.
    Redrive(DeliveryPage, bool),
    /// Deliveries are to be removed; with `true` it is only said which.
    Purge(DeliveryPage, bool),
    /// The deliveries of a route are not to be attempted (`true`), or are again.
    Hold(String, bool),
}

/// A delivery as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedDelivery {
    /// Its state.
    pub row: DeliveryRow,
    /// The name of its route.
    pub route: String,
}

/// What came of an operation.
#[derive(Clone, Debug, Default)]
pub struct InboxReport {
    /// The deliveries that it concerned, by id, as they were before.
    pub deliveries: Vec<ListedDelivery>,
    /// There are more that match: behind `last`.
    pub more: bool,
    /// The last delivery that was looked at.
    pub last: Option<DeliveryId>,
    /// For [`InboxOperation::Show`]: the content; nothing where it is damaged.
    pub content: Option<StoredRecord>,
    /// How the inbox stands now.
    pub standing: StoreStanding,
    /// Routes that are held.
    pub held: Vec<String>,
}

impl InboxOperation {
    /// Whether something is changed by it.
    #[must_use]
    pub const fn changes(&self) -> bool {
        match self {
            Self::List(_) | Self::Show(_) => false,
            Self::Redrive(_, dry) | Self::Purge(_, dry) => !*dry,
            Self::Hold(..) => true,
        }
    }

    /// Carries it out.
    ///
    /// # Errors
    /// Of the disk; a part may have been done.
    pub fn carry_out(&self, store: &mut dyn DeliveryStore, now: Now) -> Result<InboxReport, StoreTrouble> {
        let mut report = InboxReport::default();
        match self {
            Self::List(page) => page.browse(store, page.filter.state, &mut report)?,
            Self::Show(id) => {
                let filter = DeliveryFilter { ids: vec![*id], ..DeliveryFilter::default() };
                DeliveryPage { filter, ..DeliveryPage::default() }.browse(store, None, &mut report)?;
                let mut record = StoredRecord::default();
                let whole = !report.deliveries.is_empty() && store.fetch(*id, &mut record)? == Fetched::Whole;
                report.content = whole.then_some(record);
            }
            Self::Redrive(page, dry) => {
                page.browse(store, Some(DeliveryState::Dead), &mut report)?;
                if !dry {
                    report.carry_out(store, StoreOrder::Redrive, now)?;
                }
            }
            Self::Purge(page, dry) => {
                page.browse(store, page.filter.state, &mut report)?;
                if !dry {
                    report.carry_out(store, StoreOrder::Purge, now)?;
                }
            }
            Self::Hold(route, held) => {
                let route = route_name(route.clone()).map_err(StoreTrouble)?;
                store.order(&StoreOrder::Hold(route, *held), now)?;
            }
        }
        report.standing = store.standing();
        report.held = store.held_routes();
        Ok(report)
    }
}

impl DeliveryPage {
    fn browse(
        &self,
        store: &mut dyn DeliveryStore,
        state: Option<DeliveryState>,
        report: &mut InboxReport,
    ) -> Result<(), StoreTrouble> {
        let filter = DeliveryFilter { state, ..self.filter.clone() };
        let mut rows = Vec::new();
        report.more = store.browse(&filter, self.after, self.room.unwrap_or(MOST).min(MOST), &mut rows)?;
        let listed = rows.into_iter().map(|row| ListedDelivery { route: store.route_name(row.route).to_owned(), row });
        report.deliveries.extend(listed);
        report.last = report.deliveries.last().map(|listed| listed.row.id);
        Ok(())
    }

    /// The page as a query.
    #[must_use]
    pub fn query(&self) -> String {
        let filter = &self.filter;
        let mut out = String::new();
        let mut add = |name: &str, value: &str| {
            let mark = if out.is_empty() { "" } else { "&" };
            let _ = write!(out, "{mark}{name}={}", encoded(value));
        };
        filter.ids.iter().for_each(|id| add("id", &id.to_string()));
        filter.route.iter().for_each(|route| add("route", route));
        filter.state.iter().for_each(|state| add("state", state.code()));
        filter.reason.iter().for_each(|reason| add("reason", reason.code()));
        filter.since.iter().for_each(|since| add("since", &since.to_string()));
        filter.before.iter().for_each(|before| add("before", &before.to_string()));
        self.after.iter().for_each(|after| add("after", &after.to_string()));
        self.room.iter().for_each(|room| add("limit", &room.to_string()));
        out
    }

    /// The page that a query means, and whether it says `dry=1`.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn parse(query: &str) -> Result<(Self, bool), String> {
        let (mut page, mut dry) = (Self::default(), false);
        for (name, value) in pairs(query) {
            let number = || value.parse::<u64>().map_err(|_| format!("{name}={value} is no number"));
            let id = || value.parse::<DeliveryId>().map_err(|wrong| format!("{value}: {wrong}"));
            let filter = &mut page.filter;
            match name {
                "id" => filter.ids.push(id()?),
                "route" => filter.route = Some(value),
                "state" => filter.state = Some(state(&value)?),
                "reason" => filter.reason = Some(reason(&value)?),
                "since" => filter.since = Some(number()?),
                "before" => filter.before = Some(number()?),
                "after" => page.after = Some(id()?),
                "limit" => page.room = Some(usize::try_from(number()?).unwrap_or(MOST)),
                "dry" => dry = value == "1",
                _ => return Err(format!("{name} is not known: {KNOWN}")),
            }
        }
        Ok((page, dry))
    }
}

const KNOWN: &str = "there are id, route, state, reason, since, before, after, limit and dry";

/// A name that a route can have: not empty, without control characters, and at most 255 bytes long.
///
/// # Errors
/// A sentence for the operator.
pub fn route_name(name: String) -> Result<String, String> {
    if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
        return Err(format!("'{}' is no name of a route", name.escape_debug().take(64).collect::<String>()));
    }
    Ok(name)
}

/// The state with this name.
///
/// # Errors
/// The names that there are.
pub fn state(name: &str) -> Result<DeliveryState, String> {
    let known = || DeliveryState::ALL.iter().map(|state| state.code()).collect::<Vec<_>>().join(", ");
    DeliveryState::of_code(name).ok_or_else(|| format!("{name} is no state of a delivery: {}", known()))
}

/// The reason with this name.
///
/// # Errors
/// The names that there are.
pub fn reason(name: &str) -> Result<DeliveryReason, String> {
    let known = || DeliveryReason::ALL.iter().map(|reason| reason.code()).collect::<Vec<_>>().join(", ");
    DeliveryReason::of_code(name).ok_or_else(|| format!("{name} is no reason: {}", known()))
}

impl InboxReport {
    /// Does something with the deliveries that were found. Those that it did not concern are left out.
    fn carry_out(
        &mut self,
        store: &mut dyn DeliveryStore,
        order: fn(DeliveryFilter, usize) -> StoreOrder,
        now: Now,
    ) -> Result<(), StoreTrouble> {
        let ids: Vec<DeliveryId> = self.deliveries.iter().map(|listed| listed.row.id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let room = ids.len();
        let done = store.order(&order(DeliveryFilter { ids, ..DeliveryFilter::default() }, room), now)?;
        self.deliveries.retain(|listed| done.binary_search(&listed.row.id).is_ok());
        Ok(())
    }
}

/// The pairs of a query, decoded.
fn pairs(query: &str) -> impl Iterator<Item = (&str, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name, decoded(value))
    })
}

/// The value of a name in a query.
#[must_use]
pub fn value_of(query: &str, name: &str) -> Option<String> {
    pairs(query).find(|(known, _)| *known == name).map(|(_, value)| value)
}

/// RFC 3986 section 2.1, everything but unreserved characters.
#[must_use]
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let Some((first, rest)) = bytes.split_first() {
        let digits = rest.get(..2).and_then(|digits| core::str::from_utf8(digits).ok());
        let byte = digits.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(byte.unwrap_or(*first));
        bytes = rest.get(if byte.is_some() { 2 } else { 0 }..).unwrap_or_default();
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::inbox::contract_tests::{fresh, now, put, settle, settlement};
    use crate::inbox::memory::MemoryStore;
    use crate::inbox::store::Settled;

    const DEAD: Settled = Settled::Dead { reason: DeliveryReason::RefusedByApplication };

    fn page(query: &str) -> DeliveryPage {
        DeliveryPage::parse(query).unwrap().0
    }

    fn ids(report: &InboxReport) -> Vec<DeliveryId> {
        report.deliveries.iter().map(|listed| listed.row.id).collect()
    }

    #[test]
    fn a_query_is_read_as_it_is_written() {
        let filter = DeliveryFilter {
            ids: vec![DeliveryId(7), DeliveryId(9)],
            route: Some("a b&c=%41/é".to_owned()),
            state: Some(DeliveryState::Dead),
            reason: Some(DeliveryReason::GaveUpAge),
            since: Some(1),
            before: Some(2),
        };
        let page = DeliveryPage { filter, after: Some(DeliveryId(3)), room: Some(5) };
        assert_eq!(DeliveryPage::parse(&page.query()), Ok((page, false)));
        assert_eq!(DeliveryPage::parse("dry=1"), Ok((DeliveryPage::default(), true)));
        assert_eq!(value_of("a=1&b=%20%2", "b").as_deref(), Some(" %2"));
        for (wrong, word) in [
            ("state=alive", "waiting"),
            ("reason=x", "gave_up_age"),
            ("id=1", "13"),
            ("limit=a", "number"),
            ("x=1", "known"),
        ] {
            assert!(DeliveryPage::parse(wrong).unwrap_err().contains(word), "{wrong}");
        }
    }

    #[test]
    fn operations_do_what_they_say_and_a_dry_run_changes_nothing() {
        let mut store = MemoryStore::new(100, 100);
        let all = put(&mut store, &[fresh("a", b"1"), fresh("b", b"2"), fresh("a", b"3"), fresh("a", b"4")]);
        settle(&mut store, &[0, 1, 2].map(|at| settlement(all[at], DEAD)));
        let mut carry_out = |operation: &InboxOperation| operation.carry_out(&mut store, now(50)).unwrap();
        let list = |query: &str| InboxOperation::List(page(query));
        assert_eq!(ids(&carry_out(&list(""))), all);
        let first = carry_out(&list("state=dead&limit=2"));
        assert_eq!((ids(&first), first.more), (all[..2].to_vec(), true));
        assert_eq!(ids(&carry_out(&list(&format!("state=dead&after={}", all[1])))), [all[2]]);
        assert_eq!(first.deliveries[1].route, "b");
        let shown = carry_out(&InboxOperation::Show(all[2]));
        assert_eq!((ids(&shown), shown.content.unwrap().body()), (vec![all[2]], &b"3"[..]));
        assert!(carry_out(&InboxOperation::Show(DeliveryId(999))).deliveries.is_empty());
        let redrive = |dry| InboxOperation::Redrive(page("route=a"), dry);
        assert_eq!((ids(&carry_out(&redrive(true))), redrive(true).changes()), (vec![all[0], all[2]], false));
        let done = carry_out(&redrive(false));
        assert_eq!((ids(&done), done.standing.dead), (vec![all[0], all[2]], 1));
        assert!(ids(&carry_out(&redrive(false))).is_empty());
        assert_eq!(ids(&carry_out(&InboxOperation::Purge(page("state=dead"), true))), [all[1]]);
        let done = carry_out(&InboxOperation::Purge(page("state=dead"), false));
        assert_eq!((ids(&done), done.standing.dead, done.standing.waiting), (vec![all[1]], 0, 3));
        assert_eq!(carry_out(&InboxOperation::Hold("a".to_owned(), true)).held, ["a"]);
        assert!(carry_out(&InboxOperation::Hold("a".to_owned(), false)).held.is_empty());
    }
}
