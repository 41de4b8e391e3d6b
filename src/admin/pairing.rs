//! `POST /-/pair?route=NAME&for=SECONDS&key=ID&replace=1`: opens the pairing window of a route; `close=1` closes it.

use core::time::Duration;

use crate::inbox::operation::{encoded, value_of};

use super::answer::{Answer, Verdict};

/// Where it is asked for.
pub const PAIR: &str = "/-/pair";

/// How many seconds a window may be open.
pub const WINDOW_SECONDS: core::ops::RangeInclusive<u64> = 1..=3600;

/// How many seconds it is where nothing is said.
const USUAL: u64 = 600;

/// The window that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairingWish {
    /// The route.
    pub route: String,
    /// The key whose file takes the secret; the only one that can where nothing is said.
    pub key: Option<String>,
    /// How long the window is open; nothing closes it.
    pub lasts: Option<Duration>,
    /// Whether a secret that the file has may be replaced.
    pub replaces: bool,
}

impl PairingWish {
    /// The wish that a query says.
    ///
    /// # Errors
    /// The answer to a query that says none.
    pub fn parse(query: &str) -> Result<Self, Answer> {
        let wrong = |why: String| Answer::text(Verdict::Malformed, why);
        let is_set = |name: &str| value_of(query, name).is_some_and(|value| value == "1");
        let route = value_of(query, "route").ok_or_else(|| wrong("which route? ?route=NAME".to_owned()))?;
        let seconds = match value_of(query, "for") {
            None => Some(USUAL),
            Some(text) => text.parse().ok().filter(|seconds| WINDOW_SECONDS.contains(seconds)),
        };
        let seconds = seconds.ok_or_else(|| wrong("for how many seconds? ?for=1 to ?for=3600".to_owned()))?;
        let lasts = Some(Duration::from_secs(seconds)).filter(|_| !is_set("close"));
        Ok(Self { route, key: value_of(query, "key"), lasts, replaces: is_set("replace") })
    }

    /// The target that asks for it.
    #[must_use]
    pub fn target(&self) -> String {
        let mut target = format!("{PAIR}?route={}", encoded(&self.route));
        target += &self.lasts.map_or_else(|| "&close=1".to_owned(), |lasts| format!("&for={}", lasts.as_secs()));
        target += &self.key.as_ref().map(|key| format!("&key={}", encoded(key))).unwrap_or_default();
        target + if self.replaces { "&replace=1" } else { "" }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_wish_is_read_as_it_is_written() {
        for (key, lasts, replaces) in
            [(None, Some(USUAL), false), (Some("a&b".to_owned()), Some(1), true), (None, None, false)]
        {
            let lasts = lasts.map(Duration::from_secs);
            let wish = PairingWish { route: "my route".to_owned(), key, lasts, replaces };
            let target = wish.target();
            let query = target.strip_prefix("/-/pair?").unwrap();
            assert_eq!(PairingWish::parse(query).unwrap(), wish, "{query}");
        }
        for query in ["", "for=10", "route=a&for=3601", "route=a&for=0", "route=a&for=10m"] {
            assert!(PairingWish::parse(query).is_err(), "{query}");
        }
    }
}
