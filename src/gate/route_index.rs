//! From host and path to routes, and whether another reader would find another one.

use std::collections::BTreeMap;

use matchit::{InsertError, Router};

use crate::gate::pattern::PathPattern;
use crate::outcome::Rejection;
use crate::wire::path;

/// Which requests a route stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteKey {
    /// Host in lower case, without port; `None` for any host.
    pub host: Option<String>,
    /// Paths.
    pub path: PathPattern,
    /// Methods, compared with case (RFC 9110, section 9.1).
    pub methods: Vec<String>,
}

/// Two routes stand for the same requests, or cannot be told apart. Positions in the list that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The one that came first.
    pub first: usize,
    /// The one that came later.
    pub second: usize,
}

/// All routes of one path: they differ in their methods.
#[derive(Debug, Default)]
pub(super) struct Site {
    pub(super) routes: Vec<usize>,
    pub(super) allow: String,
}

/// From paths to positions. Exact paths have a router of their own: looking them up never has to turn back.
#[derive(Debug, Default)]
struct Paths {
    exact: Router<usize>,
    parametrised: Router<usize>,
}

impl Paths {
    /// The position, and whether it is that of an exact path.
    fn find(&self, path: &str) -> Option<(usize, bool)> {
        match self.exact.at(path) {
            Ok(found) => Some((*found.value, true)),
            Err(_) => self.parametrised.at(path).ok().map(|found| (*found.value, false)),
        }
    }

    fn insert(&mut self, (key, is_exact): (&str, bool), position: usize) -> Result<(), InsertError> {
        let router = if is_exact { &mut self.exact } else { &mut self.parametrised };
        router.insert(key, position)
    }
}

/// The sites of one host.
#[derive(Debug, Default)]
struct Sites {
    paths: Paths,
    /// Sites by the key of their pattern, with the first route of each.
    known: BTreeMap<String, (usize, usize)>,
    generous: Generous,
}

/// The same sites as a generous reader finds them ([`path::generously`]): those that he cannot tell apart are one group.
#[derive(Debug, Default)]
struct Generous {
    paths: Paths,
    groups: Vec<Vec<usize>>,
    known: BTreeMap<String, usize>,
    /// Whether a pattern is another one to him than to us.
    differs: bool,
}

impl Generous {
    fn insert(&mut self, pattern: &PathPattern, site: usize) {
        let key = path::generously(pattern.key());
        self.differs |= key != pattern.key();
        let group = match self.paths.insert((key.as_ref(), pattern.is_exact()), self.groups.len()) {
            Ok(()) => {
                self.groups.push(Vec::new());
                self.groups.len() - 1
            }
            // One that stands for the same paths to him is there.
            Err(InsertError::Conflict { with }) => self.known.get(&with).copied().unwrap_or_default(),
            Err(_) => return,
        };
        self.known.insert(key.into_owned(), group);
        self.groups.iter_mut().skip(group).take(1).for_each(|group| group.push(site));
    }

    fn find(&self, path: &str) -> Option<&[usize]> {
        let (group, _) = self.paths.find(path)?;
        self.groups.get(group).map(Vec::as_slice)
    }
}

/// From host and path to the positions of routes.
#[derive(Debug, Default)]
pub struct RouteIndex {
    /// Sorted by host.
    hosts: Vec<(String, Sites)>,
    any_host: Sites,
    sites: Vec<Site>,
}

impl RouteIndex {
    /// Builds the index.
    ///
    /// # Errors
    /// Every pair of routes that stand for the same requests.
    pub fn new<'k>(keys: impl Iterator<Item = &'k RouteKey> + Clone) -> Result<Self, Vec<Conflict>> {
        let all: Vec<&RouteKey> = keys.collect();
        let mut names: Vec<&String> = all.iter().filter_map(|key| key.host.as_ref()).collect();
        names.sort_unstable();
        names.dedup();
        let hosts = names.into_iter().map(|name| (name.clone(), Sites::default())).collect();
        let mut index = Self { hosts, ..Self::default() };
        let mut conflicts = Vec::new();
        for (position, key) in all.iter().enumerate() {
            if let Err(first) = index.insert(position, key, &all) {
                conflicts.push(Conflict { first, second: position });
            }
        }
        if conflicts.is_empty() { Ok(index) } else { Err(conflicts) }
    }

    /// Adds one route, or answers with the position of the one that is in its way.
    fn insert(&mut self, position: usize, key: &RouteKey, all: &[&RouteKey]) -> Result<(), usize> {
        let sites = match &key.host {
            None => &mut self.any_host,
            Some(host) => match self.hosts.binary_search_by(|(name, _)| name.cmp(host)) {
                Ok(at) => &mut self.hosts[at].1,
                Err(_) => return Err(position),
            },
        };
        if let Some((site, _)) = sites.known.get(key.path.key()) {
            let site = &mut self.sites[*site];
            let overlaps = |other: &&usize| all[**other].methods.iter().any(|method| key.methods.contains(method));
            if let Some(first) = site.routes.iter().find(overlaps) {
                return Err(*first);
            }
            site.routes.push(position);
            site.allow = [site.allow.as_str(), &key.methods.join(", ")].join(", ");
            return Ok(());
        }
        if let Err(error) = sites.paths.insert((key.path.key(), key.path.is_exact()), self.sites.len()) {
            let known = match &error {
                InsertError::Conflict { with } => sites.known.get(with),
                _ => None,
            };
            return Err(known.map_or(position, |(_, first)| *first));
        }
        sites.known.insert(key.path.key().to_owned(), (self.sites.len(), position));
        sites.generous.insert(&key.path, self.sites.len());
        self.sites.push(Site { routes: vec![position], allow: key.methods.join(", ") });
        Ok(())
    }

    /// The site of a host, by its name alone, and a path that has no flaw.
    ///
    /// An application may read a path more generously than we do: without case, without a slash at the end, with escapes
    /// decoded that need not be there. Where it would then serve what another route stands for, the path is refused. An
    /// exact path is always what it is.
    ///
    /// # Errors
    /// [`Rejection::RouteUnknown`], [`Rejection::TargetInvalid`].
    pub(super) fn site(&self, host: &[u8], path: &str) -> Result<&Site, Rejection> {
        let with_host =
            self.hosts.binary_search_by(|(name, _)| name.bytes().cmp(host.iter().map(u8::to_ascii_lowercase)));
        let specific = with_host.ok().and_then(|at| self.hosts.get(at)).map(|(_, sites)| sites);
        let all = || specific.into_iter().chain([&self.any_host]);
        let found = all().find_map(|sites| sites.paths.find(path));
        if !matches!(found, Some((_, true))) {
            self.refuse_other_readings(all(), path, found.map(|(site, _)| site))?;
        }
        found.and_then(|(site, _)| self.sites.get(site)).ok_or(Rejection::RouteUnknown)
    }

    /// Refuses a path that leads a generous reader elsewhere than to `found`.
    fn refuse_other_readings<'s>(
        &self,
        mut all: impl Iterator<Item = &'s Sites> + Clone,
        path: &str,
        found: Option<usize>,
    ) -> Result<(), Rejection> {
        let read = path::generously(path);
        if read == path && !all.clone().any(|sites| sites.generous.differs) {
            return Ok(());
        }
        match (all.find_map(|sites| sites.generous.find(&read)), found) {
            (Some(group), Some(site)) if group.contains(&site) => Ok(()),
            (None, None) => Ok(()),
            // Another case or slash is another path, and unknown; what is escaped without need is meant to deceive.
            (Some(_), None) if !path.contains('%') => Ok(()),
            _ => Err(Rejection::TargetInvalid),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(host: Option<&str>, path: &str) -> RouteKey {
        let path = PathPattern::parse(path).unwrap();
        RouteKey { host: host.map(str::to_owned), path, methods: vec!["POST".to_owned()] }
    }

    fn index(keys: &[RouteKey]) -> RouteIndex {
        RouteIndex::new(keys.iter()).unwrap()
    }

    /// The position of the route that a request is of.
    fn found(keys: &[RouteKey], host: &str, path: &str) -> Result<usize, Rejection> {
        assert_eq!(path::flaw(path.as_bytes()), None, "{path}");
        index(keys).site(host.as_bytes(), path).map(|site| site.routes[0])
    }

    #[test]
    fn a_path_that_an_application_may_take_for_that_of_another_route_is_refused() {
        let keys = [
            key(None, "/hooks/{name}"),
            key(None, "/hooks/a:b"),
            key(None, "/hooks/github"),
            key(None, "/{*rest}"),
            key(Some("h"), "/only/here"),
            key(None, "/hooks/{name}/deep"),
        ];
        for path in [
            "/hooks/a%3Ab",
            "/hooks/a%3ab",
            "/hooks/GitHub",
            "/hooks/github/",
            "/HOOKS/x",
            "/Hooks/github",
            "/hooks/A:B",
        ] {
            assert_eq!(found(&keys, "x", path), Err(Rejection::TargetInvalid), "{path}");
        }
        for (path, route) in [
            ("/hooks/a:b", 1),
            ("/hooks/github", 2),
            ("/hooks/user%40example.com", 0),
            ("/hooks/AbC%3D%3D", 0),
            ("/hooks/a%20b", 0),
            ("/hooks/Acme", 0),
            ("/other/Github/", 3),
            ("/hooks/github/deep", 5),
            ("/hooks/GitHub/deep", 5),
        ] {
            assert_eq!(found(&keys, "x", path), Ok(route), "{path}");
        }
        assert_eq!(found(&keys, "h", "/only/Here"), Err(Rejection::TargetInvalid));
        assert_eq!(found(&keys, "x", "/only/Here"), Ok(3));
    }

    #[test]
    fn what_no_route_stands_for_is_unknown_unless_one_could_be_meant() {
        let keys = [key(None, "/a:b"), key(None, "/github"), key(None, "/%C3%BC")];
        for path in ["/x", "/GitHub", "/github/", "/x%3A", "/A:B"] {
            assert_eq!(found(&keys, "x", path), Err(Rejection::RouteUnknown), "{path}");
        }
        for path in ["/a%3Ab", "/a%3Ab/", "/%c3%bc"] {
            assert_eq!(found(&keys, "x", path), Err(Rejection::TargetInvalid), "{path}");
        }
        assert_eq!(found(&keys, "x", "/%C3%BC"), Ok(2));
    }

    #[test]
    fn routes_that_only_differ_to_us_are_what_they_are() {
        let keys =
            [key(None, "/Hook"), key(None, "/hook"), key(None, "/hook/"), key(None, "/a%40b"), key(None, "/{any}")];
        for (path, route) in [("/Hook", 0), ("/hook", 1), ("/hook/", 2), ("/a%40b", 3), ("/x", 4)] {
            assert_eq!(found(&keys, "x", path), Ok(route), "{path}");
        }
        for path in ["/HOOK", "/a@b", "/A%40b"] {
            assert_eq!(found(&keys, "x", path), Err(Rejection::TargetInvalid), "{path}");
        }
    }

    proptest::proptest! {
        /// Whatever is found by a parametrised path, a generous reader finds there too, or the path is refused; and one
        /// route alone is never refused for itself.
        #[test]
        fn one_route_has_no_other_reading(
            pattern in proptest::sample::select(vec!["/{a}", "/x/{a}", "/{*r}", "/X/{a}/y", "/x/{*r}", "/{a}/", "/a%40/{b}"]),
            path in "(/(x|X|y|a%40|a@|%20|b|%c3%bc)){1,4}/?",
        ) {
            let keys = [key(None, pattern)];
            let here = index(&keys).site(b"", &path).is_ok();
            let strictly = index(&keys).any_host.paths.find(&path).is_some();
            proptest::prop_assert_eq!(here, strictly, "{} {}", pattern, path);
        }
    }
}
