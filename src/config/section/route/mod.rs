//! `[[route]]`: which requests are taken, how they are verified, and where they are sent.

mod admission;
pub mod challenge;
pub mod clients;
pub(crate) mod copies;
pub mod delivery;
mod kept;
pub mod keys;
mod observe;
pub(crate) mod outline;
mod own_schemes;
mod replay;
mod request;
pub(crate) mod shared_claims;
pub mod verification;

use core::fmt::{self, Write};

use self::challenge::ChallengeSettings;
use self::clients::{ClientSettings, RangeMoment};
use self::delivery::DeliverySettings;
use self::keys::KeySettings;
use self::observe::Observable;
use self::shared_claims::{Shareable, Sharing};
use self::verification::Verification;
use super::limits::{BODY_SIZE, LimitSettings};
use super::upstream::upstream_address;
use crate::config::caller_names;
use crate::config::lines::line;
use crate::config::problem::Place;
use crate::config::ranges::OwnRanges;
use crate::config::reader::Reader;
use crate::config::units::show_size;
use crate::gate::believed::KeptFields;
use crate::gate::identity::CallerList;
use crate::gate::observe::Observe;
use crate::gate::replay::ReplayPolicy;
use crate::gate::route::{RouteIndex, RouteKey};
use crate::gate::route_admission::RouteAdmission;
use crate::gate::upstream::UpstreamAddress;
use crate::now::Now;

/// `[[route]]`: which requests, verified how, sent where.
#[derive(Clone, Debug)]
pub struct RouteSettings {
    /// Unique name.
    pub name: String,
    /// Which requests.
    pub key: RouteKey,
    /// How deliveries are verified; `None` only where the configuration says `scheme = "none"`.
    pub verification: Option<Verification>,
    /// The longest body, in bytes.
    pub body_size: u64,
    /// Position in [`crate::config::Settings::upstreams`].
    pub upstream: usize,
    /// Which addresses may call.
    pub clients: ClientSettings,
    /// Which names, proven by a certificate, may call.
    pub callers: CallerList,
    /// Where these are written.
    pub callers_place: Option<Place>,
    /// Which fields reach the application although applications believe them.
    pub kept: KeptFields,
    /// Rate and media types.
    pub admission: RouteAdmission,
    /// Which checks only count.
    pub observe: Observe,
    /// How deliveries that have been seen before are treated; `None` where none is remembered.
    pub replay: Option<ReplayPolicy>,
    /// Which handshakes are answered here.
    pub challenge: Option<ChallengeSettings>,
    /// How its deliveries are stored and delivered later; `None` where the application answers the sender.
    pub delivery: Option<DeliverySettings>,
    /// Where the route begins.
    pub place: Place,
}

const FIX_NO_ROUTE: &str = "add:\n\n[[route]]\npath = \"/webhooks/github\"\nscheme = \"github\"\n\
                            secrets = [{ id = \"1\", file = \"secrets/github\" }]\n";

/// Each route has state of its own.
const ROUTE_LIMIT: usize = 4096;

/// A route that has been read: what it is, and where its application is.
type Read = (RouteSettings, Option<UpstreamAddress>);

/// All routes, and the applications that they forward to.
pub(crate) struct Routes {
    /// In the order of the file.
    pub(crate) routes: Vec<RouteSettings>,
    /// Each address once.
    pub(crate) upstreams: Vec<UpstreamAddress>,
    /// Whether that is every route.
    pub(crate) whole: bool,
}

/// What of the other sections a route is read with.
#[derive(Clone, Copy)]
pub(crate) struct Surroundings<'s> {
    /// The address of `[upstream]`.
    pub(crate) upstream: Option<&'s UpstreamAddress>,
    /// Bounds.
    pub(crate) limits: &'s LimitSettings,
    /// Whether there is an `[inbox]`.
    pub(crate) inbox: bool,
    /// How claims are shared.
    pub(crate) sharing: Sharing<'s>,
    /// The networks that the file describes.
    pub(crate) ranges: &'s [OwnRanges],
}

/// Reads every route.
pub(crate) fn read(root: &Reader<'_>, around: Surroundings<'_>) -> Routes {
    root.require("route", FIX_NO_ROUTE);
    let readers = root.tables("route");
    if readers.as_ref().is_some_and(Vec::is_empty) {
        root.error("route", "is empty", FIX_NO_ROUTE);
    }
    let mut schemes = own_schemes::read(root);
    let handshakes = challenge::read_own(root);
    let mut routes: Vec<Read> = Vec::new();
    if readers.as_ref().is_some_and(|readers| readers.len() > ROUTE_LIMIT) {
        root.error(
            "route",
            format!("is given more than {ROUTE_LIMIT} times"),
            "share one route: path = \"/hooks/{name}\"",
        );
    }
    let mut whole = readers.is_some();
    for reader in readers.into_iter().flatten().take(ROUTE_LIMIT) {
        let read = read_route(&reader, &mut schemes, &handshakes, around);
        whole &= read.is_some();
        routes.extend(read);
        reader.finish();
    }
    own_schemes::warn_of_unused(root, &schemes);
    let answered = routes.iter().filter_map(|(route, _)| route.challenge.as_ref());
    challenge::warn_of_unused(root, &handshakes, answered.map(|it| it.handshake.name.as_str()));
    check_names(root, &routes);
    check_conflicts(root, &routes);
    let (mut placed, mut upstreams) = (Vec::with_capacity(routes.len()), Vec::new());
    let written = root.table("upstream").is_some_and(|upstream| upstream.has("address"));
    for (mut route, own) in routes {
        match own.or_else(|| around.upstream.cloned()) {
            Some(address) => route.upstream = position(&mut upstreams, address),
            None if written => whole = false,
            None => {
                let message = "there is no application to forward to: neither [upstream] nor the route has an address";
                root.error_at(route.place.child("upstream"), message, "add address = \"127.0.0.1:9000\" to [upstream]");
            }
        }
        placed.push(route);
    }
    Routes { routes: placed, upstreams, whole }
}

fn position(upstreams: &mut Vec<UpstreamAddress>, address: UpstreamAddress) -> usize {
    upstreams.iter().position(|known| *known == address).unwrap_or_else(|| {
        upstreams.push(address);
        upstreams.len() - 1
    })
}

fn read_route(
    reader: &Reader<'_>,
    schemes: &mut [own_schemes::OwnScheme],
    handshakes: &[challenge::OwnHandshake],
    around: Surroundings<'_>,
) -> Option<Read> {
    let limits = around.limits;
    let path = request::path(reader);
    let host = request::host(reader);
    let methods = request::methods(reader);
    let name = request::name(reader, path.as_ref());
    let body_size = reader.size("body_size", BODY_SIZE).unwrap_or(limits.body_size);
    let admission = admission::read(reader, body_size, limits.admission.body_memory);
    let address = upstream_address(reader, "upstream");
    let clients = clients::read(reader, around.ranges);
    let callers = caller_names::read(reader);
    let kept = kept::read(reader);
    let callers_place = (!callers.is_empty()).then(|| reader.place("client_names"));
    let verification = verification::read(reader, schemes);
    let replay = replay::read(reader, verification.as_ref().map(Option::as_ref));
    let challenge = challenge::read(reader, verification.as_ref().and_then(Option::as_ref), handshakes);
    let mut observe = observe::read(reader, |check| match check {
        Observable::Allow => !clients.is_open(),
        Observable::Rate => reader.has("rate"),
        Observable::Replay => replay.policy.is_some(),
        Observable::Tolerance => verification.iter().flatten().any(|it| it.scheme.signs_timestamp()),
    });
    observe.replay |= replay.observed;
    let delivery = delivery::read(reader, around.inbox, verification.iter().flatten().next());
    let (admission, shares_rate) = admission;
    let what = Shareable { replay: replay.policy, stored: delivery.is_some(), rate: shares_rate };
    let (shared, rate_shared) = shared_claims::read(reader, around.sharing, what);
    let admission = RouteAdmission { rate_shared, ..admission };
    let replay = replay.policy.map(|policy| ReplayPolicy { shared, ..policy });
    let verification = verification?;
    verification::check_url_path(reader, path.as_ref(), verification.as_ref());
    verification::check_bodies(reader, &methods, verification.as_ref());
    if reader.failed() {
        return None;
    }
    let place = reader.here();
    let (name, upstream) = (name?, 0);
    let key = RouteKey { host, path: path?, methods };
    let route = RouteSettings {
        name,
        key,
        verification,
        body_size,
        upstream,
        clients,
        callers,
        callers_place,
        kept,
        admission,
        observe,
        replay,
        challenge,
        delivery,
        place,
    };
    Some((route, address))
}

fn check_names(root: &Reader<'_>, routes: &[Read]) {
    for (position, (route, _)) in routes.iter().enumerate() {
        if let Some((other, _)) = routes.iter().take(position).find(|(other, _)| other.name == route.name) {
            let message =
                format!("\"{}\" is the name of {} in line {} too", route.name, other.place.key_path, other.place.line);
            let fix = "give one of them another name; without `name` it is derived from the path";
            root.error_at(route.place.child("name"), message, fix);
        }
    }
}

fn check_conflicts(root: &Reader<'_>, routes: &[Read]) {
    let Err(conflicts) = RouteIndex::new(routes.iter().map(|(route, _)| &route.key)) else { return };
    for conflict in conflicts {
        let (Some((first, _)), Some((second, _))) = (routes.get(conflict.first), routes.get(conflict.second)) else {
            continue;
        };
        let place = &first.place;
        let message =
            format!("requests for it cannot be told apart from those for {} in line {}", place.key_path, place.line);
        let fix = "remove one of the two, or give them other hosts, paths or methods";
        root.error_at(second.place.child("path"), message, fix);
    }
}

/// A route that asks for a name needs a listener that asks for a certificate (`asked`).
pub(crate) fn check_callers(root: &Reader<'_>, routes: &[RouteSettings], asked: bool) {
    for route in routes.iter().filter(|route| !asked && !route.callers.is_empty()) {
        let place = route.callers_place.clone().unwrap_or_else(|| route.place.child("client_names"));
        let message = "no client could call: no listener asks its clients for a certificate";
        root.error_at(place, message, "add client_ca to the [listener.tls] that this route is called through");
    }
}

/// The keys of the routes that could not be read for another mistake, so that what is wrong with their files is found
/// in the same run: for each route its keys, and whether they are public. Mistakes in the keys themselves have been
/// reported with the route.
pub(crate) fn stray_keys(root: &Reader<'_>, known: &[RouteSettings]) -> Vec<(Vec<KeySettings>, bool)> {
    let mut stray = Vec::new();
    for (position, route) in root.tables("route").into_iter().flatten().enumerate() {
        let path = format!("route[{position}]");
        if known.iter().any(|known| known.place.key_path == path) || route.string("scheme") == Some("none") {
            continue;
        }
        let public = !route.has("secrets");
        let keys = keys::read(&route, if public { "public_keys" } else { "secrets" });
        stray.extend(keys.map(|keys| (keys, public)));
    }
    stray
}

pub(crate) const NO_KEY: &str = "no key that counts at present: every delivery to it will be refused";

pub(crate) fn lacks_key(route: &RouteSettings, now: Now) -> bool {
    route.verification.as_ref().is_some_and(|it| it.lacks_key(now))
}

/// Routes of which no key counts at this moment, in full sentences.
pub(crate) fn moment_warnings(routes: &[RouteSettings], now: Now) -> impl Iterator<Item = String> {
    let without = routes.iter().filter(move |route| lacks_key(route, now));
    without.map(|route| format!("The route \"{}\" has {NO_KEY}.", route.name))
}

/// For `check`. `upstream` is where the route forwards to.
pub(crate) fn describe(
    out: &mut String,
    route: &RouteSettings,
    upstream: Option<&UpstreamAddress>,
    moment: RangeMoment,
) -> fmt::Result {
    let now = moment.now;
    writeln!(out, "\nroute {}", route.name)?;
    request::describe(out, &route.key)?;
    match &route.verification {
        None => {
            line(out, "scheme", "none")?;
            line(out, "WARNING", "nothing is verified: every client of this route reaches the application")?;
        }
        Some(verification) => {
            verification::describe(out, verification)?;
            replay::describe(out, &verification.scheme, route.replay.as_ref(), route.observe.replay)?;
            shared_claims::describe(out, route.replay.as_ref())?;
            verification::describe_keys(out, verification, route.observe.tolerance, now)?;
        }
    }
    if lacks_key(route, now) {
        line(out, "WARNING", format_args!("the route has {NO_KEY}"))?;
    }
    challenge::describe(out, route.challenge.as_ref(), route.verification.as_ref())?;
    clients::describe(out, &route.clients, route.observe.allow, moment)?;
    if !route.callers.is_empty() {
        let names: Vec<String> = route.callers.patterns().iter().map(ToString::to_string).collect();
        line(out, "", format_args!("with one of these names in their certificate: {}", names.join(", ")))?;
    }
    describe_body(out, route)?;
    admission::describe(out, &route.admission, route.observe.rate)?;
    if let Some(upstream) = upstream {
        line(out, "upstream", upstream)?;
    }
    delivery::describe(out, route.delivery.as_ref())?;
    match route.kept.names() {
        [] => Ok(()),
        names => line(out, "keeps", format_args!("{}, as any client sends them", names.join(", "))),
    }
}

/// A sender knows nothing of our bound: what is longer is refused however often it comes.
fn describe_body(out: &mut String, route: &RouteSettings) -> fmt::Result {
    line(out, "body", format_args!("at most {}", show_size(route.body_size)))?;
    let Some(scheme) = route.verification.as_ref().map(|it| &it.scheme) else { return Ok(()) };
    let Some(longest) = scheme.body_size.filter(|longest| *longest > route.body_size) else { return Ok(()) };
    let (name, longest) = (&scheme.name, show_size(longest));
    let fix = format_args!("body_size = \"{longest}\" takes all of them");
    line(
        out,
        "WARNING",
        format_args!("{name} sends up to {longest}; what is longer than the bound is refused (413); {fix}"),
    )
}
