//! The order of the sections: in which they are read, described and compared. What each of them means is in its own file
//! ([`crate::config::section`]).
//!
//! [`parse_str`] is the whole way from text to settings, without files, environment or clock.

use core::fmt::{self, Write};
use std::collections::BTreeSet;

use crate::config::digest::{Digest, digest};
use crate::config::document::Document;
use crate::config::problem::Problems;
use crate::config::ranges as range_tables;
use crate::config::reader::Reader;
use crate::config::records;
use crate::config::section::access_log::{self, AccessLogSettings};
use crate::config::section::admin::{self, AdminSettings};
use crate::config::section::audit::{self, AuditSettings};
use crate::config::section::inbox::{self, InboxSettings};
use crate::config::section::limits::{self, LimitSettings};
use crate::config::section::listener::{self, ListenerSettings};
use crate::config::section::log::{self, LogSettings};
use crate::config::section::published::{self, PublishedKeySettings};
use crate::config::section::ranges::{self, PublishedRangeSettings};
use crate::config::section::reload::{self, ReloadSettings};
use crate::config::section::route::clients::RangeMoment;
use crate::config::section::route::copies;
use crate::config::section::route::keys::{KeySettings, KeySource};
use crate::config::section::route::shared_claims::Sharing;
use crate::config::section::route::{self, RouteSettings, Routes, Surroundings};
use crate::config::section::server::{self, ServerSettings};
use crate::config::section::shared::{self, SharedSettings, SharingRoutes};
use crate::config::section::upstream::{self, UpstreamSettings};
use crate::config::section::upstream_tls;
use crate::gate::upstream::UpstreamAddress;
use crate::now::Now;

/// A whole configuration.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Process.
    pub server: ServerSettings,
    /// Where we listen; at least one.
    pub listeners: Vec<ListenerSettings>,
    /// Probes, metrics and status; nothing where no port was asked for.
    pub admin: Option<AdminSettings>,
    /// How we talk to applications.
    pub upstream: UpstreamSettings,
    /// Bounds on what a client may send and how long it may take.
    pub limits: LimitSettings,
    /// The log of the process.
    pub log: LogSettings,
    /// One line for each exchange.
    pub access_log: AccessLogSettings,
    /// The audit trail, if there is one.
    pub audit: Option<AuditSettings>,
    /// Where deliveries are kept that were acknowledged at once, if there is such a place.
    pub inbox: Option<InboxSettings>,
    /// The engine in which several processes share their claims, if they do.
    pub shared: Option<SharedSettings>,
    /// At least one, in the order of the file; names are unique.
    pub routes: Vec<RouteSettings>,
    /// Every application address that a route uses, each once. Routes name one by position.
    pub upstreams: Vec<UpstreamAddress>,
    /// How changes of files are noticed.
    pub reload: ReloadSettings,
    /// How keys that senders publish are fetched.
    pub published_keys: PublishedKeySettings,
    /// Whether the networks that senders publish are fetched.
    pub published_ranges: PublishedRangeSettings,
}

/// Reads and checks the text of a configuration. `file` is its name, for messages. Pure: referenced files and
/// variables are not looked at.
///
/// # Errors
/// Every problem of the text, when at least one of them is an error; otherwise the warnings come with the settings.
pub fn parse_str(file: &str, text: &str) -> Result<(Settings, Problems), Problems> {
    let (settings, problems) = read(file, text);
    if problems.has_errors() { Err(problems) } else { Ok((settings, problems)) }
}

/// Every key that is looked for when this text is read, with its path but without positions (`route.secrets.file`).
/// Keys of a section count only when the text has the section. Nothing for a text that is not TOML.
#[must_use]
pub fn vocabulary(text: &str) -> BTreeSet<String> {
    let Ok(document) = Document::parse("", text) else { return BTreeSet::new() };
    read_document(&document);
    document.vocabulary()
}

/// The same as [`parse_str`], but with what could be read in spite of errors, so that more problems can be found in
/// one run. The routes that are left are free of errors.
pub(super) fn read(file: &str, text: &str) -> (Settings, Problems) {
    let document = match Document::parse(file, text) {
        Ok(document) => document,
        Err(problems) => return (Settings::default(), problems),
    };
    let settings = read_document(&document);
    let mut problems = document.into_problems();
    problems.sort();
    (settings, problems)
}

/// See [`route::stray_keys`].
pub(super) fn stray_keys(file: &str, text: &str, settings: &Settings) -> Vec<(Vec<KeySettings>, bool)> {
    let Ok(document) = Document::parse(file, text) else { return Vec::new() };
    route::stray_keys(&Reader::root(&document), &settings.routes)
}

fn read_document(document: &Document<'_>) -> Settings {
    let root = Reader::root(document);
    let server = server::read(&root);
    let listeners = listener::read(&root);
    let (upstream, address) = upstream::read(&root);
    let limits = limits::read(&root);
    let reload = reload::read(&root);
    let published_keys = published::read(&root);
    let published_ranges = ranges::read(&root);
    let own_ranges = range_tables::read_own(&root);
    let log = log::read(&root);
    let access_log = access_log::read(&root);
    let audit = audit::read(&root, &access_log);
    let inbox = inbox::read(&root);
    let shared = shared::read(&root);
    let sharing = Sharing { shared: shared.as_ref(), upstream: &upstream };
    let around = Surroundings {
        upstream: address.as_ref(),
        limits: &limits,
        inbox: root.has("inbox"),
        sharing,
        ranges: &own_ranges,
    };
    let Routes { routes, upstreams, whole } = route::read(&root, around);
    let admin = admin::read(&root, &admin::Neighbours { listeners: &listeners, upstreams: &upstreams, whole });
    upstream_tls::check(&root, upstream.tls.as_ref(), &upstreams);
    listener::check_loops(&root, &listeners, &upstreams);
    route::check_callers(&root, &routes, listeners.iter().any(ListenerSettings::asks_for_certificates));
    copies::check_copies(&root, &routes, published_ranges.refresh);
    range_tables::warn_of_unused(&root, &own_ranges);
    root.finish();
    Settings {
        server,
        listeners,
        admin,
        upstream,
        limits,
        log,
        access_log,
        audit,
        inbox,
        shared,
        routes,
        upstreams,
        reload,
        published_keys,
        published_ranges,
    }
}

impl Settings {
    /// For `check`: every section but the memory that all of them need.
    pub(super) fn describe(&self, out: &mut String, now: Now) -> fmt::Result {
        let Self {
            server,
            listeners,
            admin,
            upstream,
            limits,
            log,
            access_log,
            audit,
            inbox,
            shared,
            routes,
            upstreams,
            reload,
            published_keys,
            published_ranges,
        } = self;
        writeln!(out, "process")?;
        server::describe(out, server)?;
        reload::describe(out, *reload)?;
        log::describe(out, *log)?;
        if self.has_published_keys() {
            published::describe(out, published_keys)?;
        }
        if routes.iter().any(|route| !route.clients.senders.is_empty()) {
            ranges::describe(out, *published_ranges)?;
        }
        listeners.iter().try_for_each(|listener| listener::describe(out, listener, now))?;
        admin::describe(out, admin.as_ref())?;
        upstream::describe(out, upstream, upstreams)?;
        let moment = self.range_moment(now);
        routes.iter().try_for_each(|route| route::describe(out, route, upstreams.get(route.upstream), moment))?;
        let stored: Vec<&str> =
            routes.iter().filter(|route| route.delivery.is_some()).map(|route| route.name.as_str()).collect();
        inbox::describe(out, inbox.as_ref(), &stored)?;
        let count = |shares: fn(&RouteSettings) -> bool| routes.iter().filter(|route| shares(route)).count();
        let sharing = SharingRoutes {
            remembering: count(|route| route.replay.is_some()),
            rated: count(|route| route.admission.rate_shared.is_some()),
        };
        shared::describe(out, shared.as_ref(), sharing)?;
        writeln!(out, "\nlimits")?;
        limits::describe(out, limits, listeners.iter().any(|listener| listener.tls.is_some()))?;
        records::describe(out, access_log, audit.as_ref())
    }

    /// By what the networks of senders are judged.
    pub(super) const fn range_moment(&self, now: Now) -> RangeMoment {
        RangeMoment { refresh: self.published_ranges.refresh, now }
    }

    /// Whether a route verifies with keys that its sender publishes at a URL.
    #[must_use]
    pub fn has_published_keys(&self) -> bool {
        let keys = self.routes.iter().filter_map(|route| route.verification.as_ref()).flat_map(|it| &it.keys);
        keys.into_iter().any(|key| matches!(key.source, KeySource::Url(_) | KeySource::Named | KeySource::NamedWith(_)))
    }

    /// The sections that a reload compares as a whole. Listeners and routes are compared part by part.
    pub(super) fn digests(&self) -> [(&'static str, Digest); 12] {
        let Self {
            server,
            upstream,
            limits,
            reload,
            log,
            access_log,
            audit,
            inbox,
            shared,
            admin,
            published_keys,
            published_ranges,
            ..
        } = self;
        // Compared part by part.
        let Self { listeners: _, routes: _, upstreams: _, .. } = self;
        [
            ("[server]", digest(server)),
            ("[upstream]", upstream.digest()),
            ("[limits]", digest(limits)),
            ("[reload]", digest(reload)),
            ("[log]", digest(log)),
            ("[access_log]", digest(access_log)),
            ("[audit]", digest(&audit.as_ref().map(AuditSettings::without_place))),
            ("[inbox]", digest(&inbox.as_ref().map(|it| (it, it.key_digests())))),
            ("[shared]", digest(&shared.as_ref().map(|it| (it, it.secret_digests())))),
            ("[admin]", digest(admin)),
            ("[published_keys]", digest(published_keys)),
            ("[published_ranges]", digest(published_ranges)),
        ]
    }
}
