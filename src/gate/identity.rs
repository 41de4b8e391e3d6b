//! Who a client is by its certificate: the names in it, and the patterns that a configuration allows.
//!
//! Only subject alternative names count (RFC 6125, RFC 9525): DNS names and URIs. The common name says nothing that could
//! be matched without doubt. A certificate is looked at here after its chain has been verified; what stands in it can
//! still be anything that the authority signed, so only names of plain characters are names, and a wildcard in a
//! certificate, which stands for many machines, is not the name of a client.

use core::fmt;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::gate::admission::keyed_buckets::ClientKey;

/// The longest name that counts: host names are no longer, and an identity stands in headers and logs.
pub const NAME_LIMIT: usize = 255;

/// A name in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallerName {
    /// A host name, in lower case.
    Dns(Box<str>),
    /// A URI, as it stands there.
    Uri(Box<str>),
}

impl CallerName {
    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Dns(name) | Self::Uri(name) => name,
        }
    }
}

/// The names in a verified certificate, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    names: Box<[CallerName]>,
}

impl Identity {
    /// Reads the names of a certificate (DER). Names that cannot stand for one client are left out. `None` for what is
    /// not a certificate.
    #[must_use]
    pub fn of_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok()?;
        let names = names.iter().flat_map(|extension| &extension.value.general_names);
        Some(Self { names: names.filter_map(name).collect() })
    }

    /// The names.
    #[must_use]
    pub fn names(&self) -> &[CallerName] {
        &self.names
    }
}

fn name(written: &GeneralName<'_>) -> Option<CallerName> {
    let plain = |text: &str| (1..=NAME_LIMIT).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    match *written {
        GeneralName::DNSName(text) if plain(text) && !text.contains('*') => {
            Some(CallerName::Dns(text.trim_end_matches('.').to_ascii_lowercase().into()))
        }
        GeneralName::URI(text) if plain(text) => Some(CallerName::Uri(text.into())),
        _ => None,
    }
}

/// Which names are allowed: one, or those of one more label in front of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePattern {
    /// This host name, in lower case.
    Dns(String),
    /// Every host name of exactly one label and this, which begins with a dot.
    OneLabel(String),
    /// This URI, compared byte for byte.
    Uri(String),
}

/// A text is not a pattern of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAPattern {
    /// Neither a host name nor a URI.
    Form,
    /// A `*` somewhere else than alone in the first label.
    Wildcard,
}

impl NamePattern {
    /// Reads a host name, `*.` and a domain, or a URI.
    ///
    /// # Errors
    /// [`NotAPattern`]
    pub fn parse(text: &str) -> Result<Self, NotAPattern> {
        if text.is_empty() || text.len() > NAME_LIMIT || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(NotAPattern::Form);
        }
        if let Some((scheme, rest)) = text.split_once(':') {
            let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
            // `host:443` is no URI that anybody means.
            let is_port = rest.bytes().all(|b| b.is_ascii_digit());
            return match (is_scheme && !is_port, rest.contains('*')) {
                (false, _) => Err(NotAPattern::Form),
                (true, true) => Err(NotAPattern::Wildcard),
                (true, false) => Ok(Self::Uri(text.to_owned())),
            };
        }
        let lower = text.to_ascii_lowercase();
        let domain = lower.strip_prefix("*.");
        let name = domain.unwrap_or(&lower);
        if name.contains('*') {
            return Err(NotAPattern::Wildcard);
        }
        if !is_host_name(name) {
            return Err(NotAPattern::Form);
        }
        Ok(match domain {
            Some(domain) => Self::OneLabel(format!(".{domain}")),
            None => Self::Dns(lower),
        })
    }

    /// Whether it stands for this name.
    #[must_use]
    pub fn matches(&self, name: &CallerName) -> bool {
        match (self, name) {
            (Self::Dns(_) | Self::OneLabel(_), CallerName::Dns(name)) => self.matches_host(name),
            (Self::Uri(uri), CallerName::Uri(name)) => **uri == **name,
            _ => false,
        }
    }

    /// Whether it stands for this host name, in any case of letters.
    #[must_use]
    pub fn matches_host(&self, host: &str) -> bool {
        match self {
            Self::Dns(name) => name.eq_ignore_ascii_case(host),
            Self::OneLabel(domain) => host.len().checked_sub(domain.len()).is_some_and(|length| {
                let (label, rest) = host.as_bytes().split_at(length);
                !label.is_empty() && !label.contains(&b'.') && rest.eq_ignore_ascii_case(domain.as_bytes())
            }),
            Self::Uri(_) => false,
        }
    }
}

/// Whether a text is a name in a certificate. A text that ends in a number is an address: certificates have those elsewhere.
fn is_host_name(text: &str) -> bool {
    has_host_labels(text) && !ends_in_number(text)
}

/// Whether a text consists of labels as host names in practice do (RFC 1123, and underscores).
pub fn has_host_labels(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.split('.').all(label)
}

/// Whether the last label of a text is a number.
pub fn ends_in_number(text: &str) -> bool {
    text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()))
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) | Self::Uri(name) => f.write_str(name),
            Self::OneLabel(domain) => write!(f, "*{domain}"),
        }
    }
}

/// The names that may call. An empty list asks nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallerList {
    patterns: Vec<NamePattern>,
}

impl CallerList {
    /// A list of these patterns.
    #[must_use]
    pub const fn new(patterns: Vec<NamePattern>) -> Self {
        Self { patterns }
    }

    /// Whether it asks nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The patterns.
    #[must_use]
    pub fn patterns(&self) -> &[NamePattern] {
        &self.patterns
    }

    /// The first name that is on the list; the first of all where the list is empty.
    #[must_use]
    pub fn find<'i>(&self, identity: &'i Identity) -> Option<&'i str> {
        let allowed = |name: &&CallerName| self.is_empty() || self.patterns.iter().any(|pattern| pattern.matches(name));
        identity.names.iter().find(allowed).map(CallerName::as_str)
    }

    /// Whether a client with these names, or without a certificate, may call.
    #[must_use]
    pub fn admits(&self, identity: Option<&Identity>) -> bool {
        self.is_empty() || identity.is_some_and(|identity| self.find(identity).is_some())
    }
}

/// A client that has proven who it is.
#[derive(Clone, Debug)]
pub struct Caller {
    identity: Identity,
    name: Option<Box<str>>,
    key: Option<ClientKey>,
}

impl Caller {
    /// The client with this certificate, under the name by which `list` knows it.
    #[must_use]
    pub fn new(identity: Identity, list: &CallerList) -> Self {
        let name: Option<Box<str>> = list.find(&identity).map(Into::into);
        let key = name.as_deref().map(ClientKey::of_name);
        Self { identity, name, key }
    }

    /// All its names.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The name that it goes by.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What it is counted under.
    #[must_use]
    pub const fn key(&self) -> Option<ClientKey> {
        self.key
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;

    fn dns(name: &str) -> CallerName {
        CallerName::Dns(name.into())
    }

    fn certificate(names: Vec<rcgen::SanType>) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names = names;
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn patterns_are_names_wildcards_of_one_label_and_uris() {
        for (text, written) in [
            ("a.example", "a.example"),
            ("A.Example", "a.example"),
            ("*.Hooks.example", "*.hooks.example"),
            ("localhost", "localhost"),
            ("spiffe://example.org/ns/a", "spiffe://example.org/ns/a"),
            ("urn:uuid:1", "urn:uuid:1"),
        ] {
            assert_eq!(NamePattern::parse(text).unwrap().to_string(), written);
        }
        let long = "a".repeat(256);
        for text in [
            "",
            " ",
            "a b",
            "a..b",
            ".a",
            "-a.b",
            "a:1",
            "://x",
            "1:a",
            "caf\u{e9}.example",
            &long,
            "a/b",
            "10.0.0.1",
            "*.0.0.1",
        ] {
            assert_eq!(NamePattern::parse(text), Err(NotAPattern::Form), "{text}");
        }
        for text in ["*", "*.", "a*.example", "*.*.example", "a.*.example", "spiffe://*/a"] {
            assert!(NamePattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_wildcard_is_exactly_one_label() {
        let pattern = NamePattern::parse("*.hooks.example").unwrap();
        for name in ["a.hooks.example", "a-b.hooks.example"] {
            assert!(pattern.matches(&dns(name)), "{name}");
        }
        for name in
            ["hooks.example", ".hooks.example", "a.b.hooks.example", "ahooks.example", "a.hooks.example.org", ""]
        {
            assert!(!pattern.matches(&dns(name)), "{name}");
        }
        assert!(pattern.matches_host("A.HOOKS.example"));
        assert!(!pattern.matches(&CallerName::Uri("a.hooks.example".into())));
        let uri = NamePattern::parse("spiffe://a/B").unwrap();
        assert!(uri.matches(&CallerName::Uri("spiffe://a/B".into())));
        assert!(!uri.matches(&CallerName::Uri("spiffe://a/b".into())) && !uri.matches(&dns("spiffe://a/B")));
    }

    #[test]
    fn only_plain_names_of_a_certificate_count() {
        use rcgen::SanType;
        let identity = Identity::of_certificate(&certificate(vec![
            SanType::IpAddress([192, 0, 2, 1].into()),
            SanType::Rfc822Name("a@b.example".try_into().unwrap()),
            SanType::DnsName("*.wild.example".try_into().unwrap()),
            SanType::DnsName("sp ace.example".try_into().unwrap()),
            SanType::DnsName("line\r\nX-Evil: 1".try_into().unwrap()),
            SanType::URI("spiffe://a/\u{7f}".try_into().unwrap()),
            SanType::DnsName("".try_into().unwrap()),
            SanType::DnsName("B.Example.".try_into().unwrap()),
            SanType::URI("spiffe://a/b".try_into().unwrap()),
        ]))
        .unwrap();
        assert_eq!(identity.names(), [dns("b.example"), CallerName::Uri("spiffe://a/b".into())]);
        assert_eq!(Identity::of_certificate(&certificate(Vec::new())).unwrap(), Identity::default());
        assert_eq!(Identity::of_certificate(b"\x30\x03\x02\x01\x01"), None);
    }

    #[test]
    fn the_first_name_that_is_listed_counts() {
        let identity = Identity { names: Box::new([dns("a.example"), dns("b.example"), dns("c.example")]) };
        let list = |texts: &[&str]| CallerList::new(texts.iter().map(|it| NamePattern::parse(it).unwrap()).collect());
        assert_eq!(list(&[]).find(&identity), Some("a.example"));
        assert_eq!(list(&["c.example", "b.example"]).find(&identity), Some("b.example"));
        assert_eq!(list(&["d.example"]).find(&identity), None);
        assert!(list(&[]).admits(None) && list(&["*.example"]).admits(Some(&identity)));
        assert!(!list(&["a.example"]).admits(None) && !list(&["x.example"]).admits(Some(&identity)));
        let nameless = Caller::new(Identity::default(), &list(&[]));
        assert_eq!((nameless.name(), nameless.key()), (None, None));
    }

    proptest! {
        #[test]
        fn no_bytes_and_no_text_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in ".*") {
            let _ = (Identity::of_certificate(&bytes), NamePattern::parse(&text));
        }

        #[test]
        fn a_spoiled_certificate_is_read_without_panic(at in 0_usize..400, byte: u8, length in 0_usize..500) {
            let name = rcgen::SanType::DnsName("a.example".try_into().unwrap());
            let mut der = certificate(vec![name]);
            let at = at % der.len();
            der[at] = byte;
            der.truncate(length);
            let _ = Identity::of_certificate(&der);
        }

        #[test]
        fn a_wildcard_agrees_with_its_definition(label in "[a-z.]{0,4}", domain in "[a-z]{1,3}(\\.[a-z]{1,3}){0,2}") {
            let pattern = NamePattern::parse(&format!("*.{domain}")).unwrap();
            let expected = !label.is_empty() && !label.contains('.');
            prop_assert_eq!(pattern.matches_host(&format!("{label}.{domain}")), expected);
        }
    }
}
