//! From settings and the bytes of the keys to the gate: prepares every key and builds every index.

use core::time::Duration;
use std::sync::Arc;

use crate::config::problem::{Place, Problems};
use crate::config::secret::Secret;
use crate::config::section::listener::{ListenerSettings, ProxyProtocol};
use crate::config::section::route::RouteSettings;
use crate::config::section::route::challenge::ChallengeSettings;
use crate::config::section::route::clients::ClientSettings;
use crate::config::section::route::keys::{KeySettings, KeySource};
use crate::config::section::route::verification::Verification;
use crate::config::settings::Settings;
use crate::gate::Gate;
use crate::gate::allowlist::AllowList;
use crate::gate::client::Door;
use crate::gate::durable::Durable;
use crate::gate::ranges::{PublishedRanges, RangeSource};
use crate::gate::replay::ReplayPolicy;
use crate::gate::route::{Route, RouteTable};
use crate::gate::verify::{Challenges, Key, KeyError, Keyring, Scheme, Verifier, VerifyToken};

/// Builds the gate. `keys` has the bytes of each key of each route, in the order of [`Settings::routes`]; one that
/// could not be read is missing and has been reported already. What is wrong is added to `problems`; without a gate
/// there is at least one error among them.
#[must_use]
pub fn compile(settings: &Settings, keys: &[Vec<Option<Secret>>], problems: &mut Problems) -> Option<Gate> {
    let mut routes = Vec::with_capacity(settings.routes.len());
    let mut ranges = SharedRanges { refresh: settings.published_ranges.refresh, known: Vec::new() };
    for (position, route) in settings.routes.iter().enumerate() {
        let bytes = keys.get(position).map(Vec::as_slice).unwrap_or_default();
        let verifier = match &route.verification {
            None => Some(Verifier::none()),
            Some(verification) => verifier(verification, bytes, &route.place, problems),
        };
        let clients = allow_list(&route.clients).with_published(ranges.of(&route.clients));
        routes.extend(verifier.map(|verifier| Route { clients, ..compiled(route, verifier, position) }));
    }
    if routes.len() < settings.routes.len() || problems.has_errors() {
        return None;
    }
    match RouteTable::new(routes) {
        Ok(routes) => Some(Gate { routes, upstreams: settings.upstreams.clone(), doors: doors(settings) }),
        Err(conflicts) => {
            // Settings have been checked for this; only settings that were put together by hand come here.
            for conflict in conflicts {
                let place = settings.routes.get(conflict.second).map(|route| route.place.clone());
                let place = place.unwrap_or_else(|| Place::file(""));
                problems.error(place, "cannot be told apart from another route", "remove one of the two");
            }
            None
        }
    }
}

fn compiled(route: &RouteSettings, verifier: Verifier, position: usize) -> Route {
    let verifier = verifier.with_body_limit(usize::try_from(route.body_size).unwrap_or(usize::MAX));
    Route {
        name: route.name.clone(),
        key: route.key.clone(),
        verifier: if route.observe.tolerance { verifier.observing_tolerance() } else { verifier },
        body_limit: route.body_size,
        upstream: route.upstream,
        clients: AllowList::default(),
        callers: route.callers.clone(),
        kept: route.kept.clone(),
        observe: route.observe,
        admission: route.admission.clone(),
        replay: route.replay.map(|replay| ReplayPolicy { table: position, ..replay }),
        challenges: route.challenge.as_ref().map(challenges).map(Box::new),
        durable: route.delivery.as_ref().map(|delivery| Durable {
            route: Arc::from(route.name.as_str()),
            status: delivery.acknowledge_status,
            order: delivery.order.clone(),
            order_required: delivery.order_required,
            tag: Durable::tag_of(&route.name),
        }),
    }
}

fn challenges(settings: &ChallengeSettings) -> Challenges {
    Challenges {
        handshake: Arc::clone(&settings.handshake),
        tokens: settings.read.iter().map(|(secret, validity)| VerifyToken::new(secret.bytes(), *validity)).collect(),
        url: settings.url.clone(),
        first_calls: settings.first_calls,
        confirmations: Arc::default(),
    }
}

/// A list that was asked for is a list, even if its file has no network: then no client is let in.
fn allow_list(clients: &ClientSettings) -> AllowList {
    let allow = clients.is_restricted().then(|| clients.allow.iter().copied().collect());
    AllowList::new(allow, clients.deny.iter().copied().collect())
}

/// The networks of senders, each once for all routes.
struct SharedRanges {
    refresh: Option<Duration>,
    known: Vec<Arc<PublishedRanges>>,
}

impl SharedRanges {
    fn of(&mut self, clients: &ClientSettings) -> Vec<Arc<PublishedRanges>> {
        clients.senders.iter().map(|sender| self.one(&sender.source)).collect()
    }

    fn one(&mut self, source: &Arc<RangeSource>) -> Arc<PublishedRanges> {
        let known = self.known.iter().find(|known| known.source().name == source.name).cloned();
        known.unwrap_or_else(|| {
            let new = Arc::new(PublishedRanges::new(Arc::clone(source), self.refresh));
            self.known.push(Arc::clone(&new));
            new
        })
    }
}

fn doors(settings: &Settings) -> Vec<Door> {
    let door = |listener: &ListenerSettings| Door {
        proxies: listener.trusted_proxies.iter().copied().collect(),
        proxy_protocol: listener.proxy_protocol == ProxyProtocol::V1V2,
    };
    settings.listeners.iter().map(door).collect()
}

fn verifier(
    verification: &Verification,
    bytes: &[Option<Secret>],
    place: &Place,
    problems: &mut Problems,
) -> Option<Verifier> {
    let mut ready = Vec::with_capacity(verification.keys.len());
    for (settings, bytes) in verification.keys.iter().zip(bytes) {
        let Some(bytes) = bytes else { continue };
        match key(settings, &verification.scheme, bytes) {
            Ok(key) => ready.push(key),
            Err(error) => {
                let fix = "copy it again from the sender's settings, whole and without quotes";
                problems.error(settings.place.clone(), error.to_string(), fix);
            }
        }
    }
    let awaited = verification.keys.iter().filter(|key| key.awaits_pairing).count();
    if ready.len() + awaited < verification.keys.len() {
        return None;
    }
    if verification.keys.is_empty() {
        problems.error(place.child("secrets"), "the route has no key", "give at least one secret or public key");
        return None;
    }
    let scheme = Arc::clone(&verification.scheme);
    match Verifier::new(scheme, Keyring::new(ready), verification.tolerance, verification.public_url.clone()) {
        Ok(verifier) => Some(verifier),
        Err(found) => {
            for problem in found {
                problems.error(place.child(problem.field), problem.message, problem.fix);
            }
            None
        }
    }
}

fn key(settings: &KeySettings, scheme: &Scheme, bytes: &Secret) -> Result<Key, KeyError> {
    let key = if let KeySource::Url(url) = &settings.source {
        Key::from_url(&settings.id, scheme, url, settings.validity)?
    } else if let KeySource::Named = &settings.source {
        Key::named_by_deliveries(&settings.id, scheme, settings.validity)?
    } else if let KeySource::NamedWith(_) = &settings.source {
        Key::named_with_credential(&settings.id, scheme, settings.validity, Some(bytes.bytes()))?
    } else if scheme.wants_public_key() {
        let text = String::from_utf8_lossy(bytes.bytes());
        Key::from_public(&settings.id, scheme, text.trim(), settings.validity)?
    } else {
        Key::from_secret(&settings.id, scheme, bytes.bytes(), settings.validity)?
    };
    Ok(match &settings.name {
        Some(name) => key.named(name),
        None => key,
    })
}
