//! Which URLs a delivery may name. A pin is a URL with gaps; what stands in a gap is short and of few characters, so that it
//! changes neither the host nor the path, and brings no query.

use core::fmt;

/// What stands for a gap in the text of a pin.
const GAP: char = '*';

/// The most characters in a gap. Identifiers of keys and names of regions are shorter.
const GAP_LIMIT: usize = 64;

/// The most gaps.
const GAPS: usize = 4;

/// A URL with gaps, for instance `https://sns.*.amazonaws.com/SimpleNotificationService-*.pem`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlPin {
    text: String,
}

impl UrlPin {
    /// Reads a pin. Nothing unless it is an `https` URL with a path, with one to four gaps, each of which ends where no
    /// character of a gap follows, and with at least two labels of the host behind a gap in it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::with_gaps(text, 1)
    }

    fn with_gaps(text: &str, least: usize) -> Option<Self> {
        let (host, path) = text.strip_prefix("https://")?.split_once('/')?;
        let clean =
            |part: &str| part.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}?#@%".contains(&byte));
        let ends = text.split(GAP).skip(1).all(|after| !after.starts_with(may_fill) && !after.starts_with(GAP));
        let last = !text.contains("**");
        let behind = host.rsplit_once(GAP).map(|(_, behind)| behind);
        let owned = behind.is_none_or(|behind| behind.starts_with('.') && behind.matches('.').count() >= 2);
        let gaps = (least..=GAPS).contains(&text.matches(GAP).count());
        let sound =
            !host.is_empty() && clean(host) && clean(path) && ends && last && owned && gaps && text.len() <= 512;
        sound.then(|| Self { text: text.to_owned() })
    }

    /// The pin as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether `url` is this one with something in each gap.
    #[must_use]
    pub fn admits(&self, url: &[u8]) -> bool {
        is_filled(&self.text, url)
    }

    /// The URL with `name` in its only gap; nothing where it has several, or the name may not stand there.
    #[must_use]
    pub fn filled(&self, name: &[u8]) -> Option<String> {
        let name = core::str::from_utf8(name).ok()?;
        let fits = (1..=GAP_LIMIT).contains(&name.len()) && name.chars().all(may_fill);
        (fits && self.text.matches(GAP).count() == 1).then(|| self.text.replace(GAP, name))
    }
}

impl fmt::Display for UrlPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A pin of a URL whose query begins with a fixed text, for instance
/// `https://sns.*.amazonaws.com/?Action=ConfirmSubscription&`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryPin {
    before: UrlPin,
    query: String,
}

/// The longest URL with a query, in bytes.
const QUERY_LIMIT: usize = 2048;

impl QueryPin {
    /// Reads a pin. Nothing unless a pin, which needs no gap, a question mark and a text of a query are there.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (before, query) = text.split_once('?')?;
        let fits = !query.is_empty() && query.bytes().all(may_stand_in_query);
        let before = UrlPin::with_gaps(before, 0).filter(|_| fits)?;
        Some(Self { before, query: query.to_owned() })
    }

    /// Whether `url` is one of these.
    #[must_use]
    pub fn admits(&self, url: &[u8]) -> bool {
        let Some(mark) = url.iter().position(|byte| *byte == b'?') else { return false };
        let (before, query) = url.split_at(mark);
        let query = query.get(1..).unwrap_or_default();
        url.len() <= QUERY_LIMIT
            && self.before.admits(before)
            && query.starts_with(self.query.as_bytes())
            && query.iter().all(|byte| may_stand_in_query(*byte))
    }
}

/// What identifiers and tokens are made of, and what joins them.
const fn may_stand_in_query(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':' | b'=' | b'&')
}

/// Whether `text` is `pattern` with something in each gap. Behind a gap no character of a gap follows, so that there is one
/// way only.
pub(super) fn is_filled(pattern: &str, text: &[u8]) -> bool {
    let mut pieces = pattern.split(GAP);
    let Some(mut rest) = pieces.next().and_then(|first| text.strip_prefix(first.as_bytes())) else { return false };
    for piece in pieces {
        let length = rest.iter().take_while(|byte| may_fill(char::from(**byte))).count();
        let behind = rest.get(length..).and_then(|rest| rest.strip_prefix(piece.as_bytes()));
        let (Some(behind), true) = (behind, (1..=GAP_LIMIT).contains(&length)) else { return false };
        rest = behind;
    }
    rest.is_empty()
}

/// What a gap may have: no dot, no slash, nothing that is escaped.
const fn may_fill(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const SNS: &str = "https://sns.*.amazonaws.com/SimpleNotificationService-*.pem";

    #[test]
    fn a_pin_admits_what_fills_its_gaps_and_nothing_else() {
        let pin = UrlPin::parse(SNS).unwrap();
        let genuine =
            "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-01d088a6f77103d0fe307c0069e40ed6.pem";
        assert!(pin.admits(genuine.as_bytes()));
        let long = "a".repeat(65);
        for (from, to) in [
            ("https", "http"),
            ("https", "HTTPS"),
            ("sns.", "evil.sns."),
            ("sns.eu-west-1.", "sns."),
            ("eu-west-1", "evil.example/x"),
            ("eu-west-1", "evil.example"),
            ("eu-west-1", "evil.example#"),
            ("eu-west-1", "evil.example?"),
            ("eu-west-1", "user@evil"),
            ("eu-west-1", ""),
            ("eu-west-1", "eu-west-1%2eevil"),
            ("eu-west-1", long.as_str()),
            ("amazonaws.com/", "amazonaws.com.evil.example/"),
            ("amazonaws.com/", "amazonaws.com:8443/"),
            ("amazonaws.com/", "amazonaws.com/../"),
            ("amazonaws.com/", "amazonaws.com//"),
            (".pem", ".pem?x"),
            (".pem", ".pem#x"),
            (".pem", ".pem "),
            (".pem", ".pem\r\nX: y"),
            (".pem", "/../x.pem"),
            ("0069e40ed6", "0069/40ed6"),
            ("0069e40ed6", "0069\u{e9}40ed6"),
        ] {
            let url = genuine.replacen(from, to, 1);
            assert_ne!(url, genuine);
            assert!(!pin.admits(url.as_bytes()), "{url}");
        }
        assert_eq!(pin.filled(b"a"), None, "it has two gaps");
    }

    #[test]
    fn a_name_fills_the_only_gap() {
        let pin = UrlPin::parse("https://api.example.com/keys/*").unwrap();
        assert_eq!(pin.filled(b"a-b_C1").unwrap(), "https://api.example.com/keys/a-b_C1");
        for name in ["", ".", "..", "a/b", "a?b", "a%2f", "a b", "\u{e4}", &"a".repeat(65)] {
            assert_eq!(pin.filled(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn what_pins_nothing_is_no_pin() {
        for text in [
            "https://api.example.com/keys",
            "http://api.example.com/*",
            "https://*/x",
            "https://*.com/x",
            "https://a*.example.com/x",
            "https://*.example.com/x",
            "https://api.example.*/x",
            "https://api.example.com*/x",
            "https://api.example.com/*a",
            "https://api.example.com/**",
            "https://api.example.com/*?x=*",
            "https://user@api.example.com/*",
            "https:///*",
            "https://api.example.com",
            "https://x.example.com/*/*/*/*/*",
        ] {
            let wanted = ["https://*.example.com/x", "https://a*.example.com/x"].contains(&text);
            assert_eq!(UrlPin::parse(text).is_some(), wanted, "{text}");
        }
    }

    #[test]
    fn a_query_begins_as_it_must_and_has_nothing_special() {
        let pin = QueryPin::parse("https://sns.*.amazonaws.com/?Action=ConfirmSubscription&").unwrap();
        let good =
            "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=arn:aws:sns:a:1:t&Token=2336";
        assert!(pin.admits(good.as_bytes()));
        for (from, to) in [
            ("ConfirmSubscription", "DeleteTopic"),
            ("?Action", "?x=y&Action"),
            ("/?", "/x?"),
            ("amazonaws.com", "evil.example"),
            ("https", "http"),
            ("2336", "23 36"),
            ("2336", "23#36"),
            ("2336", "23%36"),
            ("2336", "23?36"),
            ("?", ""),
        ] {
            assert!(!pin.admits(good.replacen(from, to, 1).as_bytes()), "{from}");
        }
        assert!(!pin.admits(good.replace("2336", &"2".repeat(3000)).as_bytes()));
        for text in ["https://a.example/", "https://a.example/?", "http://a.example/?x", "https://*.com/?x", "?x"] {
            assert_eq!(QueryPin::parse(text), None, "{text}");
        }
        assert!(QueryPin::parse("https://a.example/?x=1&").unwrap().admits(b"https://a.example/?x=1&y"));
    }

    proptest! {
        #[test]
        fn nothing_that_is_admitted_leaves_the_host(url in "https://sns\\.[ -~]{0,40}") {
            let pin = UrlPin::parse(SNS).unwrap();
            if pin.admits(url.as_bytes()) {
                let host = url.strip_prefix("https://").unwrap().split('/').next().unwrap();
                prop_assert!(host.ends_with(".amazonaws.com") && host.matches('.').count() == 3);
            }
        }
    }
}
