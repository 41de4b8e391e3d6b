//! Which route a request belongs to: host first, then path, then method.

use crate::gate::admission::route_admission::RouteAdmission;
use crate::gate::allowlist::AllowList;
use crate::gate::believed::{self, KeptFields, Said};
use crate::gate::client::ClientAddress;
use crate::gate::durable::Durable;
use crate::gate::identity::CallerList;
use crate::gate::observe::Observe;
use crate::gate::replay::ReplayPolicy;
use crate::gate::tampering;
use crate::gate::verify::{ChallengeReply, Challenges, Delivery, Question, Verifier};
use crate::now::Now;
use crate::outcome::Rejection;
use crate::wire::encode;

pub use crate::gate::route_index::{Conflict, RouteIndex, RouteKey};

/// A rule: which requests it stands for, how they are verified, and where they go.
#[derive(Debug)]
pub struct Route {
    /// The name, unique in the table: the label of its metrics, the key of its state.
    pub name: String,
    /// Which requests it stands for.
    pub key: RouteKey,
    /// How its deliveries are verified.
    pub verifier: Verifier,
    /// The longest body, in bytes.
    pub body_limit: u64,
    /// Position of its application in [`crate::gate::Gate::upstreams`].
    pub upstream: usize,
    /// Which addresses may call.
    pub clients: AllowList,
    /// Which names, proven by a certificate, may call.
    pub callers: CallerList,
    /// Which fields reach its application although applications believe them.
    pub kept: KeptFields,
    /// Which checks only count.
    pub observe: Observe,
    /// Who may spend our work on it.
    pub admission: RouteAdmission,
    /// How deliveries that have been seen before are treated; nothing where none is remembered.
    pub replay: Option<ReplayPolicy>,
    /// Which handshakes are answered here.
    pub challenges: Option<Box<Challenges>>,
    /// How deliveries are stored that are acknowledged at once; nothing where the application answers the sender.
    pub durable: Option<Durable>,
}

/// What becomes of a delivery that was proven genuine and is no copy. What accepts it commits its claim.
#[derive(Debug)]
pub enum Disposition<'r> {
    /// It is a handshake, and is answered here. It accepts nothing: its claim is released, and it may come again.
    Answer(Box<ChallengeReply>),
    /// It is a handshake that is not answered.
    Refuse(Rejection),
    /// An application is sent it, and accepts it by its answer.
    Forward {
        /// Position of the application in [`crate::gate::Gate::upstreams`].
        upstream: usize,
    },
    /// It is stored, the sender is told so, and it is delivered later. The store accepts it by its commit.
    Enqueue {
        /// How it is stored.
        rule: &'r Durable,
    },
}

impl Route {
    /// What becomes of a delivery of it that has been verified. Only a handshake asks what time it is.
    #[must_use]
    pub fn disposition<D: Delivery>(&self, delivery: &D, now: impl FnOnce() -> Now) -> Disposition<'_> {
        let Some(challenges) = &self.challenges else { return self.of_deliveries() };
        let now = now();
        match challenges.judge(Question { delivery, is_verified: true, now }, &self.verifier) {
            Ok(None) => self.of_deliveries(),
            Ok(Some(reply)) => Disposition::Answer(Box::new(reply)),
            Err(rejection) => Disposition::Refuse(rejection),
        }
    }

    /// Whether it takes this method, rather than only answering handshakes with it.
    #[must_use]
    pub fn takes(&self, method: &[u8]) -> bool {
        self.key.methods.iter().any(|taken| taken.as_bytes() == method)
    }

    /// Whether the body of a refusal with this status is empty: some senders ask for that.
    #[must_use]
    pub fn refuses_bare(&self, status: u16) -> bool {
        status == 401 && self.challenges.as_ref().is_some_and(|it| it.handshake.bare_refusals)
    }

    /// What becomes of a delivery that is no handshake.
    const fn of_deliveries(&self) -> Disposition<'_> {
        match &self.durable {
            Some(rule) => Disposition::Enqueue { rule },
            None => Disposition::Forward { upstream: self.upstream },
        }
    }

    /// The name of its scheme; `none` when nothing is verified.
    #[must_use]
    pub fn scheme_name(&self) -> &str {
        self.verifier.scheme().map_or("none", |scheme| &scheme.name)
    }

    /// Whether the scheme reads the header called `name`.
    #[must_use]
    pub fn relies_on(&self, name: &str) -> bool {
        self.verifier.scheme().is_some_and(|scheme| scheme.headers_relied_on().any(|it| it.eq_ignore_ascii_case(name)))
    }

    /// Refuses a request that plays with the headers that the verdict rests on, or that we set (`gate/tampering.rs`). It
    /// may take more time than the head is worth: ask for it behind admission.
    ///
    /// # Errors
    /// [`Rejection::HeaderReserved`]
    pub fn refuse_tampering<D: Delivery>(&self, delivery: &D) -> Result<(), Rejection> {
        tampering::refuse(delivery.headers(), self.headers_relied_on(delivery))
    }

    /// Whether a field of a delivery does not reach the application ([`believed::ends_here`]).
    pub fn drops<D: Delivery>(&self, delivery: &D, client: ClientAddress, said: Said<'_>) -> bool {
        believed::ends_here(said, client, &self.kept, |name| self.covers(delivery, name))
    }

    /// Whether the verdict rests on the header called `name`: the scheme reads it, or the signature names it as covered.
    pub fn covers<D: Delivery>(&self, delivery: &D, name: &[u8]) -> bool {
        self.headers_relied_on(delivery).any(|relied_on| relied_on.eq_ignore_ascii_case(name))
    }

    fn headers_relied_on<'d, D: Delivery>(&'d self, delivery: &'d D) -> impl Iterator<Item = &'d [u8]> {
        let by_scheme = self.verifier.scheme().into_iter().flat_map(|scheme| scheme.headers_relied_on());
        by_scheme.map(str::as_bytes).chain(self.verifier.headers_named_by(delivery))
    }
}

fn verdict_lines(route: &Route) -> Box<[u8]> {
    let mut lines = Vec::new();
    encode::field(&mut lines, b"X-Countersign-Route", route.name.as_bytes());
    encode::field(&mut lines, b"X-Countersign-Scheme", route.scheme_name().as_bytes());
    lines.into()
}

/// All routes.
#[derive(Debug)]
pub struct RouteTable {
    routes: Vec<Route>,
    index: RouteIndex,
    /// The same for all deliveries of a route, by its position.
    verdicts: Vec<Box<[u8]>>,
}

impl RouteTable {
    /// Builds the table.
    ///
    /// # Errors
    /// Every pair of routes that stand for the same requests.
    pub fn new(mut routes: Vec<Route>) -> Result<Self, Vec<Conflict>> {
        let index = RouteIndex::new(routes.iter().map(|route| &route.key))?;
        for (position, route) in routes.iter_mut().enumerate() {
            route.admission.position = position;
        }
        let verdicts = routes.iter().map(verdict_lines).collect();
        Ok(Self { routes, index, verdicts })
    }

    /// The route of a request. `host` is the name that is asked, without port and trailing dot (its case does not matter),
    /// `path` the path as received, without the query. A route with a host goes before one without, an exact path before
    /// a parametrised one; the method is looked at last.
    ///
    /// Nothing is allocated for exact paths; a parametrised path may make the router remember where it can turn
    /// back when a literal segment and a parameter overlap.
    ///
    /// # Errors
    /// [`Rejection::RouteUnknown`]; [`Rejection::TargetInvalid`], if an application may take the path for that of another
    /// route; or [`Rejection::MethodNotAllowed`]: then [`Self::allow`] has the methods.
    pub fn resolve(&self, host: &[u8], path: &str, method: &[u8]) -> Result<&Route, Rejection> {
        let site = self.index.site(host, path)?;
        let mut routes = site.routes.iter().filter_map(|position| self.routes.get(*position));
        routes.find(|route| route.takes(method)).ok_or(Rejection::MethodNotAllowed)
    }

    /// The route of the same host and path that answers this request, although it does not take its method.
    pub fn challenged<D: Delivery>(&self, host: &[u8], path: &str, delivery: &D) -> Option<&Route> {
        let site = self.index.site(host, path).ok()?;
        let mut routes = site.routes.iter().filter_map(|position| self.routes.get(*position));
        routes.find(|route| route.challenges.as_ref().is_some_and(|it| it.may_be_asked(delivery)))
    }

    /// The value of `Allow` (RFC 9110, section 10.2.1) for a host and path, if there is a route.
    #[must_use]
    pub fn allow(&self, host: &[u8], path: &str) -> Option<&str> {
        self.index.site(host, path).ok().map(|site| site.allow.as_str())
    }

    /// What the application is told of every delivery of a route that passes: whole field lines.
    #[must_use]
    pub fn verdict(&self, route: &Route) -> &[u8] {
        self.verdicts.get(route.admission.position).map(AsRef::as_ref).unwrap_or_default()
    }

    /// All routes, in the order in which they were given.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::sync::Arc;

    use super::*;
    use crate::gate::pattern::PathPattern;
    use crate::gate::verify::{
        ByteSet, Key, Keyring, Kind, MacAlgorithm, Part, Scheme, Source, Syntax, Template, TimestampSource, Tolerance,
        Unit, Validity, Without,
    };
    use crate::wire::headers::{HeaderBuf, Headers};

    fn route(host: Option<&str>, path: &str, methods: &[&str]) -> Route {
        let key = RouteKey {
            host: host.map(str::to_owned),
            path: PathPattern::parse(path).unwrap(),
            methods: methods.iter().map(|method| (*method).to_owned()).collect(),
        };
        Route {
            name: format!("{}{path} {}", host.unwrap_or_default(), methods.join("+")),
            key,
            verifier: Verifier::none(),
            body_limit: 1,
            upstream: 0,
            clients: AllowList::default(),
            callers: CallerList::default(),
            kept: KeptFields::default(),
            observe: Observe::default(),
            admission: RouteAdmission::default(),
            replay: None,
            challenges: None,
            durable: None,
        }
    }

    fn table() -> RouteTable {
        RouteTable::new(vec![
            route(None, "/github", &["POST"]),
            route(None, "/github", &["GET", "HEAD"]),
            route(None, "/tenants/{tenant}/hook", &["POST"]),
            route(None, "/tenants/acme/hook", &["POST"]),
            route(None, "/files/{*rest}", &["PUT"]),
            route(Some("hooks.example.com"), "/github", &["POST"]),
            route(Some("[::1]"), "/", &["POST"]),
        ])
        .unwrap()
    }

    fn name(host: &str, path: &str, method: &str) -> Result<String, Rejection> {
        table().resolve(host.as_bytes(), path, method.as_bytes()).map(|route| route.name.clone())
    }

    #[test]
    fn host_before_no_host_and_exact_before_parametrised() {
        assert_eq!(name("x", "/github", "POST").unwrap(), "/github POST");
        assert_eq!(name("HOOKS.example.com", "/github", "POST").unwrap(), "hooks.example.com/github POST");
        assert_eq!(name("hooks.example.com", "/tenants/a/hook", "POST").unwrap(), "/tenants/{tenant}/hook POST");
        assert_eq!(name("x", "/tenants/acme/hook", "POST").unwrap(), "/tenants/acme/hook POST");
        assert_eq!(name("x", "/tenants/acmes/hook", "POST").unwrap(), "/tenants/{tenant}/hook POST");
        assert_eq!(name("x", "/files/a/b", "PUT").unwrap(), "/files/{*rest} PUT");
        assert_eq!(name("[::1]", "/", "POST").unwrap(), "[::1]/ POST");
    }

    #[test]
    fn unknown_paths_and_methods_are_told_apart() {
        for path in ["/", "/github/", "/Github", "/github2", "/tenants//hook", "/tenants/a", "/files/", "", "*"] {
            assert_eq!(name("x", path, "POST"), Err(Rejection::RouteUnknown), "{path}");
        }
        assert_eq!(name("", "/github", "post"), Err(Rejection::MethodNotAllowed));
        assert_eq!(name("x", "/github", "GET").unwrap(), "/github GET+HEAD");
        assert_eq!(table().allow(b"x", "/github"), Some("POST, GET, HEAD"));
        assert_eq!(table().allow(b"hooks.example.com", "/github"), Some("POST"));
        assert_eq!(table().allow(b"x", "/nothing"), None);
    }

    #[test]
    fn every_conflict_is_found() {
        let conflicts = RouteTable::new(vec![
            route(None, "/a", &["POST"]),
            route(None, "/a", &["GET", "POST"]),
            route(Some("h"), "/a", &["POST"]),
            route(None, "/b/{x}", &["POST"]),
            route(None, "/b/{y}", &["POST"]),
            route(None, "/b/{*z}", &["PUT"]),
            route(None, "/b/{y}", &["PUT"]),
        ])
        .unwrap_err();
        let pairs: Vec<_> = conflicts.iter().map(|conflict| (conflict.first, conflict.second)).collect();
        assert_eq!(pairs, [(0, 1), (3, 4), (3, 5)]);
    }

    proptest::proptest! {
        #[test]
        fn what_strangers_send_never_panics(host in ".*", path in ".*", method in ".*") {
            let _ = table().resolve(host.as_bytes(), &path, method.as_bytes());
            let _ = table().allow(host.as_bytes(), &path);
        }

        #[test]
        fn a_literal_path_is_found_whatever_the_case_of_the_host(upper in proptest::collection::vec(proptest::bool::ANY, 17)) {
            let host: String = "hooks.example.com".chars().zip(upper)
                .map(|(c, up)| if up { c.to_ascii_uppercase() } else { c }).collect();
            proptest::prop_assert_eq!(name(&host, "/github", "POST").unwrap(), "hooks.example.com/github POST");
        }
    }

    struct Request(HeaderBuf);

    impl Delivery for Request {
        fn method(&self) -> &[u8] {
            b"POST"
        }
        fn target(&self) -> &[u8] {
            b"/"
        }
        fn headers(&self) -> Headers<'_> {
            self.0.view()
        }
        fn body(&self) -> &[u8] {
            b""
        }
    }

    #[test]
    fn headers_that_the_signature_covers_can_be_neither_dropped_nor_doubled() {
        let content = Template::parse("{timestamp}.{field:h}.{named_headers:h}.{header:X-Fixed}.{body}").unwrap();
        let mut scheme = Scheme::new("s", Kind::Hmac(MacAlgorithm::HmacSha256), "X-Sig", content);
        scheme.syntax = Syntax::pairs(b',', "v1");
        scheme.timestamp = Some(TimestampSource {
            source: Source::Field("t".to_owned()),
            unit: Unit::Seconds,
            tolerance: Tolerance::new(core::time::Duration::from_secs(300)),
        });
        let bytes = ByteSet::of(b".");
        scheme.guards.without = vec![Without { part: Part::Header("X-Fixed".to_owned()), bytes }];
        let key = Key::from_secret("k", &scheme, b"correct-horse-battery-staple", Validity::default()).unwrap();
        let verifier = Verifier::new(Arc::new(scheme), Keyring::new(vec![key]), None, None).unwrap();
        let route = Route { verifier, ..route(None, "/", &["POST"]) };
        let judge = |more: &[(&str, &str)]| {
            let mut headers = HeaderBuf::default();
            headers.push("X-Sig", b"t=1,h=x-event x-user,v1=00");
            for (name, value) in more {
                headers.push(name, value.as_bytes());
            }
            route.refuse_tampering(&Request(headers))
        };
        assert_eq!(judge(&[("X-Event", "a"), ("X-User", "b"), ("Connection", "X-Other"), ("X_Other", "c")]), Ok(()));
        for (name, value) in [
            ("Connection", "x-user"),
            ("Connection", "close, X-Fixed"),
            ("Connection", "x-sig"),
            ("X_User", "b"),
            ("x.fixed", "b"),
            ("X_Sig", "b"),
        ] {
            assert_eq!(judge(&[(name, value)]), Err(Rejection::HeaderReserved), "{name}: {value}");
        }
    }
}
