//! Which fields of a request reach the application although, or because, applications believe them.
//!
//! A sender can write anything into a field, and a proxy passes on what it does not know. So words about who called and
//! what was asked end here, with these exceptions:
//!
//! | field | passes |
//! |---|---|
//! | covered by the signature | as it came |
//! | named in `keep_headers` of the route | as it came |
//! | `X-Forwarded-Proto`, `X-Forwarded-Host` | from a trusted proxy; otherwise replaced by what is true |
//! | `X-Real-IP` and other names for one address | if it is the address of the client, from any sender |
//! | `X-Forwarded-For` | is continued by the edge, or replaced |
//! | all others: URL, method, scheme, user, certificate, `Forwarded`, `X-Forwarded-*` | never |
//!
//! A trusted proxy is not enough for the last row: most proxies set few of these fields, and pass on the others as a
//! stranger wrote them.

use crate::gate::client::{self, ClientAddress};
use crate::wire::characters::is_token_byte;
use crate::wire::headers::Known;

/// The most names that a route may keep.
pub const KEPT_LIMIT: usize = 32;

/// Names of believed fields that pass all the same, in any case but in this spelling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptFields(Vec<String>);

/// Why a name cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotKept {
    /// It is no name of a field.
    NotAName,
    /// We set it ourselves, or judge it.
    Ours,
    /// It belongs to the connection.
    OfTheConnection,
    /// Requests with this spelling are refused.
    Spelling,
    /// It passes anyway.
    Passes,
}

impl KeptFields {
    /// Keeps one more.
    ///
    /// # Errors
    /// [`NotKept`]
    pub fn keep(&mut self, name: &str) -> Result<(), NotKept> {
        if name.is_empty() || !name.bytes().all(is_token_byte) {
            return Err(NotKept::NotAName);
        }
        match Known::folded(name.as_bytes()) {
            Known::ClientIp | Known::Believed => {}
            _ if Known::of_request(name.as_bytes()).is_err() => return Err(NotKept::Spelling),
            Known::Forwarded | Known::XForwardedOther => {}
            Known::Other | Known::UserAgent | Known::Traceparent | Known::Date | Known::Server | Known::ContentType => {
                return Err(NotKept::Passes);
            }
            Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::ProxyAuthenticate
            | Known::ProxyAuthorization
            | Known::Te
            | Known::Trailer
            | Known::TransferEncoding
            | Known::Upgrade
            | Known::Expect => return Err(NotKept::OfTheConnection),
            Known::Host
            | Known::ContentLength
            | Known::Via
            | Known::XForwardedFor
            | Known::XForwardedProto
            | Known::XForwardedHost
            | Known::XRequestId
            | Known::XCountersign => return Err(NotKept::Ours),
        }
        self.0.push(name.to_owned());
        Ok(())
    }

    /// The names, as they were written.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }

    fn contain(&self, name: &[u8]) -> bool {
        self.0.iter().any(|kept| name.eq_ignore_ascii_case(kept.as_bytes()))
    }
}

/// One field of a request.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    /// Which of the names that we have rules about it has.
    pub kind: Known,
    /// The name as it was written.
    pub name: &'a [u8],
    /// The value.
    pub value: &'a [u8],
}

/// Whether a field ends here. The client is that of the request; `is_covered` tells whether the verdict rests on a name.
pub fn ends_here(said: Said<'_>, client: ClientAddress, kept: &KeptFields, is_covered: impl Fn(&[u8]) -> bool) -> bool {
    let Said { kind, name, value } = said;
    match kind {
        Known::Host | Known::Via | Known::XForwardedFor => true,
        Known::XRequestId => !is_covered(name),
        Known::XForwardedProto | Known::XForwardedHost => !client.account.is_believed() && !is_covered(name),
        Known::ClientIp => !(is_true(client, value) || kept.contain(name) || is_covered(name)),
        Known::Believed | Known::Forwarded | Known::XForwardedOther => !(kept.contain(name) || is_covered(name)),
        _ => false,
    }
}

/// Whether a value is the address of the client, as far as that is certain.
fn is_true(client: ClientAddress, value: &[u8]) -> bool {
    client.proven().is_some_and(|address| client::node(value) == Some(address))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::gate::client::Account;

    const ACCOUNTS: [Account; 4] =
        [Account::Stranger, Account::ForwardedFor, Account::Forwarded, Account::Contradiction];

    fn drops(kept: &KeptFields, account: Account, (name, value): (&str, &str)) -> bool {
        let client = ClientAddress { address: "203.0.113.7".parse().ok(), account };
        let said = Said { kind: Known::folded(name.as_bytes()), name: name.as_bytes(), value: value.as_bytes() };
        ends_here(said, client, kept, |_| false)
    }

    fn keeping(names: &[&str]) -> KeptFields {
        let mut kept = KeptFields::default();
        names.iter().for_each(|name| kept.keep(name).unwrap());
        kept
    }

    #[test]
    fn the_table_holds_for_strangers_and_for_proxies() {
        let kept = keeping(&[]);
        #[rustfmt::skip]
        let never = [
            "X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override", "X_HTTP_Method", "X-SSL-Client-Verify", "SSL_CLIENT_S_DN",
            "Forwarded", "X-Forwarded-Port", "X-Forwarded-User", "X-Forwarded-Client-Cert", "Remote-User", "Proxy", "Front-End-Https",
            "X-Forwarded-For", "Via", "Host", "X-Request-Id",
        ];
        for account in ACCOUNTS {
            for name in never {
                assert!(drops(&kept, account, (name, "203.0.113.7")), "{name} from {account:?}");
            }
            for name in ["X-Forwarded-Proto", "X-Forwarded-Host"] {
                assert_eq!(drops(&kept, account, (name, "x")), !account.is_believed(), "{name} from {account:?}");
            }
            for name in ["Content-Type", "X-GitHub-Event", "Date", "Server", "User-Agent"] {
                assert!(!drops(&kept, account, (name, "x")), "{name} from {account:?}");
            }
        }
    }

    #[test]
    fn an_address_passes_where_it_is_true() {
        let kept = keeping(&[]);
        for account in ACCOUNTS {
            for name in ["X-Real-IP", "x_real_ip", "CF-Connecting-IP", "True-Client-IP", "Client-Ip"] {
                for value in ["6.6.6.6", "", "203.0.113.7, 6.6.6.6", "203.0.113.70", "203.0.113.7 "] {
                    assert!(drops(&kept, account, (name, value)), "{name}: {value} from {account:?}");
                }
                let certain = account != Account::Contradiction;
                assert_eq!(!drops(&kept, account, (name, "203.0.113.7")), certain, "{name} from {account:?}");
                assert_eq!(!drops(&kept, account, (name, "::ffff:203.0.113.7")), certain, "{name} from {account:?}");
            }
        }
        let unknown = ClientAddress { address: None, account: Account::Stranger };
        let said = Said { kind: Known::ClientIp, name: b"X-Real-IP", value: b"203.0.113.7" };
        assert!(ends_here(said, unknown, &kept, |_| false));
        assert!(!ends_here(said, unknown, &kept, |name| name.eq_ignore_ascii_case(b"x-real-ip")), "it is signed");
    }

    #[test]
    fn what_is_kept_passes_in_its_own_spelling() {
        let kept = keeping(&["X-Real-IP", "x-ssl-client-verify", "Forwarded", "X-Forwarded-Port"]);
        for account in ACCOUNTS {
            for name in ["x-real-ip", "X-SSL-Client-Verify", "forwarded", "X-Forwarded-Port"] {
                assert!(!drops(&kept, account, (name, "anything")), "{name}");
            }
            for name in ["X_Real_IP", "X-SSL-Client-DN", "X-Forwarded-Server", "X-Original-URL"] {
                assert!(drops(&kept, account, (name, "anything")), "{name}");
            }
        }
    }

    #[test]
    fn not_everything_can_be_kept() {
        let mut kept = KeptFields::default();
        for (name, why) in [
            ("X-Forwarded-For", NotKept::Ours),
            ("x-forwarded-proto", NotKept::Ours),
            ("X-Forwarded-Host", NotKept::Ours),
            ("Via", NotKept::Ours),
            ("Host", NotKept::Ours),
            ("X-Request-Id", NotKept::Ours),
            ("X-Countersign-Route", NotKept::Ours),
            ("x_countersign_route", NotKept::Ours),
            ("Content-Length", NotKept::Ours),
            ("Connection", NotKept::OfTheConnection),
            ("Upgrade", NotKept::OfTheConnection),
            ("X_Forwarded_Port", NotKept::Spelling),
            ("X-GitHub-Event", NotKept::Passes),
            ("", NotKept::NotAName),
            ("X Real IP", NotKept::NotAName),
        ] {
            assert_eq!(kept.keep(name), Err(why), "{name}");
        }
        assert!(kept.names().is_empty());
        assert_eq!(kept.keep("SSL_CLIENT_VERIFY"), Ok(()));
    }
}
