//! What tells deliveries apart, while keys begin and end to count, come, go and change places: against a model that
//! knows the deliveries themselves.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use core::time::Duration;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::shard::MARGIN;
use super::*;
use crate::gate::admission::RouteAdmission;
use crate::gate::allowlist::AllowList;
use crate::gate::identity::CallerList;
use crate::gate::observe::Observe;
use crate::gate::pattern::PathPattern;
use crate::gate::route::{Route, RouteKey};
use crate::gate::verify::{
    Delivery, Encoding, Key, Keyring, Kind, MacAlgorithm, Scheme, Syntax, Template, Validity, Verified, Verifier,
};
use crate::now::Now;
use crate::wire::headers::{HeaderBuf, Headers};

const LIFETIME: Duration = Duration::from_secs(10);
const SECRETS: [&str; 4] =
    ["one-secret-0123456789", "two-secret-0123456789", "three-secret-012345", "four-secret-0123456"];

struct Request {
    headers: HeaderBuf,
    body: Vec<u8>,
}

impl Delivery for Request {
    fn method(&self) -> &[u8] {
        b"POST"
    }
    fn target(&self) -> &[u8] {
        b"/"
    }
    fn headers(&self) -> Headers<'_> {
        self.headers.view()
    }
    fn body(&self) -> &[u8] {
        &self.body
    }
}

/// A list of signatures, so that a delivery can have those of several keys.
fn scheme() -> Scheme {
    Scheme {
        syntax: Syntax::List { separator: b' ', prefix: String::new() },
        encoding: Encoding::Hex,
        ..Scheme::new("list", Kind::Hmac(MacAlgorithm::HmacSha256), "signature", Template::parse("{body}").unwrap())
    }
}

fn request(body: u8, signers: [bool; 4]) -> Request {
    let tag =
        |secret: &str| ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes()), &[body]);
    let signed = SECRETS.iter().zip(signers).filter(|(_, signs)| *signs);
    let tags: Vec<String> =
        signed.map(|(secret, _)| tag(secret).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    let mut headers = HeaderBuf::default();
    headers.push("signature", tags.join(" ").as_bytes());
    Request { headers, body: vec![body] }
}

/// A key of the ring: which secret, and from when to when it counts.
type Entry = (usize, Option<i64>, Option<i64>);

fn route(ring: &[Entry]) -> Route {
    let scheme = scheme();
    let key = |(secret, not_before, not_after): &Entry| {
        let validity = Validity { not_before: *not_before, not_after: *not_after };
        Key::from_secret(SECRETS[*secret], &scheme, SECRETS[*secret].as_bytes(), validity).unwrap()
    };
    let keyring = Keyring::new(ring.iter().map(key).collect());
    Route {
        name: "r".to_owned(),
        key: RouteKey { host: None, path: PathPattern::parse("/").unwrap(), methods: Vec::new() },
        verifier: Verifier::new(Arc::new(scheme), keyring, None, None).unwrap(),
        body_limit: 1,
        upstream: 0,
        replay: Some(ReplayPolicy {
            lifetime: LIFETIME,
            capacity: 1000,
            ..ReplayPolicy::with_tolerance(Duration::ZERO)
        }),
        clients: AllowList::default(),
        callers: CallerList::default(),
        observe: Observe::default(),
        admission: RouteAdmission::default(),
    }
}

fn verify(route: &Route, request: Request, now: Now) -> Option<Verified<Request>> {
    let mut check = route.verifier.begin(&request, now).ok()?;
    check.update(&request.body.clone());
    route.verifier.finish(check, request, now).ok()
}

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Reload(Vec<Entry>),
    /// A delivery of this body with these signatures; what becomes of it at once, if anything does.
    Deliver(u8, [bool; 4], Option<bool>),
    /// One that is in flight, and whether the application accepts it.
    End(usize, bool),
}

fn entry() -> impl Strategy<Value = Entry> {
    (0..4_usize, proptest::option::of(0..60_i64), proptest::option::of(0..60_i64))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..6000_u64).prop_map(Step::Pass),
        2 => vec(entry(), 1..4).prop_map(Step::Reload),
        6 => (0..4_u8, any::<[bool; 4]>(), any::<Option<bool>>()).prop_map(|(b, s, e)| Step::Deliver(b, s, e)),
        2 => (0..4_usize, any::<bool>()).prop_map(|(at, accepted)| Step::End(at, accepted)),
    ]
}

proptest! {
    #[test]
    fn what_was_accepted_is_not_forwarded_again_whichever_keys_count(steps in vec(step(), 1..120)) {
        let tables = ReplayTables::new(ReplaySeed::new(&[7; ReplaySeed::LENGTH]));
        let mut route = route(&[(0, None, None), (1, None, None)]);
        let table = tables.of(std::slice::from_ref(&route), Duration::ZERO)[0].clone().unwrap();
        let mut monotonic = Duration::ZERO;
        let mut in_flight: Vec<(u8, Claim<'_>)> = Vec::new();
        let mut accepted = [None; 4];
        for step in steps {
            let now = Now { monotonic, unix: monotonic };
            table.forget_identities(monotonic);
            match step {
                Step::Pass(millis) => monotonic += Duration::from_millis(millis),
                Step::Reload(ring) => {
                    route = self::route(&ring);
                    let found = tables.of(std::slice::from_ref(&route), monotonic)[0].clone().unwrap();
                    prop_assert!(Arc::ptr_eq(&table, &found));
                }
                Step::Deliver(body, signers, end) => {
                    let Some(verified) = verify(&route, request(body, signers), now) else { continue };
                    let rule = route.replay.unwrap();
                    let keys = |identities: &_| route.verifier.replay_keys(&verified, identities);
                    let claimed = table.claim_delivery(keys, &rule, now).unwrap();
                    let with_the_application = in_flight.iter().any(|(of, _)| *of == body);
                    let remembered =
                        accepted[usize::from(body)].is_some_and(|at: Duration| monotonic < at + LIFETIME + MARGIN);
                    match claimed {
                        Claimed::InFlight => prop_assert!(with_the_application),
                        Claimed::Duplicate => prop_assert!(remembered && !with_the_application),
                        Claimed::Full => prop_assert!(false, "there is room"),
                        Claimed::New { claim, .. } => {
                            prop_assert!(!with_the_application && !remembered);
                            match end {
                                None => in_flight.push((body, claim)),
                                Some(false) => drop(claim),
                                Some(true) => {
                                    claim.commit(now);
                                    accepted[usize::from(body)] = Some(monotonic);
                                }
                            }
                        }
                    }
                }
                Step::End(at, accepts) if at < in_flight.len() => {
                    let (body, claim) = in_flight.remove(at);
                    if accepts {
                        claim.commit(now);
                        accepted[usize::from(body)] = Some(monotonic);
                    }
                }
                Step::End(..) => {}
            }
            table.assert_consistent();
        }
    }
}

#[test]
fn a_key_that_is_gone_is_let_go_when_nothing_is_remembered_by_it() {
    let tables = ReplayTables::new(ReplaySeed::new(&[7; ReplaySeed::LENGTH]));
    let table = tables.of(&[route(&[(0, None, None)])], Duration::ZERO)[0].clone().unwrap();
    let _ = tables.of(&[route(&[(1, None, None), (0, None, None)])], Duration::from_secs(1));
    assert!(!table.has_former_identities(), "it is in the ring still");
    let gone = Duration::from_secs(2);
    let _ = tables.of(&[route(&[(1, None, None)])], gone);
    assert!(table.has_former_identities());
    table.forget_identities(gone + LIFETIME + MARGIN);
    assert!(table.has_former_identities());
    table.forget_identities(gone + LIFETIME + MARGIN + Duration::from_millis(1));
    assert!(!table.has_former_identities());
}
