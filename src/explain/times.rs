//! Timestamps of another request.

use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::case::{TriedCase, Visit};
use super::mistake::Mistake;
use crate::gate::verify::{Part, Template, Unit, inspect};

/// A sender that takes the time twice is off by no more, in seconds.
const FARTHEST: i64 = 90;
/// A body that is longer is not hashed so often.
const LONGEST: usize = 256 << 10;

/// The timestamp of a request shortly before or after.
pub(super) fn of_another(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let Some(timestamp) = &case.scheme.timestamp else { return false };
    if !case.scheme.content.contains(&Part::Timestamp) {
        return false;
    }
    if case.seen.body.len() > LONGEST {
        case.known.budget.refuse();
        return false;
    }
    if timestamp.source.is_in_body() && !case.pays(2) {
        return false;
    }
    let Ok(Some(text)) = inspect::timestamp_text(case.scheme, &timestamp.source, &case.seen) else { return false };
    let Ok(text) = core::str::from_utf8(&text) else { return false };
    for (distance, sign) in (1..=FARTHEST).flat_map(|distance| [(distance, -1), (distance, 1)]) {
        let Some(other) = moved(text, timestamp.unit, sign * distance) else { return false };
        let scheme = case.changed_scheme(|scheme| {
            let parts = scheme.content.parts().iter();
            let parts = parts.map(|part| match part {
                Part::Timestamp => Part::Literal(other.clone().into_bytes()),
                part => part.clone(),
            });
            scheme.content = Template::of(parts.collect());
        });
        let when = if sign < 0 { "before" } else { "after" };
        let seconds = format!("{distance} s");
        if visit(TriedCase { scheme: &scheme, ..case }, Mistake::TimeOfAnother, &[&seconds, when]) {
            return true;
        }
    }
    false
}

/// The same text with another second.
fn moved(text: &str, unit: Unit, seconds: i64) -> Option<String> {
    match unit {
        Unit::Seconds => Some(text.parse::<i64>().ok()?.checked_add(seconds)?.to_string()),
        Unit::Milliseconds => Some(text.parse::<i64>().ok()?.checked_add(seconds.checked_mul(1000)?)?.to_string()),
        Unit::Rfc3339 => {
            let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?.checked_add(Duration::seconds(seconds))?;
            let whole = moment.format(&Rfc3339).ok()?;
            // The fraction and the zone stay as they are written.
            Some(format!("{}{}", whole.get(..19)?, text.get(19..)?))
        }
        // Its second is not moved: these forms are rare.
        Unit::HttpDate | Unit::Iso8601 => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_move_in_their_own_form() {
        assert_eq!(moved("1760000000", Unit::Seconds, -1).as_deref(), Some("1759999999"));
        assert_eq!(moved("1760000000123", Unit::Milliseconds, 1).as_deref(), Some("1760000001123"));
        assert_eq!(moved("2025-10-09T08:59:59.5Z", Unit::Rfc3339, 1).as_deref(), Some("2025-10-09T09:00:00.5Z"));
        assert_eq!(moved("x", Unit::Seconds, 1), None);
    }
}
