//! The names of fields by which applications believe who called or what was asked, and which any sender can set.
//!
//! The table names them; what becomes of such a field is for the gate to say. Other spellings (`X_Real_IP`,
//! `SSL_CLIENT_VERIFY`, `X-Real--IP`) are folded before they are looked up here.
//!
//! Sources: the request headers of nginx, HAProxy, Envoy and App Engine documentation, the frameworks that read them (Rack,
//! Rails, Django, Symfony, ASP.NET, Spring, gunicorn, Next.js), the npm package `request-ip`, RFC 7239, RFC 9440,
//! CVE-2016-5385 (`Proxy`), CVE-2018-14773 (`X-Original-URL`), CVE-2025-29927 (`X-Middleware-Subrequest`), CVE-2025-61780
//! (`X-Sendfile-Type`).

use crate::wire::spelling::FOLD;

/// What applications believe such a field about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Belief {
    /// The address of the client, which is the whole value.
    Address,
    /// Something else.
    Other,
}

/// Fields whose value is one address: that of the client.
const ADDRESSES: &[&str] = &[
    "ali-cdn-real-ip",
    "appengine-user-ip",
    "cdn-real-ip",
    "cdn-src-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-pseudo-ipv4",
    "client-ip",
    "do-connecting-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "incap-client-ip",
    "proxy-client-ip",
    "remote-addr",
    "true-client-ip",
    "wl-proxy-client-ip",
    "x-appengine-remote-addr",
    "x-appengine-user-ip",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-cdn-src-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-coming-from",
    "x-envoy-external-address",
    "x-forward-for",
    "x-from-ip",
    "x-nf-client-connection-ip",
    "x-original-remote-addr",
    "x-originating-ip",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-source-ip",
    "x-sucuri-clientip",
    "x-true-client-ip",
    "x-true-ip",
    "x-trusted-ip",
    "x-user-ip",
];

/// Other fields that say who called, or what was asked: host, path, method, scheme, user, certificate.
const OTHERS: &[&str] = &[
    "base-url",
    "cf-access-authenticated-user-email",
    "cf-visitor",
    "client-cert",
    "client-cert-chain",
    "cloudfront-forwarded-proto",
    "forwarded-for",
    "front-end-https",
    "https",
    "path-info",
    "proxy",
    "remote-email",
    "remote-groups",
    "remote-name",
    "remote-user",
    "request-uri",
    "script-name",
    "x-accel-mapping",
    "x-accel-redirect",
    "x-appengine-https",
    "x-arr-clientcert",
    "x-arr-ssl",
    "x-authenticated-user",
    "x-backend-host",
    "x-client-cn",
    "x-client-dn",
    "x-client-verify",
    "x-envoy-internal",
    "x-envoy-original-host",
    "x-envoy-original-method",
    "x-envoy-original-path",
    "x-forwarded",
    "x-gateway-host",
    "x-host",
    "x-host-override",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-https",
    "x-matched-path",
    "x-method",
    "x-method-override",
    "x-nextjs-data",
    "x-now-route-matches",
    "x-original-for",
    "x-original-forwarded-for",
    "x-original-host",
    "x-original-method",
    "x-original-path",
    "x-original-prefix",
    "x-original-proto",
    "x-original-scheme",
    "x-original-uri",
    "x-original-url",
    "x-originating-host",
    "x-real-host",
    "x-real-port",
    "x-replaced-path",
    "x-request-uri",
    "x-rewrite-url",
    "x-scheme",
    "x-script-name",
    "x-sendfile-type",
    "x-token-subject",
    "x-url-scheme",
    "x-user",
    "x-vercel-forwarded-for",
    "x-waws-unencoded-url",
    "x-webauth-user",
];

/// Beginnings of names that say who called: certificates, and users as gateways name them.
const FAMILIES: &[&str] = &[
    "ssl-",
    "tailscale-user-",
    "x-amzn-mtls-",
    "x-amzn-oidc-",
    "x-auth-request-",
    "x-client-cert",
    "x-goog-authenticated-user-",
    "x-invoke-",
    "x-middleware-",
    "x-ms-client-principal",
    "x-remote-",
    "x-ssl-",
];

/// The longest name in the table of whole names, in bytes.
const LONGEST: usize = 34;

/// How many whole names there are.
const COUNT: usize = ADDRESSES.len() + OTHERS.len();

/// The whole names, the shorter ones first.
static BY_LENGTH: [(&str, Belief); COUNT] = by_length();

/// The place in [`BY_LENGTH`] of the first name that is at least so long.
static STARTS: [u8; LONGEST + 2] = starts();

/// For each length of a whole name, the marks of the names that have it. A name without its mark there is not in the
/// table, which is nearly every name.
static WHOLE: [u64; LONGEST + 1] = whole_marks();

/// The beginnings by their third letter and, as one of 64 bits, their fourth.
static BEGINNINGS: [u64; 32] = beginning_marks();

/// One of 64 marks, from the letters in the middle and at the end.
const fn mark(name: &[u8]) -> u64 {
    let middle = FOLD[name[name.len() / 2] as usize] as u64;
    let last = FOLD[name[name.len() - 1] as usize] as u64;
    1 << (middle.wrapping_mul(5).wrapping_add(last) & 63)
}

/// The place of a beginning in [`BEGINNINGS`], from the third and the fourth letter.
const fn beginning_mark(third: u8, fourth: u8) -> (usize, u64) {
    let (third, fourth) = (FOLD[third as usize], FOLD[fourth as usize]);
    (third as usize & 31, 1 << (fourth & 63))
}

const fn by_length() -> [(&'static str, Belief); COUNT] {
    let mut names = [("", Belief::Other); COUNT];
    let (mut length, mut at) = (0, 0);
    while length <= LONGEST {
        let mut place = 0;
        while place < COUNT {
            let is_address = place < ADDRESSES.len();
            let name = if is_address { ADDRESSES[place] } else { OTHERS[place - ADDRESSES.len()] };
            if name.len() == length {
                names[at] = (name, if is_address { Belief::Address } else { Belief::Other });
                at += 1;
            }
            place += 1;
        }
        length += 1;
    }
    // A longer name would be missing.
    assert!(at == COUNT);
    names
}

const fn starts() -> [u8; LONGEST + 2] {
    let names = by_length();
    let mut starts = [0; LONGEST + 2];
    let mut length = 0;
    while length < starts.len() {
        let mut at = 0;
        while at < COUNT && names[at].0.len() < length {
            at += 1;
        }
        starts[length] = at as u8;
        length += 1;
    }
    starts
}

const fn whole_marks() -> [u64; LONGEST + 1] {
    let names = by_length();
    let mut marks = [0; LONGEST + 1];
    let mut at = 0;
    while at < COUNT {
        let name = names[at].0.as_bytes();
        marks[name.len()] |= mark(name);
        at += 1;
    }
    marks
}

const fn beginning_marks() -> [u64; 32] {
    let mut marks = [0; 32];
    let mut at = 0;
    while at < FAMILIES.len() {
        let name = FAMILIES[at].as_bytes();
        let (place, bit) = beginning_mark(name[2], name[3]);
        marks[place] |= bit;
        at += 1;
    }
    marks
}

/// What a field with this plain name is believed about, `None` if it is in none of the tables.
#[inline]
pub(super) fn belief(name: &[u8]) -> Option<Belief> {
    let [_, _, third, fourth, ..] = name else { return None };
    if WHOLE.get(name.len()).is_some_and(|marks| marks & mark(name) != 0)
        && let Some(belief) = whole(name)
    {
        return Some(belief);
    }
    let (place, bit) = beginning_mark(*third, *fourth);
    let begins = BEGINNINGS.get(place).is_some_and(|bits| bits & bit != 0) && begins(name);
    begins.then_some(Belief::Other)
}

#[cold]
fn whole(name: &[u8]) -> Option<Belief> {
    let bounds = STARTS.get(name.len()).zip(STARTS.get(name.len() + 1));
    let alike = bounds.and_then(|(start, end)| BY_LENGTH.get(usize::from(*start)..usize::from(*end)));
    let found = alike.unwrap_or_default().iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
    found.map(|(_, belief)| *belief)
}

#[cold]
fn begins(name: &[u8]) -> bool {
    let begins = |start: &[u8], family: &&str| start.eq_ignore_ascii_case(family.as_bytes());
    FAMILIES.iter().any(|family| name.get(..family.len()).is_some_and(|start| begins(start, family)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::known::Known;

    #[test]
    fn every_name_of_the_table_is_found_in_every_spelling() {
        let names = ADDRESSES.iter().map(|name| (*name, Known::ClientIp));
        let names = names.chain(OTHERS.iter().map(|name| (*name, Known::Believed)));
        let members = FAMILIES.iter().map(|family| (format!("{family}verify"), Known::Believed));
        for (name, known) in names.map(|(name, known)| (name.to_owned(), known)).chain(members) {
            let camel = name.split('-').map(|word| format!("{}{}", word[..1].to_uppercase(), &word[1..]));
            let camel = camel.collect::<Vec<_>>().join("-");
            let ends = [format!("{name}_"), format!("-{name}"), format!("{name}-.")];
            let separators = ["_", ".", "--", "_-", "___"].map(|separator| name.replace('-', separator));
            for spelling in [name.to_uppercase(), camel, name].into_iter().chain(separators).chain(ends) {
                assert_eq!(Known::folded(spelling.as_bytes()), known, "{spelling}");
                assert_eq!(Known::of_request(spelling.as_bytes()), Ok(known), "{spelling}");
                assert_eq!(Known::of(spelling.as_bytes()), known, "{spelling}");
            }
        }
    }

    #[test]
    fn near_misses_are_other_names() {
        for name in [
            "X-Real-IPs",
            "Real-IP",
            "XReal-IP",
            "X-Original",
            "X-Http-Methods",
            "SSL",
            "X-SSLs",
            "X-Middleware",
            "HTTP",
            "X-Users",
            "Client",
            "X-Remote",
            "X-GitHub-Event",
            "X-Client-Id",
            "X-Auth-Request",
            "User-Agent",
            "Accept",
            "X-Amzn-Trace-Id",
            "X-Goog-Signature",
            "",
            "x",
            "xx",
            "xxx",
        ] {
            let known = Known::folded(name.as_bytes());
            assert!(matches!(known, Known::Other | Known::UserAgent), "{name}: {known:?}");
        }
    }

    #[test]
    fn names_are_in_order_and_once() {
        for table in [ADDRESSES, OTHERS, FAMILIES] {
            assert!(table.is_sorted_by(|a, b| a < b));
        }
        assert!(ADDRESSES.iter().chain(OTHERS).all(|name| name.len() <= LONGEST && name.is_ascii()));
    }

    proptest::proptest! {
        /// The marks leave out no name that the tables have.
        #[test]
        fn marks_only_save_time(name in "(x-)?(ssl|real|client|remote|original|auth|cdn|envoy)?[-a-z]{0,24}") {
            let name = name.as_bytes();
            let is = |known: &&str| known.as_bytes() == name;
            let expected = match () {
                () if ADDRESSES.iter().any(is) => Some(Belief::Address),
                () if OTHERS.iter().any(is) || FAMILIES.iter().any(|family| name.starts_with(family.as_bytes())) => {
                    Some(Belief::Other)
                }
                () => None,
            };
            proptest::prop_assert_eq!(belief(name), expected);
        }
    }
}
