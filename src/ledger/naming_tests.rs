//! What tells deliveries apart, while keys begin and end to count, come, go and change places: against a model that
//! knows the deliveries themselves.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use core::time::Duration;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::stripe::MARGIN;
use super::*;
use crate::gate::allowlist::AllowList;
use crate::gate::believed::KeptFields;
use crate::gate::durable::{Durable, OrderBy};
use crate::gate::identity::CallerList;
use crate::gate::observe::Observe;
use crate::gate::pattern::PathPattern;
use crate::gate::replay::ReplayPolicy;
use crate::gate::route::{Route, RouteKey};
use crate::gate::route_admission::RouteAdmission;
use crate::gate::verify::{
    Delivery, Encoding, Key, Keyring, Kind, MacAlgorithm, Scheme, SignInput, Syntax, Template, Validity, Verified,
    Verifier, sign,
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
    let body = vec![body];
    let input =
        SignInput { method: "POST", url: "https://h/", headers: &[], body: &body, now: at(Duration::ZERO), id: None };
    let tag = |secret: &str| sign(&scheme(), secret.as_bytes(), &input).unwrap().remove(0).1;
    let tags: Vec<String> =
        SECRETS.iter().zip(signers).filter(|(_, signs)| *signs).map(|(secret, _)| tag(secret)).collect();
    let mut headers = HeaderBuf::default();
    headers.push("signature", tags.join(" ").as_bytes());
    Request { headers, body }
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
        challenges: None,
        replay: Some(ReplayPolicy {
            lifetime: LIFETIME,
            capacity: 1000,
            ..ReplayPolicy::with_tolerance(Duration::ZERO)
        }),
        clients: AllowList::default(),
        callers: CallerList::default(),
        kept: KeptFields::default(),
        observe: Observe::default(),
        admission: RouteAdmission::default(),
        durable: None,
    }
}

fn at(moment: Duration) -> Now {
    Now { monotonic: moment, unix: moment }
}

fn verify(route: &Route, request: Request, now: Now) -> Option<Verified<'_, Request>> {
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
        let tables = new_tables();
        let mut route = route(&[(0, None, None), (1, None, None)]);
        let table = tables.of(std::slice::from_ref(&route), at(Duration::ZERO))[0].clone().unwrap();
        let mut monotonic = Duration::ZERO;
        let mut in_flight: Vec<(u8, Claim<'_>)> = Vec::new();
        let mut accepted = [None; 4];
        for step in steps {
            let now = at(monotonic);
            table.forget_keys(monotonic);
            match step {
                Step::Pass(millis) => monotonic += Duration::from_millis(millis),
                Step::Reload(ring) => {
                    route = self::route(&ring);
                    let found = tables.of(std::slice::from_ref(&route), now)[0].clone().unwrap();
                    prop_assert!(Arc::ptr_eq(&table, &found));
                }
                Step::Deliver(body, signers, end) => {
                    let Some(verified) = verify(&route, request(body, signers), now) else { continue };
                    let rule = route.replay.unwrap();
                    let names = table.names(&route.verifier, &verified).unwrap();
                    let claimed = at_once(table.claim(&names, &rule, now)).unwrap();
                    let with_the_application = in_flight.iter().any(|(of, _)| *of == body);
                    let remembered =
                        accepted[usize::from(body)].is_some_and(|at: Duration| monotonic < at + LIFETIME + MARGIN);
                    match claimed {
                        Claimed::InFlight => prop_assert!(with_the_application),
                        Claimed::Duplicate => prop_assert!(remembered && !with_the_application),
                        Claimed::Full { .. } => prop_assert!(false, "there is room"),
                        Claimed::New { claim, .. } => {
                            prop_assert!(!with_the_application && !remembered);
                            match end {
                                None => in_flight.push((body, claim)),
                                Some(false) => drop(claim),
                                Some(true) => {
                                    at_once(claim.commit(now)).unwrap();
                                    accepted[usize::from(body)] = Some(monotonic);
                                }
                            }
                        }
                    }
                }
                Step::End(at, accepts) if at < in_flight.len() => {
                    let (body, claim) = in_flight.remove(at);
                    if accepts {
                        at_once(claim.commit(now)).unwrap();
                        accepted[usize::from(body)] = Some(monotonic);
                    }
                }
                Step::End(..) => {}
            }
            table.local().assert_consistent();
        }
    }
}

fn new_tables() -> Ledgers {
    Ledgers::new(Seed::new(&[7; Seed::LENGTH]))
}

fn deliver<'t>(table: &'t Ledger, route: &Route, (body, signer): (u8, usize), now: Now) -> Claimed<'t> {
    let verified = verify(route, request(body, std::array::from_fn(|at| at == signer)), now).unwrap();
    let names = table.names(&route.verifier, &verified).unwrap();
    at_once(table.claim(&names, &route.replay.unwrap(), now)).unwrap()
}

#[test]
fn a_key_that_is_gone_is_let_go_when_nothing_is_remembered_by_it() {
    let tables = new_tables();
    let first = route(&[(0, None, None)]);
    let table = tables.of(std::slice::from_ref(&first), at(Duration::ZERO))[0].clone().unwrap();
    let second = Duration::from_secs(1);
    let _ = tables.of(&[route(&[(1, None, None), (0, None, None)])], at(second));
    assert!(!table.naming().has_former(), "it is in the ring still");
    let Claimed::New { claim, .. } = deliver(&table, &first, (1, 0), at(second)) else { panic!("a new delivery") };
    let next = route(&[(1, None, None)]);
    let _ = tables.of(std::slice::from_ref(&next), at(2 * second));
    // As long as the application takes.
    let much_later = Duration::from_secs(1000);
    table.forget_keys(much_later);
    assert!(table.naming().has_former());
    at_once(claim.commit(at(much_later))).unwrap();
    table.forget_keys(much_later + second);
    let end = much_later + LIFETIME;
    assert!(matches!(deliver(&table, &next, (1, 1), at(end)), Claimed::Duplicate));
    table.forget_keys(end);
    assert!(table.naming().has_former());
    table.forget_keys(end + MARGIN + Duration::from_secs(100));
    assert!(!table.naming().has_former());
}

/// The same route, with deliveries that are stored.
fn durable(ring: &[Entry]) -> Route {
    let tag = Durable::tag_of("r");
    let rule = Durable { route: "r".into(), status: 202, order: OrderBy::Nothing, order_required: false, tag };
    Route { durable: Some(rule), ..route(ring) }
}

#[test]
fn names_that_are_stored_find_a_copy_when_the_first_key_is_gone_after_a_restart() {
    let tables = new_tables();
    let table = tables.of(&[durable(&[(0, None, None)])], at(Duration::ZERO))[0].clone().unwrap();
    assert!(!table.naming().has_former());
    // The next key is there for as long as it may: longer than anything is remembered.
    let both = durable(&[(1, None, None), (0, None, None)]);
    let _ = tables.of(std::slice::from_ref(&both), at(Duration::from_secs(1)));
    for seconds in [2, 3, 1_000] {
        table.forget_keys(Duration::from_secs(seconds));
        assert!(table.naming().has_former(), "after {seconds} s");
    }
    let Claimed::New { claim, .. } = deliver(&table, &both, (1, 1), at(Duration::from_secs(1_000))) else {
        panic!("a new delivery")
    };
    let (left, own) = (LIFETIME, claim.key().unwrap());
    let stored: Vec<KnownName> = claim.other_keys().map(|key| KnownName { key, is_alias: true, left }).collect();
    at_once(claim.commit(at(Duration::from_secs(1_000)))).unwrap();
    assert_eq!(stored.len(), 1);
    // Another process, without the key by which the delivery was counted.
    let now = at(Duration::from_secs(5));
    for (known, found) in [(vec![KnownName { key: own, is_alias: false, left }], false), (stored, true)] {
        let next = durable(&[(1, None, None)]);
        let table = new_tables().of(std::slice::from_ref(&next), now)[0].clone().unwrap();
        known.iter().for_each(|known| assert!(table.restore(known, &next.replay.unwrap(), now)));
        assert_eq!(matches!(deliver(&table, &next, (1, 1), now), Claimed::Duplicate), found);
    }
    // What is next no more is let go.
    let _ = tables.of(&[durable(&[(0, None, None)])], at(Duration::from_secs(1_001)));
    for seconds in [1_002, 2_000] {
        table.forget_keys(Duration::from_secs(seconds));
    }
    assert!(!table.naming().has_former());
}

#[test]
fn a_copy_that_was_judged_before_the_keys_changed_is_seen_by_one_that_was_after() {
    let tables = new_tables();
    let (before, after) = (route(&[(0, None, None)]), route(&[(1, None, None)]));
    let table = tables.of(std::slice::from_ref(&before), at(Duration::ZERO))[0].clone().unwrap();
    let now = at(Duration::from_secs(1));
    let verified = verify(&before, request(1, [true, false, false, false]), now).unwrap();
    let names = table.names(&before.verifier, &verified).unwrap();
    // Between the choice of the key and the claim: other keys, and a copy that goes by them.
    let _ = tables.of(std::slice::from_ref(&after), now);
    let copy = deliver(&table, &after, (1, 1), now);
    let claimed = at_once(table.claim(&names, &before.replay.unwrap(), now));
    assert!(matches!(claimed, Some(Claimed::InFlight)), "{claimed:?}");
    assert!(matches!(copy, Claimed::New { .. }));
    assert_eq!((table.held(), table.claimed()), (1, 1));
}

#[test]
fn the_first_key_that_counts_tells_deliveries_apart_until_it_has_ended() {
    let tables = new_tables();
    let era = |table: &Ledger| table.naming().generation();
    // The first key has ended, the second has not begun.
    let ring = [(0, None, Some(5)), (1, Some(100), None), (2, None, None)];
    let table = tables.of(&[route(&ring)], at(Duration::from_secs(10)))[0].clone().unwrap();
    let _ = tables.of(&[route(&[(2, None, None)])], at(Duration::from_secs(11)));
    assert_eq!((era(&table), table.naming().has_former()), (0, false));
    // When it has ended another one takes its place, if there is one that counts.
    let _ = tables.of(&[route(&[(2, None, Some(12))])], at(Duration::from_secs(13)));
    assert_eq!(era(&table), 0);
    let _ = tables.of(&[route(&[(2, None, Some(12)), (1, Some(100), None)])], at(Duration::from_secs(14)));
    assert_eq!(era(&table), 0);
    let _ = tables.of(&[route(&[(2, None, Some(12)), (1, Some(15), None)])], at(Duration::from_secs(15)));
    assert_eq!((era(&table), table.naming().has_former()), (1, true));
}

#[test]
fn no_more_former_keys_are_kept_than_there_may_be() {
    let mut identities = NamingKeys::default();
    let scheme = scheme();
    let ring = |number: usize| {
        [Key::from_secret("k", &scheme, format!("secret-{number}").as_bytes(), Validity::default()).unwrap()]
    };
    for number in 0..3 * FORMER {
        identities = identities.with_ring(&ring(number), at(Duration::ZERO)).unwrap();
        assert!(identities.with_ring(&ring(number), at(Duration::ZERO)).is_none());
    }
    let keys = |route: &Route| {
        let verified = verify(route, request(1, [true, false, false, false]), at(Duration::ZERO)).unwrap();
        Names::of(&route.verifier, &verified, &identities, &Seed::new(&[7; Seed::LENGTH])).unwrap()
    };
    let keys = keys(&route(&[(0, None, None)]));
    assert_eq!(keys.former().len(), FORMER);
    assert!(keys.former().iter().all(|key| *key != keys.own()));
    // One that comes back is none of the former any more.
    let again = identities.with_ring(&ring(3 * FORMER - 2), at(Duration::ZERO)).unwrap();
    assert_eq!(again.generation(), identities.generation() + 1);
    assert!(again.with_ring(&ring(3 * FORMER - 1), at(Duration::ZERO)).is_some());
}
