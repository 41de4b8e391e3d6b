//! Rates: how they are read and shown.

use core::ops::RangeInclusive;
use core::time::Duration;

use crate::config::reader::Reader;
use crate::config::units::show_frequency;
use crate::gate::token_bucket::Rate;

/// Bounds of a number of lines in a period.
pub(super) const LINES: RangeInclusive<u64> = 1..=Rate::TOKEN_LIMIT as u64;

/// A second.
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// So many in a period, all of them at once if need be.
pub(super) fn per((number, period): (u64, Duration)) -> Rate {
    let tokens = u32::try_from(number).unwrap_or(Rate::TOKEN_LIMIT);
    Rate { tokens, per: period, burst: tokens }
}

/// `{ rate = "100/s", burst = 200 }`; both must be there.
pub(super) fn read_rate(reader: &Reader<'_>, key: &str) -> Option<Rate> {
    let table = reader.table(key)?;
    read_table(reader, table)
}

/// The same of a route: with `shared = true` it is that of all processes together.
pub(super) fn read_route_rate(reader: &Reader<'_>, key: &str) -> (Option<Rate>, bool) {
    let Some(table) = reader.table(key) else { return (None, false) };
    let shared = table.bool("shared").unwrap_or(false);
    (read_table(reader, table), shared)
}

fn read_table(reader: &Reader<'_>, table: Reader<'_>) -> Option<Rate> {
    const FIX: &str = "write both: { rate = \"100/s\", burst = 200 }";
    let number = 1..=u64::from(Rate::TOKEN_LIMIT);
    table.require("rate", FIX);
    table.require("burst", FIX);
    let frequency = table.frequency("rate", number.clone());
    let burst = table.integer("burst", number);
    if table.failed() {
        reader.mark_failed();
    }
    table.finish();
    let (tokens, per) = frequency?;
    Some(Rate { tokens: u32::try_from(tokens).ok()?, per, burst: u32::try_from(burst?).ok()? })
}

/// For people.
pub(super) fn show_rate(rate: &Rate) -> String {
    format!("{}, {} at once", show_frequency(u64::from(rate.tokens), rate.per), rate.burst)
}
