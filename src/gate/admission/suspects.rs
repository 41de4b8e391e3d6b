//! Suspects: requests of a client whose budget ([`unverified_per_client`]) is empty, until they are proven genuine.
//!
//! An address is not an attacker: senders share addresses with strangers. So an empty budget says nothing about one
//! request, and refusing it unseen costs nearly as much as verifying it. A suspect is verified with what others leave. All
//! suspects together hold at most a share of what may be held; only where that share is full one is refused.
//!
//! [`unverified_per_client`]: super::limits::AdmissionLimits::unverified_per_client

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::gate::admission::eviction::Bound;
use crate::gate::admission::gauge::Gauge;
use crate::gate::admission::limits::{AdmissionLimits, OverBudget};

/// What suspects hold, and the share that they may hold.
#[derive(Debug)]
pub struct Suspects {
    queue: AtomicBool,
    percent: AtomicU32,
    requests: Gauge,
    body_memory: Gauge,
}

impl Suspects {
    pub(super) fn new(limits: AdmissionLimits) -> Self {
        let (requests, body_memory) = (Gauge::default(), Gauge::default());
        let suspects = Self { queue: AtomicBool::default(), percent: AtomicU32::default(), requests, body_memory };
        suspects.set_limits(limits);
        suspects
    }

    pub(super) fn set_limits(&self, limits: AdmissionLimits) {
        self.queue.store(limits.over_budget == OverBudget::Queue, Ordering::Relaxed);
        self.percent.store(limits.over_budget_percent, Ordering::Relaxed);
        self.requests.set_limit(limits.suspect_requests());
        self.body_memory.set_limit(limits.suspect_body_memory());
    }

    /// Whether there are any: whether a client's empty budget is no reason to refuse.
    pub(super) fn exist(&self) -> bool {
        self.queue.load(Ordering::Relaxed)
    }

    /// The share of a worker's time that they may have, in percent. Where they are refused unseen, there is none.
    #[must_use]
    pub fn percent(&self) -> u32 {
        if self.exist() { self.percent.load(Ordering::Relaxed) } else { 100 }
    }

    pub(super) fn enter(&self) -> bool {
        self.requests.take(1)
    }

    pub(super) fn leave(&self) {
        self.requests.release(1);
    }

    /// Charges so many bytes more of a body of which `own` are charged.
    pub(super) fn hold(&self, bytes: u64, own: u64) -> bool {
        self.body_memory.take_share(bytes, own)
    }

    pub(super) fn let_go(&self, bytes: u64) {
        self.body_memory.release(bytes);
    }

    /// Whether so many bytes more would leave half of their share free.
    pub(super) fn have_plenty(&self, bytes: u64) -> bool {
        self.body_memory.has_plenty(bytes)
    }

    pub(super) const fn gauge(&self, of: Share) -> &Gauge {
        match of {
            Share::Requests => &self.requests,
            Share::BodyMemory => &self.body_memory,
        }
    }
}

/// Of what suspects have a share, beside time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Exchanges at a time.
    Requests,
    /// Bytes of bodies.
    BodyMemory,
}

impl Share {
    /// The bound that its members give way for.
    #[must_use]
    pub const fn bound(self) -> Bound {
        match self {
            Self::Requests => Bound::SuspectRequests,
            Self::BodyMemory => Bound::SuspectMemory,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use core::time::Duration;
    use std::hash::RandomState;
    use std::rc::Rc;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::gate::admission::holding::Holding;
    use crate::gate::admission::route_admission::RouteAdmission;
    use crate::gate::admission::token_bucket::Rate;
    use crate::gate::admission::{Admission, AdmissionRequest, Admitted, Held, Refused};
    use crate::gate::allowlist::AllowList;
    use crate::gate::client_key::ClientKey;
    use crate::gate::identity::CallerList;
    use crate::gate::observe::Observe;
    use crate::gate::pattern::PathPattern;
    use crate::gate::route::{Route, RouteKey, RouteTable};
    use crate::gate::verify::{Key, Keyring, Kind, MacAlgorithm, Scheme, Syntax, Template, Validity, Verifier};
    use crate::outcome::Rejection;
    use crate::wire::headers::HeaderBuf;

    fn verifier() -> Verifier {
        let content = Template::parse("{body}").unwrap();
        let mut scheme = Scheme::new("s", Kind::Hmac(MacAlgorithm::HmacSha256), "X-Signature", content);
        scheme.syntax = Syntax::Single { prefix: String::new() };
        let key = Key::from_secret("k", &scheme, b"0123456789abcdef0123456789abcdef", Validity::default()).unwrap();
        Verifier::new(Arc::new(scheme), Keyring::new(vec![key]), None, None).unwrap()
    }

    /// A route that verifies, and one that does not.
    fn table() -> RouteTable {
        let route = |path: &str, verifier| Route {
            kept: Default::default(),
            name: path.to_owned(),
            key: RouteKey { host: None, path: PathPattern::parse(path).unwrap(), methods: vec!["POST".to_owned()] },
            verifier,
            body_limit: 100,
            upstream: 0,
            admission: RouteAdmission::default(),
            clients: AllowList::default(),
            callers: CallerList::default(),
            observe: Observe::default(),
            replay: None,
            challenges: None,
        };
        RouteTable::new(vec![route("/a", verifier()), route("/b", Verifier::none())]).unwrap()
    }

    const LIMITS: AdmissionLimits = AdmissionLimits {
        connections: 10,
        connections_per_client: 10,
        body_memory: 1000,
        requests_in_flight: 6,
        unverified_per_client: Rate { tokens: 1, per: Duration::from_secs(3600), burst: 2 },
        clients_tracked: 10,
        handshakes: 1,
        handshakes_per_client: Rate { tokens: 1, per: Duration::from_secs(3600), burst: 2 },
        over_budget: OverBudget::Queue,
        over_budget_percent: 50,
    };

    fn ready(limits: AdmissionLimits) -> Arc<Admission> {
        Arc::new(Admission::new(limits, RandomState::new()))
    }

    struct Asking<'a> {
        admission: &'a Arc<Admission>,
        routes: &'a RouteTable,
        headers: HeaderBuf,
    }

    impl Asking<'_> {
        fn ask(&self, (verifies, is_proven): (bool, bool)) -> Result<(Admitted<'_>, Rc<Holding>), Refused> {
            let route = &self.routes.routes()[usize::from(!verifies)];
            let holding = Rc::new(Holding::uncounted(Arc::clone(self.admission)));
            let request = AdmissionRequest { route, headers: self.headers.view(), has_body: true, is_proven };
            let client = ClientKey::of(Some([192, 0, 2, 1].into()));
            let admitted = self.admission.admit(request, client, Duration::from_secs(1), &holding)?;
            Ok((admitted, holding))
        }
    }

    #[test]
    fn an_empty_budget_makes_a_suspect_and_refuses_no_request() {
        let (admission, routes) = (ready(LIMITS), table());
        let asking = Asking { admission: &admission, routes: &routes, headers: HeaderBuf::default() };
        let plain = || asking.ask((true, false));
        let within = [plain().unwrap(), plain().unwrap()];
        assert!(within.iter().all(|(admitted, _)| !admitted.is_suspect()));
        let suspects = [plain().unwrap(), plain().unwrap(), plain().unwrap()];
        assert!(suspects.iter().all(|(admitted, _)| admitted.is_suspect() && admitted.began_as_suspect()));
        assert_eq!((admission.held().requests, admission.held().suspects), (5, 3));
        // The share is full, not the process.
        let refused = plain().unwrap_err();
        assert_eq!(refused.rejection, Rejection::ClientRateLimited);
        assert_eq!((refused.bound, refused.retry_after.is_some()), (Some(Bound::SuspectRequests), true));
        let (proven, _holding) = asking.ask((true, true)).unwrap();
        assert!(!proven.is_suspect(), "it goes first");
        drop(proven);
        // Where nothing is verified the budget is all that there is.
        assert_eq!(asking.ask((false, true)).unwrap_err().bound, None);
        admission.set_limits(AdmissionLimits { over_budget: OverBudget::Refuse, ..LIMITS }, Duration::from_secs(1));
        drop(suspects);
        for is_proven in [false, true] {
            let refused = asking.ask((true, is_proven)).unwrap_err();
            assert_eq!((refused.rejection, refused.bound), (Rejection::ClientRateLimited, None));
        }
        assert_eq!(admission.suspects().percent(), 100, "of what there is none there is no share");
        drop(within);
        assert_eq!(admission.held(), Held::default());
    }

    #[test]
    fn shares_are_of_what_there_is_and_never_nothing() {
        let of = |over_budget_percent| AdmissionLimits { over_budget_percent, ..LIMITS };
        assert_eq!((of(50).suspect_requests(), of(50).suspect_body_memory()), (3, 500));
        assert_eq!((of(1).suspect_requests(), of(100).suspect_body_memory()), (1, 1000));
        let huge = AdmissionLimits { body_memory: u64::MAX, ..of(100) };
        assert!(huge.suspect_body_memory() > 0);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Ask(bool),
        Hold(usize, usize),
        Prove(usize),
        EndRequest(usize),
        /// All of it is taken back while the request does not know.
        Surrender(usize),
        End(usize),
        Percent(u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            any::<bool>().prop_map(Step::Ask),
            Just(Step::Ask(false)),
            (any::<usize>(), 0..400_usize).prop_map(|(which, bytes)| Step::Hold(which, bytes)),
            any::<usize>().prop_map(Step::Prove),
            any::<usize>().prop_map(Step::EndRequest),
            any::<usize>().prop_map(Step::Surrender),
            any::<usize>().prop_map(Step::End),
            (1..=100_u32).prop_map(Step::Percent),
        ];
        proptest::collection::vec(step, 1..120)
    }

    /// What one request holds: an exchange, bytes of a body, and whether as a suspect.
    #[derive(Clone, Copy, Debug, Default)]
    struct Model {
        requests: u64,
        body: u64,
        suspect: bool,
    }

    proptest! {
        /// What suspects hold is what those hold who have not been proven, never more than their share when it is taken
        /// unless by one alone, and nothing is left of it.
        #[test]
        fn what_suspects_hold_is_counted_exactly(steps in steps()) {
            let (admission, routes) = (ready(LIMITS), table());
            let asking = Asking { admission: &admission, routes: &routes, headers: HeaderBuf::default() };
            let mut all: Vec<(Admitted<'_>, Rc<Holding>, Model)> = Vec::new();
            for step in steps {
                let count = all.len().max(1);
                let before = admission.held();
                match step {
                    Step::Ask(is_proven) => {
                        if let Ok((admitted, holding)) = asking.ask((true, is_proven)) {
                            let suspect = admitted.is_suspect();
                            prop_assert!(!(suspect && is_proven));
                            prop_assert!(!suspect || before.suspects < admission.bounds().suspects);
                            all.push((admitted, holding, Model { requests: 1, body: 0, suspect }));
                        }
                    }
                    Step::Hold(which, bytes) => if let Some((admitted, _, model)) = all.get_mut(which % count) {
                        let more = (bytes as u64).saturating_sub(model.body);
                        let suspect = model.suspect;
                        match admitted.hold_body(bytes) {
                            Ok(()) => {
                                let within = before.suspect_memory + more <= admission.bounds().suspect_memory;
                                prop_assert!(more == 0 || !suspect || within || before.suspect_memory == model.body);
                                model.body += more;
                            }
                            Err(refused) => prop_assert!(suspect || refused.bound == Some(Bound::BodyMemory)),
                        }
                    },
                    Step::Prove(which) => if let Some((_, holding, model)) = all.get_mut(which % count) {
                        holding.end_suspicion();
                        model.suspect = false;
                    },
                    Step::EndRequest(which) => if let Some((admitted, _, model)) = all.get_mut(which % count) {
                        admitted.end_request();
                        model.requests = 0;
                    },
                    Step::Surrender(which) => if let Some((_, holding, model)) = all.get_mut(which % count) {
                        holding.surrender();
                        *model = Model::default();
                    },
                    Step::End(which) => if !all.is_empty() {
                        all.swap_remove(which % count);
                    },
                    Step::Percent(over_budget_percent) => {
                        admission.set_limits(AdmissionLimits { over_budget_percent, ..LIMITS }, Duration::from_secs(1));
                    }
                }
                let sum = |of: fn(&Model) -> u64| all.iter().map(|(.., model)| of(model)).sum::<u64>();
                let held = admission.held();
                prop_assert_eq!((held.requests, held.body_memory), (sum(|it| it.requests), sum(|it| it.body)));
                prop_assert_eq!(held.suspects, sum(|it| if it.suspect { it.requests } else { 0 }));
                prop_assert_eq!(held.suspect_memory, sum(|it| if it.suspect { it.body } else { 0 }));
                prop_assert!(held.requests <= LIMITS.requests_in_flight && held.body_memory <= LIMITS.body_memory);
            }
            drop(all);
            prop_assert_eq!(admission.held(), Held::default());
        }
    }
}
