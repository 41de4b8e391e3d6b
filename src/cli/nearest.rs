//! Which route a request was probably meant for that no route stands for.

use std::path::Path;

use zeroize::Zeroizing;

use crate::config::parse_str;
use crate::config::section::route::RouteSettings;
use crate::config::suggest::closest;
use crate::explain::quoted;

use super::offline::read_file;

/// A line about the nearest route of the configuration and what differs; nothing where none is near.
pub(super) fn nearest_route(config: &Path, method: &str, path: &str) -> Option<String> {
    let text = Zeroizing::new(read_file(config).ok()?);
    let (settings, _) = parse_str(&config.display().to_string(), &String::from_utf8_lossy(&text)).ok()?;
    let path = path.split('?').next().unwrap_or_default();
    let same = |route: &&RouteSettings| route.key.path.as_str().eq_ignore_ascii_case(path);
    let slash = |route: &&RouteSettings| route.key.path.as_str().trim_end_matches('/') == path.trim_end_matches('/');
    let paths: Vec<&str> = settings.routes.iter().map(|route| route.key.path.as_str()).collect();
    let near = |route: &&RouteSettings| closest(path, &paths) == Some(route.key.path.as_str());
    let routes = || settings.routes.iter();
    let route = routes().find(same).or_else(|| routes().find(slash)).or_else(|| routes().find(near))?;
    let wanted = route.key.path.as_str();
    let mut differs = Vec::new();
    if wanted == path {
        if let Some(host) = &route.key.host {
            differs.push(format!("it is for the host {host} alone"));
        }
    } else if slash(&route) {
        let which =
            if path.ends_with('/') { "the request has a slash at the end" } else { "the route has a slash at the end" };
        differs.push(which.to_owned());
    } else if wanted.eq_ignore_ascii_case(path) {
        differs.push("upper and lower case differ".to_owned());
    }
    if !route.key.methods.iter().any(|known| known == method) {
        differs.push(format!("it takes {}", route.key.methods.join(", ")));
    }
    let differs = if differs.is_empty() { String::new() } else { format!(": {}", differs.join("; ")) };
    Some(format!("the nearest route is {}, path {}{}", route.name, quoted(wanted), differs))
}
