//! The names of fields by which applications believe who called or what was asked, and which any sender can set.
//!
//! The table names them; what becomes of such a field is for the gate to say. Names are compared as an application may
//! read them: without case, and with every separator read as `-` (`X_Real_IP`, `SSL_CLIENT_VERIFY`).
//!
//! Sources: the request headers of nginx and HAProxy documentation, the frameworks that read them (Rack, Rails, Django,
//! Symfony, ASP.NET, Spring, gunicorn), the npm package `request-ip`, RFC 7239, RFC 9440, CVE-2016-5385 (`Proxy`),
//! CVE-2018-14773 (`X-Original-URL`), CVE-2025-61780 (`X-Sendfile-Type`).

use crate::wire::known::{FOLD, Known, folds_to};

/// Fields whose value is one address: that of the client.
const ADDRESSES: &[&str] = &[
    "appengine-user-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-pseudo-ipv4",
    "client-ip",
    "do-connecting-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "proxy-client-ip",
    "remote-addr",
    "true-client-ip",
    "wl-proxy-client-ip",
    "x-appengine-remote-addr",
    "x-appengine-user-ip",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "x-nf-client-connection-ip",
    "x-original-remote-addr",
    "x-originating-ip",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-true-client-ip",
];

/// Other fields that say who called, or what was asked: host, path, method, scheme, user, certificate.
const OTHERS: &[&str] = &[
    "cf-access-authenticated-user-email",
    "cf-visitor",
    "client-cert",
    "client-cert-chain",
    "cloudfront-forwarded-proto",
    "forwarded-for",
    "front-end-https",
    "path-info",
    "proxy",
    "remote-email",
    "remote-groups",
    "remote-name",
    "remote-user",
    "script-name",
    "x-accel-mapping",
    "x-arr-clientcert",
    "x-arr-ssl",
    "x-client-cn",
    "x-client-dn",
    "x-client-verify",
    "x-envoy-original-path",
    "x-forwarded",
    "x-host",
    "x-host-override",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-for",
    "x-original-forwarded-for",
    "x-original-host",
    "x-original-method",
    "x-original-path",
    "x-original-proto",
    "x-original-scheme",
    "x-original-uri",
    "x-original-url",
    "x-real-port",
    "x-replaced-path",
    "x-rewrite-url",
    "x-scheme",
    "x-script-name",
    "x-sendfile-type",
    "x-url-scheme",
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
    "x-ms-client-principal",
    "x-remote-",
    "x-ssl-",
];

/// The longest name in the table of whole names, in bytes.
const LONGEST: usize = 34;

/// For each length of a whole name, the marks of the names that have it. A name without its mark there is not in the
/// table, which is nearly every name.
static WHOLE: [u64; LONGEST + 1] = whole_marks();

/// The marks of the beginnings.
static BEGINNINGS: u64 = beginning_marks();

/// One of 64 marks, from the letters in the middle and at the end.
const fn mark(name: &[u8]) -> u64 {
    let middle = FOLD[name[name.len() / 2] as usize] as u64;
    let last = FOLD[name[name.len() - 1] as usize] as u64;
    1 << (middle.wrapping_mul(5).wrapping_add(last) & 63)
}

/// One of 64 marks, from the third and the fourth letter.
const fn beginning_mark(third: u8, fourth: u8) -> u64 {
    let (third, fourth) = (FOLD[third as usize] as u64, FOLD[fourth as usize] as u64);
    1 << (third.wrapping_mul(5).wrapping_add(fourth) & 63)
}

const fn whole_marks() -> [u64; LONGEST + 1] {
    let mut marks = [0; LONGEST + 1];
    let mut at = 0;
    while at < ADDRESSES.len() + OTHERS.len() {
        let name = if at < ADDRESSES.len() { ADDRESSES[at] } else { OTHERS[at - ADDRESSES.len()] };
        let name = name.as_bytes();
        marks[name.len()] |= mark(name);
        at += 1;
    }
    marks
}

const fn beginning_marks() -> u64 {
    let mut marks = 0;
    let mut at = 0;
    while at < FAMILIES.len() {
        let name = FAMILIES[at].as_bytes();
        marks |= beginning_mark(name[2], name[3]);
        at += 1;
    }
    marks
}

/// The kind of a name in one of the tables, [`Known::Other`] for all others.
#[inline]
pub(super) fn kind(name: &[u8]) -> Known {
    let [_, _, third, fourth, ..] = name else { return Known::Other };
    let whole = WHOLE.get(name.len()).is_some_and(|marks| marks & mark(name) != 0);
    if whole || BEGINNINGS & beginning_mark(*third, *fourth) != 0 { looked_up(name) } else { Known::Other }
}

#[cold]
fn looked_up(name: &[u8]) -> Known {
    if ADDRESSES.iter().any(|known| folds_to(name, known.as_bytes())) {
        return Known::ClientIp;
    }
    let begins = |family: &&str| name.get(..family.len()).is_some_and(|start| folds_to(start, family.as_bytes()));
    let known = OTHERS.iter().any(|known| folds_to(name, known.as_bytes())) || FAMILIES.iter().any(begins);
    if known { Known::Believed } else { Known::Other }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table that this replaced: what `kind` must say, without its marks.
    #[test]
    fn every_name_of_the_table_is_found_in_every_spelling() {
        let names = ADDRESSES.iter().map(|name| (*name, Known::ClientIp));
        let names = names.chain(OTHERS.iter().map(|name| (*name, Known::Believed)));
        let members = FAMILIES.iter().map(|family| (format!("{family}verify"), Known::Believed));
        for (name, known) in names.map(|(name, known)| (name.to_owned(), known)).chain(members) {
            let camel = name.split('-').map(|word| format!("{}{}", word[..1].to_uppercase(), &word[1..]));
            let camel = camel.collect::<Vec<_>>().join("-");
            for spelling in [name.to_uppercase(), name.replace('-', "_"), name.replace('-', "."), camel, name] {
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
            "Proxy-",
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
            assert_eq!(Known::folded(name.as_bytes()), Known::Other, "{name}");
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
        fn marks_only_save_time(name in "(x[-_.])?(ssl|real|client|remote|original|auth)?[-_.a-z]{0,24}") {
            proptest::prop_assert_eq!(kind(name.as_bytes()), if name.len() < 4 { Known::Other } else { looked_up(name.as_bytes()) });
        }
    }
}
