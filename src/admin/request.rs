//! A request to the admin port: parsed by the room that parses deliveries, and judged by stricter rules.

use core::net::{IpAddr, SocketAddr};

use crate::outcome::Rejection;
use crate::wire::framing::{self, BodyFraming};
use crate::wire::head::{HeadLimits, HeadScan, RequestHead};

use super::answer::{Answer, Verdict};
use super::inbox::is_of_inbox;

/// The largest head: browsers send about one kibibyte.
pub const LIMITS: HeadLimits = HeadLimits { size: 8 << 10, fields: 64, target: 1 << 10 };

/// Who may ask for what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Names by which the port is called beside its addresses and `localhost`, in lower case.
    pub hosts: Vec<String>,
    /// Whether reload, drain and pairing may be asked for from other hosts, too.
    pub remote_control: bool,
}

/// From where a connection comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Over a Unix socket, whose permissions say who may connect.
    Unix,
    /// From this address.
    Tcp(IpAddr),
}

/// Who asks, as far as the socket says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminCaller {
    /// Over TCP, from this address to this one of ours.
    Tcp {
        /// The other end.
        peer: SocketAddr,
        /// Our end; nothing where it is not known.
        own: Option<SocketAddr>,
    },
    /// Over a Unix socket, as this user and from this process. Nothing where the system does not say.
    Unix(Option<(u32, i32)>),
}

impl AdminCaller {
    /// From where that is.
    #[must_use]
    pub const fn origin(self) -> Origin {
        match self {
            Self::Tcp { peer, .. } => Origin::Tcp(peer.ip()),
            Self::Unix(_) => Origin::Unix,
        }
    }
}

impl Origin {
    fn is_local(self) -> bool {
        match self {
            Self::Unix => true,
            Self::Tcp(address) => address.to_canonical().is_loopback(),
        }
    }
}

/// What load balancers and orchestrators ask for.
const PROBES: [&str; 3] = ["/live", "/ready", "/startup"];

/// Where refused requests are that are kept.
pub const CAPTURED: &str = "/captured";

/// Whether a path is that, or one of them.
#[must_use]
pub fn is_of_captured(path: &str) -> bool {
    path.strip_prefix(CAPTURED).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The path, without the query.
    pub path: String,
    /// The query, without the question mark.
    pub query: String,
    /// Whether something is to be changed (`POST`) and not read (`GET`, `HEAD`).
    pub changes: bool,
    /// Whether the answer has a body.
    pub with_body: bool,
}

/// Looks at what has arrived. `None` while the head is not whole.
///
/// # Errors
/// The answer to a request that is refused.
pub fn read(received: &[u8], scan: &mut HeadScan, origin: Origin, access: &Access) -> Result<Option<Request>, Answer> {
    let Some(length) = scan.scan(received, LIMITS).map_err(malformed)? else { return Ok(None) };
    let bytes = received.get(..length).unwrap_or_default();
    let mut head = RequestHead::new();
    head.parse(bytes, LIMITS).map_err(malformed)?;
    if !matches!(framing::of_request(&head, bytes), Ok(BodyFraming::None | BodyFraming::Length(0))) {
        return Err(Answer::text(Verdict::Malformed, "a request to this port has no body"));
    }
    let method = head.method.of(bytes);
    let changes = method == b"POST";
    if !changes && method != b"GET" && method != b"HEAD" {
        let refused = Answer::text(Verdict::MethodRefused, "GET and HEAD to read, POST to change");
        return Err(Answer { allow: "GET, HEAD, POST", ..refused });
    }
    let host = head.host(bytes).name;
    // Load balancers probe with HTTP/1.0 and without Host (later versions must have one, or are malformed). No browser does.
    let probes = PROBES.contains(&head.path(bytes)) && !changes && head.headers(bytes).all("Host").next().is_none();
    if origin != Origin::Unix && !probes && !is_ours(host, access) {
        return Err(Answer::text(Verdict::Misdirected, "Host is not a name of this port: add it to [admin] hosts"));
    }
    if is_of_captured(head.path(bytes)) || is_of_inbox(head.path(bytes)) {
        // Bodies and signatures of senders: not for other hosts, whatever they may ask for.
        may_change(&head, bytes, origin, &Access::default())?;
    }
    if changes {
        may_change(&head, bytes, origin, access)?;
    }
    let query = String::from_utf8_lossy(head.query(bytes)).into_owned();
    Ok(Some(Request { path: head.path(bytes).to_owned(), query, changes, with_body: method != b"HEAD" }))
}

fn malformed(rejection: Rejection) -> Answer {
    let too_large = matches!(rejection, Rejection::HeadTooLarge | Rejection::TargetTooLong);
    let verdict = if too_large { Verdict::TooLarge } else { Verdict::Malformed };
    Answer::text(verdict, rejection.code())
}

/// A page from elsewhere can make a browser talk to us under a name of its own (DNS rebinding), but not under an
/// address, which an attacker cannot choose.
fn is_ours(host: &[u8], access: &Access) -> bool {
    let Ok(host) = core::str::from_utf8(host) else { return false };
    let name = match host.strip_prefix('[') {
        Some(literal) => literal.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let known = |known: &String| name.eq_ignore_ascii_case(known);
    name.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost") || access.hosts.iter().any(known)
}

/// Something is changed only from this host, and not for a page from elsewhere in a user's browser.
fn may_change(head: &RequestHead, bytes: &[u8], origin: Origin, access: &Access) -> Result<(), Answer> {
    if !origin.is_local() && !access.remote_control {
        let line = "only from this host, or over a Unix socket, unless [admin] remote_control is true";
        return Err(Answer::text(Verdict::Forbidden, line));
    }
    let headers = head.headers(bytes);
    let own = [b"http://", head.host(bytes).name, head.host(bytes).port].concat();
    let foreign = headers.all("Origin").any(|from| !from.eq_ignore_ascii_case(&own));
    let site = |site: &[u8]| !matches!(site, b"same-origin" | b"none");
    if foreign || headers.all("Sec-Fetch-Site").any(site) {
        return Err(Answer::text(Verdict::Forbidden, "not for a page from elsewhere"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: Origin = Origin::Tcp(IpAddr::V4(core::net::Ipv4Addr::LOCALHOST));

    fn judge(lines: &str, origin: Origin, access: &Access) -> u16 {
        let bytes = format!("{}\r\n\r\n", lines.replace('\n', "\r\n"));
        match read(bytes.as_bytes(), &mut HeadScan::new(), origin, access) {
            Ok(Some(_)) => 200,
            Ok(None) => 0,
            Err(answer) => answer.verdict.status(),
        }
    }

    #[test]
    fn names_that_others_can_own_are_not_ours() {
        let access = Access { hosts: vec!["countersign.internal".to_owned()], remote_control: false };
        let ask = |host: &str| judge(&format!("GET /status HTTP/1.1\nHost: {host}"), LOCAL, &access);
        for host in ["127.0.0.1:9090", "10.1.2.3", "[::1]:9090", "localhost", "LOCALHOST:1", "countersign.internal:80"]
        {
            assert_eq!(ask(host), 200, "{host}");
        }
        for host in ["rebind.example", "127.0.0.1.example", "localhost.example:9090", "internal"] {
            assert_eq!(ask(host), 421, "{host}");
        }
        assert_eq!(judge("GET /status HTTP/1.1\nHost: any.example", Origin::Unix, &access), 200);
        assert_eq!(judge("GET /status HTTP/1.1", LOCAL, &access), 400);
    }

    #[test]
    fn probes_need_no_name_in_http_1_0_and_nothing_else_goes_without() {
        let ask = |lines: &str| judge(lines, LOCAL, &Access::default());
        for path in ["/live", "/ready", "/startup"] {
            for method in ["GET", "HEAD", "OPTIONS"] {
                let expected = if method == "OPTIONS" { 405 } else { 200 };
                assert_eq!(ask(&format!("{method} {path} HTTP/1.0")), expected, "{method} {path}");
            }
            assert_eq!(ask(&format!("GET {path} HTTP/1.1")), 400, "{path}");
            assert_eq!(ask(&format!("GET {path} HTTP/1.0\nHost: rebind.example")), 421, "{path}");
            assert_eq!(ask(&format!("GET {path} HTTP/1.1\nHost: rebind.example")), 421, "{path}");
            assert_ne!(ask(&format!("GET {path} HTTP/1.1\nHost:")), 200, "{path}");
            assert_eq!(ask(&format!("POST {path} HTTP/1.0")), 421, "{path}");
        }
        for path in ["/", "/status", "/metrics", "/captured", "/ready/x", "/-/reload"] {
            assert_eq!(ask(&format!("GET {path} HTTP/1.0")), 421, "{path}");
        }
    }

    #[test]
    fn changes_come_from_here_and_from_nobodys_page() {
        let (none, remote) = (Access::default(), Access { remote_control: true, ..Access::default() });
        let post = |fields: &str| format!("POST /-/reload HTTP/1.1\nHost: 127.0.0.1:9090{fields}");
        let far = Origin::Tcp(IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 1)));
        assert_eq!(judge(&post(""), LOCAL, &none), 200);
        assert_eq!(judge(&post(""), Origin::Unix, &none), 200);
        assert_eq!(judge(&post(""), far, &none), 403);
        assert_eq!(judge(&post(""), far, &remote), 200);
        assert_eq!(judge(&post("\nOrigin: http://127.0.0.1:9090"), LOCAL, &none), 200);
        for fields in ["\nOrigin: http://evil.example", "\nOrigin: null", "\nSec-Fetch-Site: cross-site"] {
            assert_eq!(judge(&post(fields), LOCAL, &remote), 403, "{fields}");
        }
        assert_eq!(judge(&post("\nContent-Length: 0"), LOCAL, &none), 200);
        assert_eq!(judge(&post("\nContent-Length: 1"), LOCAL, &none), 400);
        assert_eq!(judge(&post("\nTransfer-Encoding: chunked"), LOCAL, &none), 400);
        let captured = |fields: &str| format!("GET /captured/0 HTTP/1.1\nHost: 127.0.0.1{fields}");
        assert_eq!(judge(&captured(""), LOCAL, &none), 200);
        assert_eq!(judge(&captured(""), Origin::Unix, &none), 200);
        assert_eq!(judge(&captured(""), far, &remote), 403);
        assert_eq!(judge(&captured("\nSec-Fetch-Site: cross-site"), LOCAL, &none), 403);
        // As the status page asks for it, and as others would.
        let redrive = |fields: &str| format!("POST /-/inbox/redrive?id=1 HTTP/1.1\nHost: 127.0.0.1:9090{fields}");
        let own = "\nOrigin: http://127.0.0.1:9090\nSec-Fetch-Site: same-origin\nContent-Length: 0";
        assert_eq!((judge(&redrive(own), LOCAL, &none), judge(&redrive(own), far, &remote)), (200, 403));
        for fields in ["\nOrigin: http://evil.example", "\nOrigin: null", "\nSec-Fetch-Site: cross-site"] {
            assert_eq!(judge(&redrive(fields), LOCAL, &remote), 403, "{fields}");
        }
        for path in ["/inbox", "/inbox/0000000000001/message?x=1"] {
            let ask = |origin| judge(&format!("GET {path} HTTP/1.1\nHost: 127.0.0.1"), origin, &remote);
            assert_eq!((ask(LOCAL), ask(far)), (200, 403), "{path}");
        }
        assert_eq!(judge("DELETE / HTTP/1.1\nHost: localhost", LOCAL, &none), 405);
    }
}
