//! From a path to a gate: the only file of this room that opens files and reads the environment.
//!
//! Nothing is half-applied: either everything holds and there is a [`Loaded`], or there is a list of everything that
//! does not, in the configuration and in the files that it names.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;

use crate::config::compile;
use crate::config::document::MAX_TEXT;
use crate::config::networks;
use crate::config::problem::{Place, Problems};
use crate::config::secret::{self, Secret};
use crate::config::settings::{self, Admin, ClientSettings, KeySettings, KeySource, Settings, Verification};
use crate::config::units::show_size;
use crate::gate::Gate;

/// No secret and no public key is longer, in bytes.
const KEY_LIMIT: usize = 64 << 10;

/// No file of networks is longer, in bytes: some fifty thousand of them.
const LIST_LIMIT: usize = 1 << 20;

/// A configuration that holds.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub settings: Settings,
    /// What requests are judged by.
    pub gate: Gate,
    /// What the operator should know all the same.
    pub warnings: Problems,
}

/// Reads a configuration file and everything that it refers to. Paths in it are relative to its directory.
///
/// # Errors
/// Every problem that could be found.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let file = path.display().to_string();
    let text = read_text(path, &file)?;
    let (mut settings, mut problems) = settings::read(&file, &text);
    let directory = path.parent().unwrap_or(Path::new("."));
    let keys: Vec<Vec<Option<Secret>>> = settings
        .routes
        .iter()
        .map(|route| route.verification.as_ref().map(|it| read_all(it, directory, &mut problems)).unwrap_or_default())
        .collect();
    settings.routes.iter_mut().for_each(|route| read_networks(&mut route.clients, directory, &mut problems));
    if problems.has_errors() {
        for (stray, public) in settings::stray_keys(&file, &text, &settings) {
            read_keys(&stray, public, directory, &mut problems);
        }
    }
    let gate = compile::compile(&settings, &keys, &mut problems);
    problems.sort();
    match gate {
        Some(gate) if !problems.has_errors() => Ok(Loaded { settings, gate, warnings: problems }),
        _ => Err(problems),
    }
}

/// Reads the `[admin]` section alone, whatever is wrong with the rest of the file.
///
/// # Errors
/// The file cannot be read.
pub fn load_admin(path: &Path) -> io::Result<Option<Admin>> {
    let bytes = read_file(path, MAX_TEXT)?;
    let file = path.display().to_string();
    Ok(settings::read(&file, core::str::from_utf8(&bytes).unwrap_or_default()).0.admin)
}

/// The text is erased when it has been read: it may hold secrets.
fn read_text(path: &Path, file: &str) -> Result<Zeroizing<String>, Problems> {
    let mut problems = Problems::default();
    match read_file(path, MAX_TEXT) {
        Err(error) => {
            let fix = match error.kind() {
                io::ErrorKind::FileTooLarge => "is this the right file?",
                _ => "check the path, and that this user may read the file",
            };
            problems.error(Place::file(file), format!("the configuration cannot be read: {error}"), fix);
        }
        Ok(bytes) => match core::str::from_utf8(&bytes) {
            Ok(text) => return Ok(Zeroizing::new(text.to_owned())),
            Err(error) => {
                let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
                let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
                let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
                let place = Place { line: number(line), column: number(column), ..Place::file(file) };
                problems.error(place, "the configuration is not UTF-8", "save the file as UTF-8");
            }
        },
    }
    Err(problems)
}

/// Adds the networks that a file of the route holds to those of the route itself.
fn read_networks(clients: &mut ClientSettings, directory: &Path, problems: &mut Problems) {
    let Some(list) = &clients.allow_file else { return };
    let path = directory.join(&list.path);
    let text = read_file(&path, LIST_LIMIT).and_then(|bytes| {
        core::str::from_utf8(&bytes).map(str::to_owned).map_err(|_| io::Error::other("it is not UTF-8"))
    });
    match text {
        Ok(text) => clients.allow.extend(networks::read_text(&path.display().to_string(), &text, problems)),
        Err(error) => {
            let message = format!("{} cannot be read: {error}", path.display());
            let fix = "check the path (it is relative to the configuration file) and the permissions";
            problems.error(list.place.clone(), message, fix);
        }
    }
}

/// The bytes of every key of a route; nothing in the place of one that could not be read.
fn read_all(verification: &Verification, directory: &Path, problems: &mut Problems) -> Vec<Option<Secret>> {
    read_keys(&verification.keys, verification.scheme.wants_public_key(), directory, problems)
}

fn read_keys(keys: &[KeySettings], public: bool, directory: &Path, problems: &mut Problems) -> Vec<Option<Secret>> {
    let mut secrets: Vec<Option<Secret>> = Vec::with_capacity(keys.len());
    for key in keys {
        let secret = read_key(key, directory, public, problems);
        let same = secret.as_ref().and_then(|secret| {
            let is_same = |other: &Option<Secret>| other.as_ref().is_some_and(|other| other.same_as(secret));
            keys.get(secrets.iter().position(is_same)?)
        });
        if let Some(other) = same {
            let message = format!("is the same as the key \"{}\" of this route", other.id);
            problems.warning(key.place.clone(), message, "a rotation needs a second key: remove one of the two");
        }
        secrets.push(secret);
    }
    secrets
}

fn read_key(key: &KeySettings, directory: &Path, public: bool, problems: &mut Problems) -> Option<Secret> {
    let (secret, origin) = match &key.source {
        KeySource::Value(secret) => (Some(secret.clone()), "the key".to_owned()),
        KeySource::Env(name) => (read_variable(name, key, problems), format!("the key in the variable {name}")),
        KeySource::File(path) => {
            let path = directory.join(path);
            (read_key_file(&path, key, public, problems), format!("the key in {}", path.display()))
        }
    };
    let secret = secret?.without_line_end();
    match secret::judge(&secret) {
        Err(unfit) if !public || unfit == secret::Unfit::Empty => {
            let fix = match unfit {
                secret::Unfit::PublicKey => "this scheme wants the secret that only you and the sender know",
                _ => "put the real one there, as the sender shows it",
            };
            problems.error(key.place.clone(), format!("{origin} {unfit}"), fix);
            return None;
        }
        Ok(oddities) if !public => {
            for oddity in oddities {
                problems.warning(key.place.clone(), format!("{origin} {oddity}"), oddity.fix());
            }
        }
        _ => {}
    }
    Some(secret)
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment, where the file says so")]
fn read_variable(name: &str, key: &KeySettings, problems: &mut Problems) -> Option<Secret> {
    use std::os::unix::ffi::OsStringExt;
    let value = std::env::var_os(name).map(OsStringExt::into_vec);
    if value.is_none() {
        let message = format!("there is no environment variable {name}");
        problems.error(key.place.clone(), message, format!("set {name} for this process, or use file = \"…\""));
    }
    value.map(Secret::new)
}

fn read_key_file(path: &Path, key: &KeySettings, public: bool, problems: &mut Problems) -> Option<Secret> {
    match read_file(path, KEY_LIMIT) {
        Ok(bytes) => {
            if !public && readable_by_others(path) {
                let message = format!("{} can be read by every user of this machine", path.display());
                let fix = format!("chmod o-rwx {} (Kubernetes: defaultMode: 0440)", path.display());
                problems.warning(key.place.clone(), message, fix);
            }
            Some(Secret::new(bytes))
        }
        Err(error) => {
            let message = format!("{} cannot be read: {error}", path.display());
            let fix = if error.kind() == io::ErrorKind::FileTooLarge {
                format!("a secret is at most {} long; is this the right file?", show_size(KEY_LIMIT as u64))
            } else {
                "check the path (it is relative to the configuration file) and the permissions".to_owned()
            };
            problems.error(key.place.clone(), message, fix);
            None
        }
    }
}

/// A group may read: that is how Kubernetes hands secrets to a process that is not root.
fn readable_by_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0)
}

/// The bytes of a regular file that is not longer than `limit`. Whatever else has a path (a directory, a pipe that
/// would block) is refused before it is opened.
fn read_file(path: &Path, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let metadata = path.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let too_long = || io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {limit} bytes"));
    let size = usize::try_from(metadata.len()).ok().filter(|size| *size <= limit).ok_or_else(too_long)?;
    // One byte more than the limit, so that a file that has grown meanwhile is noticed and the buffer never moves.
    let mut bytes = Zeroizing::new(Vec::with_capacity(size.max(limit.min(4096)) + 1));
    File::open(path)?.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit { Err(too_long()) } else { Ok(bytes) }
}
