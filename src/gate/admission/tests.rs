//! Admission as a whole.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use core::time::Duration;
use std::hash::RandomState;
use std::rc::Rc;
use std::sync::Arc;

use super::eviction::Bound;
use super::holding::Holding;
use super::keyed_buckets::Allowance;
use super::limits::AdmissionLimits;
use super::*;
use crate::gate::admission::route_admission::RouteAdmission;
use crate::gate::admission::token_bucket::Rate;
use crate::gate::allowlist::AllowList;
use crate::gate::believed::KeptFields;
use crate::gate::client_key::ClientKey;
use crate::gate::identity::CallerList;
use crate::gate::observe::Observe;
use crate::gate::pattern::PathPattern;
use crate::gate::route::Route;
use crate::gate::route::{RouteKey, RouteTable};
use crate::gate::verify::Verifier;
use crate::outcome::{ConnectionEnd, Rejection};
use crate::wire::headers::HeaderBuf;

const NOW: Duration = Duration::from_secs(1);

fn table(admission: RouteAdmission) -> RouteTable {
    let key = RouteKey { host: None, path: PathPattern::parse("/").unwrap(), methods: vec!["POST".to_owned()] };
    let verifier = Verifier::none();
    let route = Route {
        name: "r".to_owned(),
        key,
        verifier,
        body_limit: 1,
        upstream: 0,
        admission,
        clients: AllowList::default(),
        callers: CallerList::default(),
        kept: KeptFields::default(),
        observe: Observe::default(),
        replay: None,
        challenges: None,
    };
    RouteTable::new(vec![route]).unwrap()
}

fn limits() -> AdmissionLimits {
    AdmissionLimits {
        connections: 3,
        connections_per_client: 2,
        body_memory: 100,
        requests_in_flight: 2,
        unverified_per_client: Rate::per_second(1, 2),
        clients_tracked: 10,
        handshakes: 2,
        handshakes_per_client: Rate::per_second(50, 100),
        ..AdmissionLimits::default()
    }
}

fn ready() -> Arc<Admission> {
    Arc::new(Admission::new(limits(), RandomState::new()))
}

/// What a connection holds that does not count itself.
fn holding(admission: &Arc<Admission>) -> Rc<Holding> {
    Rc::new(Holding::uncounted(Arc::clone(admission)))
}

fn client(number: u8) -> ClientKey {
    ClientKey::of(Some([192, 0, 2, number].into()))
}

#[test]
fn a_body_counts_for_longer_than_its_exchange() {
    let table = table(RouteAdmission::default());
    let (admission, headers) = (ready(), HeaderBuf::default());
    let request =
        AdmissionRequest { route: &table.routes()[0], headers: headers.view(), has_body: true, is_proven: false };
    let mut admitted = admission.admit(request, client(1), NOW, &holding(&admission)).unwrap();
    admitted.hold_body(70).unwrap();
    admitted.end_request();
    assert_eq!(admission.held(), Held { body_memory: 70, ..Held::default() });
    admitted.end_request();
    drop(admitted);
    assert_eq!(admission.held(), Held::default());
}

#[test]
fn the_first_bound_that_is_met_is_named() {
    let table = table(RouteAdmission { content_types: vec!["a/b".to_owned()], ..RouteAdmission::default() });
    let admission = ready();
    let ask = |media_type: &[u8], number: u8| {
        let mut headers = HeaderBuf::default();
        headers.push("Content-Type", media_type);
        let request =
            AdmissionRequest { route: &table.routes()[0], headers: headers.view(), has_body: true, is_proven: false };
        admission.admit(request, client(number), NOW, &holding(&admission))
    };
    let first = ask(b"a/b", 1).unwrap();
    assert_eq!(ask(b"c/d", 1).unwrap_err(), Rejection::ContentTypeRefused.into());
    let second = ask(b"A/B; c=d", 1).unwrap();
    assert_eq!(ask(b"c/d", 1).unwrap_err(), Rejection::ContentTypeRefused.into());
    assert_eq!(ask(b"a/b", 1).unwrap_err(), Refused::full(Bound::Requests));
    drop(first);
    let limited = Refused { rejection: Rejection::ClientRateLimited, retry_after: Some(1), bound: None };
    assert_eq!(ask(b"a/b", 1).unwrap_err(), limited);
    assert_eq!(admission.held().requests, 1, "what was refused holds nothing");
    assert!(ask(b"a/b", 2).is_ok());
    drop(second);
    assert_eq!(admission.held(), Held::default());
}

#[test]
fn bodies_are_charged_as_they_arrive() {
    let table = table(RouteAdmission::default());
    let admission = ready();
    let headers = HeaderBuf::default();
    let request =
        AdmissionRequest { route: &table.routes()[0], headers: headers.view(), has_body: true, is_proven: false };
    let mut first = admission.admit(request, client(1), NOW, &holding(&admission)).unwrap();
    let mut second = admission.admit(request, client(2), NOW, &holding(&admission)).unwrap();
    for (length, held) in [(10, 10), (60, 60), (60, 60)] {
        first.hold_body(length).unwrap();
        assert_eq!(admission.held().body_memory, held);
    }
    second.hold_body(40).unwrap();
    assert_eq!(second.hold_body(41), Err(Refused::full(Bound::BodyMemory)));
    assert_eq!(admission.held().body_memory, 100);
    drop(first);
    second.hold_body(100).unwrap();
    drop(second);
    assert_eq!(admission.held(), Held::default());
}

#[test]
fn connections_are_refused_for_the_client_first() {
    let admission = ready();
    let open = |number: u8| admission.open(Some(client(number)), Allowance::Usual, NOW);
    let first = open(1).unwrap();
    let _second = open(1).unwrap();
    let third = open(2).unwrap();
    assert_eq!(open(1).unwrap_err(), ConnectionEnd::ClientConnectionsFull);
    assert_eq!(open(2).unwrap_err(), ConnectionEnd::ConnectionsFull);
    let claim = || admission.claim_shortage(Bound::Connections, 5);
    assert!(admission.note_shortage(Bound::Connections) && !admission.note_shortage(Bound::Connections));
    assert_eq!((claim(), claim()), (2, 0));
    assert!(admission.note_shortage(Bound::Connections));
    drop(first);
    assert_eq!(claim(), 0, "there is room again");
    drop(third);
    // The refusal above has not been counted for the client.
    for number in [1, 2] {
        assert!(open(number).is_ok());
    }
    assert_eq!(admission.held().connections, 1);
}

#[test]
fn a_connection_is_counted_for_whom_a_proxy_names() {
    let admission = ready();
    let mut permits: Vec<_> = (0..3).map(|_| admission.open(None, Allowance::Usual, NOW).unwrap()).collect();
    assert_eq!(permits[0].assign(client(1), Allowance::Usual, NOW), Ok(()));
    assert_eq!(permits[1].assign(client(1), Allowance::Usual, NOW), Ok(()));
    assert_eq!(permits[2].assign(client(1), Allowance::Usual, NOW), Err(ConnectionEnd::ClientConnectionsFull));
    assert_eq!(permits[2].assign(client(2), Allowance::Usual, NOW), Ok(()));
    assert_eq!(permits[1].assign(client(2), Allowance::Usual, NOW), Ok(()));
    assert_eq!(permits[2].assign(client(1), Allowance::Usual, NOW), Ok(()), "the place was given back");
    drop(permits);
    assert_eq!(admission.held(), Held::default());
    assert!(admission.open(Some(client(1)), Allowance::Usual, NOW).is_ok());
}

#[test]
fn handshakes_are_bounded() {
    let admission = ready();
    let first = admission.begin_handshake().unwrap();
    let _second = admission.begin_handshake().unwrap();
    assert_eq!(admission.begin_handshake().unwrap_err(), ConnectionEnd::TlsHandshakesFull);
    assert_eq!(admission.held().handshakes, 2);
    drop(first);
    assert!(admission.begin_handshake().is_ok());
}

#[test]
fn limits_below_what_is_held_take_nothing_away() {
    let table = table(RouteAdmission::default());
    let admission = ready();
    let headers = HeaderBuf::default();
    let request =
        AdmissionRequest { route: &table.routes()[0], headers: headers.view(), has_body: true, is_proven: false };
    let (first, second) = (
        admission.open(Some(client(1)), Allowance::Usual, NOW),
        admission.open(Some(client(1)), Allowance::Usual, NOW),
    );
    let mut admitted = admission.admit(request, client(1), NOW, &holding(&admission)).unwrap();
    admitted.hold_body(50).unwrap();
    let low = AdmissionLimits {
        connections: 1,
        connections_per_client: 1,
        body_memory: 10,
        requests_in_flight: 1,
        unverified_per_client: Rate::per_second(1, 1),
        ..limits()
    };
    admission.set_limits(low, NOW);
    assert_eq!(admission.held(), Held { connections: 2, requests: 1, body_memory: 50, ..Held::default() });
    assert_eq!(admission.open(Some(client(2)), Allowance::Usual, NOW).unwrap_err(), ConnectionEnd::ConnectionsFull);
    assert_eq!(
        admission.admit(request, client(2), NOW, &holding(&admission)).unwrap_err(),
        Refused::full(Bound::Requests)
    );
    assert_eq!(admitted.hold_body(51), Err(Refused::full(Bound::BodyMemory)));
    drop(first);
    assert_eq!(
        admission.open(Some(client(1)), Allowance::Usual, NOW).unwrap_err(),
        ConnectionEnd::ClientConnectionsFull
    );
    drop(second);
    assert!(admission.open(Some(client(1)), Allowance::Usual, NOW).is_ok());
    drop(admitted);
    assert_eq!(
        admission.admit(request, client(1), NOW, &holding(&admission)).unwrap_err().rejection,
        Rejection::ClientRateLimited
    );
    admission.set_limits(limits(), NOW);
    // One of two tokens had been taken.
    assert!(admission.admit(request, client(1), NOW, &holding(&admission)).is_ok());
    assert!(admission.admit(request, client(1), NOW, &holding(&admission)).is_err());
}
