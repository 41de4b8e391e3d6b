//! Pairing: while a window is open, the secret that a sender brings in its first call is written into the file of the
//! route, and put in force. A thread for each open window does this; workers only hand the secret over.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::admin::pairing::PairingWish;
use crate::config::load::load_source;
use crate::config::secret::{self, Oddity, Secret};
use crate::config::section::route::RouteSettings;
use crate::config::section::route::keys::{KeySettings, KeySource};
use crate::config::source::ConfigSource;
use crate::config::units::show_duration;
use crate::edge::clock::Clock;
use crate::gate::admission::Admission;
use crate::gate::errand::ErrandEnd;
use crate::gate::pairing::PairingOffer;
use crate::gate::verify::{Key, Scheme, Validity};

use super::event_log::{EventLog, Level};
use super::reloader::{Reloaded, Reloader};

/// Secrets that may fail to be stored before a window is closed: any client can bring one, and each is a line of the log.
const TRIES: usize = 30;

/// What pairing needs of the process.
pub(super) struct Pairing {
    pub(super) source: ConfigSource,
    pub(super) admission: Arc<Admission>,
    pub(super) reloader: Reloader,
    pub(super) clock: Clock,
    pub(super) log: Arc<EventLog>,
}

/// Where the secret of a route goes.
struct PairingTarget {
    route: String,
    key: String,
    scheme: Arc<Scheme>,
    path: PathBuf,
    replaces: bool,
}

/// An open window.
struct OpenWindow {
    number: u64,
    until: Duration,
    offers: Receiver<PairingOffer>,
    target: PairingTarget,
}

impl Pairing {
    /// Opens or closes a window. Gives a sentence for the operator.
    ///
    /// # Errors
    /// Why nothing has changed, in words.
    pub(super) fn carry_out(self, wish: &PairingWish) -> Result<String, String> {
        let Some(lasts) = wish.lasts else {
            if !self.admission.pairings().close_route(&wish.route) {
                return Err(format!("no pairing window of route {} is open", wish.route));
            }
            let words = format!("the pairing window of route {} is closed", wish.route);
            self.log.event(Level::Info, &words);
            return Ok(words);
        };
        let target = self.target(wish)?;
        prove_writable(&target.path)?;
        let until = self.clock.monotonic() + lasts;
        let (number, offers) = self.admission.pairings().open(&target.route, until);
        let words = format!(
            "the pairing window of route {} is open for {}: the first secret that a sender brings is written to {}",
            target.route,
            show_duration(lasts),
            target.path.display()
        );
        self.log.event(Level::Info, &words);
        let window = OpenWindow { number, until, offers, target };
        let admission = Arc::clone(&self.admission);
        let kept = thread::Builder::new().name("pairing".to_owned()).spawn(move || self.keep(&window));
        if let Err(error) = kept {
            admission.pairings().close(number);
            return Err(format!("the window cannot be opened: {error}"));
        }
        Ok(words)
    }

    /// The file that the secret goes to. What is on disk counts: it is what a reload reads behind the pairing.
    fn target(&self, wish: &PairingWish) -> Result<PairingTarget, String> {
        let loaded = load_source(&self.source).0.map_err(|_| {
            "the configuration on disk is wrong, so that a new secret could not be put in force: `countersign check` says why"
                .to_owned()
        })?;
        let route = loaded.settings.routes.iter().find(|route| route.name == wish.route);
        let route = route.ok_or_else(|| format!("there is no route {}", wish.route))?;
        let (key, name) = chosen(route, wish)?;
        let path = self.source.path_of(name);
        let scheme = route.verification.as_ref().map(|it| Arc::clone(&it.scheme));
        let scheme = scheme.ok_or_else(|| format!("route {} verifies nothing", wish.route))?;
        match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{}: {error}", path.display())),
            Ok(found) if !found.is_file() => {
                return Err(format!("{} is not a regular file, and is not replaced", path.display()));
            }
            Ok(_) if !wish.replaces => {
                return Err(format!(
                    "{} has a secret: add a key with a file of its own to the route and name it (--key ID), or replace the \
                     secret (--replace), after which deliveries that are signed with it are refused",
                    path.display()
                ));
            }
            Ok(_) => {}
        }
        Ok(PairingTarget { route: wish.route.clone(), key, scheme, path, replaces: wish.replaces })
    }

    /// Looks at what comes until a secret is stored, or the time is over.
    fn keep(self, window: &OpenWindow) {
        let route = &window.target.route;
        let mut failed = 0;
        loop {
            let left = window.until.saturating_sub(self.clock.monotonic());
            match window.offers.recv_timeout(left) {
                Ok(offer) if self.take(window, &offer) => return,
                Ok(_) if failed < TRIES => failed += 1,
                Ok(_) => {
                    self.admission.pairings().close(window.number);
                    let words =
                        format!("the pairing window of route {route} is closed: too many secrets could not be stored");
                    self.log.event(Level::Warn, &words);
                    return;
                }
                // It was closed, or opened anew, which is in the log.
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    self.admission.pairings().close(window.number);
                    let words =
                        format!("the pairing window of route {route} is closed: no secret was stored in its time");
                    self.log.event(Level::Warn, &words);
                    return;
                }
            }
        }
    }

    /// Stores a secret and puts it in force; true where that ends the window.
    fn take(&self, window: &OpenWindow, offer: &PairingOffer) -> bool {
        let OpenWindow { target, .. } = window;
        if !offer.fate.begin() {
            self.admission.pairings().await_another(window.number);
            return false;
        }
        let call = described(offer);
        let route = &target.route;
        if let Err(why) = judge(target, offer) {
            self.fail(window, offer, ErrandEnd::Unfit);
            self.log.event(Level::Warn, &format!("the secret that {call} has brought to route {route} {why}"));
            return false;
        }
        if let Err(error) = store(target, &offer.secret, window.number) {
            self.fail(window, offer, ErrandEnd::Failed);
            let path = target.path.display();
            let words =
                format!("the secret that {call} has brought to route {route} cannot be stored in {path}: {error}");
            self.log.event(Level::Error, &words);
            return false;
        }
        self.admission.pairings().close(window.number);
        let (key, path) = (&target.key, target.path.display());
        let words =
            format!("route {route} is paired: the secret of {call} is key \"{key}\", in {path}; the window is closed");
        self.log.event(Level::Info, &words);
        // The sender may send the first delivery as soon as it is answered.
        match self.reloader.request() {
            Ok(Reloaded::Changed { .. } | Reloaded::Unchanged) => {}
            Err(_) => {
                let words = format!(
                    "the secret of route {route} is stored and not in force: see above what is to be corrected"
                );
                self.log.event(Level::Error, &words);
            }
        }
        self.end(offer, ErrandEnd::Done);
        true
    }

    /// The client that is told so may try again at once.
    fn fail(&self, window: &OpenWindow, offer: &PairingOffer, end: ErrandEnd) {
        self.admission.pairings().await_another(window.number);
        self.end(offer, end);
    }

    /// Lets the one that waits look.
    fn end(&self, offer: &PairingOffer, end: ErrandEnd) {
        offer.fate.end(end);
        self.admission.bells().ring();
    }
}

/// What the log says of a call; never its secret.
fn described(offer: &PairingOffer) -> String {
    let client = offer.client.map_or_else(|| "a client without an address".to_owned(), |client| client.to_string());
    format!("{client} (request {})", String::from_utf8_lossy(&offer.request_id))
}

/// The key whose file takes the secret: its id, and the file as the configuration calls it.
fn chosen<'r>(route: &'r RouteSettings, wish: &PairingWish) -> Result<(String, &'r Path), String> {
    let name = &route.name;
    let keys = route.verification.iter().flat_map(|it| &it.keys);
    let possible: Vec<(&KeySettings, &'r Path)> = keys
        .filter(|key| key.can_be_paired)
        .filter_map(|key| match &key.source {
            KeySource::File(path) => Some((key, path.as_path())),
            _ => None,
        })
        .collect();
    if possible.is_empty() {
        return Err(format!(
            "the sender of route {name} brings no secret (asana, clio and notion do), challenge = false leaves its handshake to the \
             application, or no key of the route is in a file"
        ));
    }
    let one = |found: &[&(&KeySettings, &'r Path)]| match found {
        [(key, path)] => Some((key.id.clone(), *path)),
        _ => None,
    };
    let all: Vec<_> = possible.iter().collect();
    let awaited: Vec<_> = possible.iter().filter(|(key, _)| key.awaits_pairing).collect();
    match &wish.key {
        Some(id) => {
            let named = possible.iter().find(|(key, _)| key.id == *id);
            let (key, path) = named.ok_or_else(|| format!("route {name} has no key \"{id}\" in a file"))?;
            Ok((key.id.clone(), *path))
        }
        None => one(&all).or_else(|| one(&awaited)).ok_or_else(|| {
            let ids: Vec<&str> = possible.iter().map(|(key, _)| key.id.as_str()).collect();
            format!("route {name} has several keys, say which: --key {}", ids.join(" or --key "))
        }),
    }
}

/// Refuses what the configuration would refuse, or warn about, as the secret of this route.
fn judge(target: &PairingTarget, offer: &PairingOffer) -> Result<(), String> {
    let secret = Secret::new(offer.secret.clone());
    match secret::judge(&secret) {
        Err(unfit) => return Err(unfit.to_string()),
        Ok(oddities) if oddities.contains(&Oddity::Short) => return Err(Oddity::Short.to_string()),
        Ok(_) => {}
    }
    let key = Key::from_secret(&target.key, &target.scheme, secret.bytes(), Validity::default());
    key.map(drop).map_err(|error| format!("is no secret of its scheme: {error}"))
}

/// The folder of a file.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file beside this one that only its owner may read. `mark` tells those of one process apart.
fn create_beside(path: &Path, mark: u64) -> io::Result<(File, PathBuf)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder(path).join(format!(".{name}.{}-{mark}", std::process::id()));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    Ok((file, beside))
}

/// Finds out before a sender is told to call whether a secret can be stored. The folder is made if there is none.
fn prove_writable(path: &Path) -> Result<(), String> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder(path));
    let proven = made.and_then(|()| create_beside(path, 0)).and_then(|(_, beside)| fs::remove_file(beside));
    proven.map_err(|error| {
        format!(
            "a secret cannot be stored in {}: {error}; let the process write there (systemd: ReadWritePaths, Kubernetes: a \
             volume that is not read-only)",
            folder(path).display()
        )
    })
}

/// Writes the file as a whole, durable when this returns. One that is there is replaced only if the operator has said so.
fn store(target: &PairingTarget, secret: &[u8], mark: u64) -> io::Result<()> {
    let (mut file, beside) = create_beside(&target.path, mark)?;
    let written = file.write_all(secret).and_then(|()| file.sync_all()).and_then(|()| {
        if target.replaces { fs::rename(&beside, &target.path) } else { fs::hard_link(&beside, &target.path) }
    });
    if !target.replaces || written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written?;
    File::open(folder(&target.path))?.sync_all()
}
