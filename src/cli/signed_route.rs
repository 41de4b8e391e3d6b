//! What `sign --route` takes from a configuration: scheme, key, URL and method of a route, as `run` uses them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::config::load::load_source;
use crate::config::section::route::RouteSettings;
use crate::config::settings::Settings;
use crate::edge::clock::Clock;
use crate::gate::verify::Scheme;

use super::configured::source;
use super::output::print_problems;

/// What a sender of the route knows.
pub(super) struct SignedRoute {
    pub(super) scheme: Arc<Scheme>,
    /// The first key that counts at present. Empty for a public key, with which nothing can be signed.
    pub(super) secret: Zeroizing<Vec<u8>>,
    /// Where a delivery for the route goes.
    pub(super) url: String,
    pub(super) method: String,
}

/// The route of this name.
///
/// # Errors
/// A sentence for the user.
pub(super) fn find(config: &Path, name: &str) -> Result<SignedRoute, String> {
    let loaded = load_source(&source(config)?).0.map_err(|problems| {
        print_problems(&problems);
        format!("{} is not valid", config.display())
    })?;
    let routes = &loaded.settings.routes;
    let position = routes.iter().position(|route| route.name == name).ok_or_else(|| {
        let names: Vec<&str> = routes.iter().map(|route| route.name.as_str()).collect();
        format!("there is no route \"{name}\" in {}: it has {}", config.display(), names.join(", "))
    })?;
    let route = routes.get(position).ok_or("there is no such route")?;
    let verification = route.verification.as_ref().ok_or_else(|| format!("the route \"{name}\" verifies nothing"))?;
    let now = Clock::start().now();
    let keys = verification.keys.iter().zip(loaded.secrets.get(position).into_iter().flatten());
    let mut counting = keys.filter(|(key, _)| key.validity.contains(now));
    let secret = match counting.next() {
        _ if verification.scheme.wants_public_key() => Zeroizing::default(),
        Some((_, Some(secret))) => Zeroizing::new(secret.bytes().to_vec()),
        _ => return Err(format!("the route \"{name}\" has no key that counts at present")),
    };
    Ok(SignedRoute {
        scheme: Arc::clone(&verification.scheme),
        secret,
        url: url(&loaded.settings, route),
        method: route.key.methods.first().cloned().unwrap_or_else(|| "POST".to_owned()),
    })
}

/// The URL as it is registered with the sender; without one, that of the first listener. Parameters of the path stand for
/// themselves: their names are as good as any other value.
fn url(settings: &Settings, route: &RouteSettings) -> String {
    let path = route.key.path.as_str().replace(['{', '}', '*'], "");
    let public = route.verification.as_ref().and_then(|it| it.public_url.as_ref());
    if let Some(public) = public {
        return if public.path().is_empty() { format!("{public}{path}") } else { public.to_string() };
    }
    let Some(listener) = settings.listeners.first() else { return path };
    let host = match listener.address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let protocol = if listener.tls.is_some() { "https" } else { "http" };
    format!("{protocol}://{}{path}", std::net::SocketAddr::new(host, listener.address.port()))
}
