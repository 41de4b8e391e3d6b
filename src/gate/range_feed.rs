//! Lists of networks as senders publish them: how their text is read, and what such a list may not hold. A list decides who
//! may call, so that one that is broken, emptied or much too wide must not take the place of one that is known.

use core::fmt;

use serde_json::Value;

use super::networks::{Network, Networks};

/// The longest text of a list, in bytes. GitHub's answer has the ranges of all of its services.
pub const RANGE_TEXT_LIMIT: usize = 4 << 20;

/// The most networks of a list.
pub const RANGE_LIMIT: usize = 4096;

/// The most addresses of IPv4 in a list: as many as a /8 has.
const WIDEST_V4: u64 = 1 << 24;

/// The most addresses of IPv6 in a list: as many as a /20 has, the most that a registry gives out at once.
const WIDEST_V6: u128 = 1 << 108;

/// Addresses from which no sender calls over the internet (RFC 6890, RFC 5737, RFC 3849, RFC 5771, RFC 4291).
const NOT_PUBLIC: [&str; 20] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/8",
    "2001:db8::/32",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

/// How the text of a list is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeForm {
    /// A network or an address a line; `#` begins a comment.
    Lines,
    /// JSON: at each of these places (RFC 6901, with `*` for every member) a list of texts, or one.
    Json(Vec<String>),
}

/// Why a text does not become the list that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeError {
    /// Longer than it may be.
    TooLong,
    /// Not UTF-8, or not JSON where it should be.
    Malformed,
    /// Nothing at this place of the JSON, or something else than texts.
    Missing(String),
    /// This part of it is no network.
    NotANetwork(String),
    /// No network in it.
    Empty,
    /// More networks than a sender needs.
    TooMany,
    /// More addresses than a sender needs.
    TooWide,
    /// A network from which no sender calls over the internet.
    NotPublic(Network),
    /// Of the networks that were known, fewer than half are left.
    Collapsed {
        /// How many are left.
        left: usize,
        /// How many were known.
        known: usize,
    },
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("it is longer than 4 MiB"),
            Self::Malformed => f.write_str("it is no text, or no JSON where it should be"),
            Self::Missing(place) => write!(f, "it has no list of texts at {place}"),
            Self::NotANetwork(text) => write!(f, "\"{text}\" in it is not a network"),
            Self::Empty => f.write_str("it has no network"),
            Self::TooMany => write!(f, "it has more than {RANGE_LIMIT} networks"),
            Self::TooWide => f.write_str("it has more addresses than a /8 of IPv4 or a /20 of IPv6"),
            Self::NotPublic(network) => write!(f, "{network} in it is not an address of the internet"),
            Self::Collapsed { left, known } => write!(f, "of {known} networks that were known only {left} are left"),
        }
    }
}

impl core::error::Error for RangeError {}

impl RangeForm {
    /// The networks of a text, sorted, each once.
    ///
    /// # Errors
    /// [`RangeError`], but for what a list as a whole may not be ([`judge`]).
    pub fn read(&self, text: &[u8]) -> Result<Vec<Network>, RangeError> {
        if text.len() > RANGE_TEXT_LIMIT {
            return Err(RangeError::TooLong);
        }
        let text = core::str::from_utf8(text).map_err(|_| RangeError::Malformed)?;
        match self {
            Self::Lines => {
                let parts = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
                networks(parts.filter(|part| !part.is_empty()))
            }
            Self::Json(places) => {
                let value: Value = serde_json::from_str(text).map_err(|_| RangeError::Malformed)?;
                let mut parts = Vec::new();
                for place in places {
                    let before = parts.len();
                    let steps: Vec<String> = place.split('/').skip(1).map(unescaped).collect();
                    if !collect(&value, &steps, &mut parts) || parts.len() == before {
                        return Err(RangeError::Missing(place.clone()));
                    }
                }
                networks(parts.into_iter())
            }
        }
    }
}

/// A step of a JSON pointer (RFC 6901, section 4).
fn unescaped(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

/// Adds the texts behind the steps. False where something else stands there. The steps of the scheme bound the depth.
fn collect<'v>(value: &'v Value, steps: &[String], parts: &mut Vec<&'v str>) -> bool {
    match (steps.split_first(), value) {
        (None, Value::String(text)) => {
            parts.push(text);
            true
        }
        (None, Value::Array(items)) => items.iter().all(|item| match item {
            Value::String(text) => {
                parts.push(text);
                true
            }
            _ => false,
        }),
        (Some((step, rest)), Value::Object(members)) if step == "*" => {
            members.values().all(|member| collect(member, rest, parts))
        }
        (Some((step, rest)), Value::Array(items)) if step == "*" => items.iter().all(|item| collect(item, rest, parts)),
        (Some((step, rest)), Value::Object(members)) => {
            members.get(step).is_some_and(|member| collect(member, rest, parts))
        }
        _ => false,
    }
}

fn networks<'t>(parts: impl Iterator<Item = &'t str>) -> Result<Vec<Network>, RangeError> {
    let mut networks = Vec::new();
    for part in parts {
        if networks.len() == RANGE_LIMIT {
            return Err(RangeError::TooMany);
        }
        let shown = || part.chars().take(60).flat_map(char::escape_debug).collect();
        networks.push(Network::parse(part).map_err(|_| RangeError::NotANetwork(shown()))?);
    }
    networks.sort_unstable();
    networks.dedup();
    Ok(networks)
}

/// Whether a list may be used at all.
///
/// # Errors
/// What it may not be.
pub fn judge(list: &[Network]) -> Result<Networks, RangeError> {
    if list.is_empty() {
        return Err(RangeError::Empty);
    }
    let set: Networks = list.iter().copied().collect();
    let special: Networks = NOT_PUBLIC.iter().filter_map(|text| Network::parse(text).ok()).collect();
    // A list of everything is told as too wide.
    if let Some(found) = list.iter().find(|network| !network.is_everything() && special.overlaps(**network)) {
        return Err(RangeError::NotPublic(*found));
    }
    let (v4, v6) = set.addresses();
    if v4 > WIDEST_V4 || v6 > WIDEST_V6 { Err(RangeError::TooWide) } else { Ok(set) }
}

/// Whether at least half of the networks that were known are in the new set.
///
/// # Errors
/// [`RangeError::Collapsed`]
pub fn compare(known: &[Network], new: &Networks) -> Result<(), RangeError> {
    let left = known.iter().filter(|network| new.covers(**network)).count();
    if left * 2 < known.len() { Err(RangeError::Collapsed { left, known: known.len() }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn json(places: &[&str], text: &str) -> Result<Vec<String>, RangeError> {
        let form = RangeForm::Json(places.iter().map(ToString::to_string).collect());
        Ok(form.read(text.as_bytes())?.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn lists_are_read_in_each_form() {
        let text = "# ours\r\n140.82.112.0/20\n\n  2606:50c0::/32 # six\n140.82.112.0/20\n3.18.12.63";
        let read = RangeForm::Lines.read(text.as_bytes()).unwrap();
        let shown: Vec<_> = read.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["3.18.12.63/32", "140.82.112.0/20", "2606:50c0::/32"]);
        assert_eq!(json(&["/hooks"], r#"{"hooks":["1.2.3.0/24"],"web":["9.9.9.9"]}"#).unwrap(), ["1.2.3.0/24"]);
        assert_eq!(json(&["/a/b", "/c"], r#"{"a":{"b":["1.2.3.4"]},"c":"1.2.3.5"}"#).unwrap().len(), 2);
        assert_eq!(json(&["/*/n"], r#"[{"n":"1.2.3.4"},{"n":["1.2.3.5","1.2.3.6"]}]"#).unwrap().len(), 3);
        assert_eq!(json(&["/*/n"], r#"{"x":{"n":"1.2.3.4"},"y":{"n":[]}}"#).unwrap().len(), 1);
        assert_eq!(json(&["/a~1b"], r#"{"a/b":["1.2.3.4"]}"#).unwrap().len(), 1);
        assert_eq!(json(&[""], r#"["1.2.3.4"]"#).unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let missing = |place: &str| Err(RangeError::Missing(place.to_owned()));
        for (places, text) in [
            (["/hooks"], r#"{"hook":["1.2.3.4"]}"#),
            (["/hooks"], r#"{"hooks":[]}"#),
            (["/hooks"], r#"{"hooks":[1]}"#),
            (["/hooks"], r#"{"hooks":{"a":"1.2.3.4"}}"#),
            (["/*/n"], r#"{"x":{"n":"1.2.3.4"},"y":{}}"#),
            (["/*"], r#""text""#),
        ] {
            assert_eq!(json(&places, text), missing(places[0]), "{text}");
        }
        assert_eq!(json(&["/a"], "<html>"), Err(RangeError::Malformed));
        assert_eq!(json(&["/a"], &"[".repeat(100_000)), Err(RangeError::Malformed));
        assert_eq!(json(&["/a"], r#"{"a":["1.2.3.4/24"]}"#), Err(RangeError::NotANetwork("1.2.3.4/24".into())));
        assert_eq!(RangeForm::Lines.read(b"<html>"), Err(RangeError::NotANetwork("<html>".into())));
        assert_eq!(RangeForm::Lines.read(b"\xff"), Err(RangeError::Malformed));
        assert_eq!(RangeForm::Lines.read(&vec![b' '; RANGE_TEXT_LIMIT + 1]), Err(RangeError::TooLong));
        let many = (0..=RANGE_LIMIT).map(|at| format!("1.{}.{}.1\n", at / 256, at % 256)).collect::<String>();
        assert_eq!(RangeForm::Lines.read(many.as_bytes()), Err(RangeError::TooMany));
    }

    #[test]
    fn a_list_that_no_sender_has_is_refused() {
        let list = |texts: &[&str]| texts.iter().map(|text| Network::parse(text).unwrap()).collect::<Vec<_>>();
        assert_eq!(judge(&[]), Err(RangeError::Empty));
        for text in ["10.0.0.0/8", "127.0.0.1", "192.168.0.0/16", "::1", "fd00::/8", "169.254.169.254", "fe80::1"] {
            let one = list(&["140.82.112.0/20", text]);
            assert!(matches!(judge(&one), Err(RangeError::NotPublic(_))), "{text}");
        }
        // A range around a private one has private addresses.
        assert!(matches!(judge(&list(&["8.0.0.0/6"])), Err(RangeError::NotPublic(_))));
        for texts in [
            ["0.0.0.0/0", "1.2.3.4"].as_slice(),
            &["::/0"],
            &["16.0.0.0/7"],
            &["16.0.0.0/8", "1.1.1.1"],
            &["16.0.0.0/9", "16.128.0.0/9", "18.0.0.0/24"],
            &["2000::/19"],
        ] {
            assert_eq!(judge(&list(texts)), Err(RangeError::TooWide), "{texts:?}");
        }
        assert!(judge(&list(&["16.0.0.0/8", "2a00::/20"])).is_ok());
    }

    #[test]
    fn at_least_half_of_what_was_known_stays() {
        let list = |texts: &[&str]| texts.iter().map(|text| Network::parse(text).unwrap()).collect::<Vec<_>>();
        let known = list(&["1.0.0.0/32", "1.0.0.1/32", "1.0.0.2/32", "1.0.0.3/32"]);
        let left = |texts: &[&str]| compare(&known, &list(texts).into_iter().collect());
        // Joined ranges are the same addresses.
        assert_eq!(left(&["1.0.0.0/30"]), Ok(()));
        assert_eq!(left(&["1.0.0.0", "1.0.0.3", "9.9.9.9"]), Ok(()));
        assert_eq!(left(&["1.0.0.0", "9.9.9.9"]), Err(RangeError::Collapsed { left: 1, known: 4 }));
        assert_eq!(compare(&[], &Networks::default()), Ok(()));
    }
}
