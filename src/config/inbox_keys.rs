//! The keys of `[inbox] encryption`, from their files.

use std::io;
use std::path::Path;

use crate::config::files::{Files, warn_if_readable};
use crate::config::problem::Problems;
use crate::config::secret::Secret;
use crate::config::section::inbox::InboxSettings;
use crate::config::section::inbox_keys::{InboxKeySettings, KEY_SIZE, parse_key};

/// No file with a key is longer, in bytes.
const LIMIT: usize = 256;

/// Resolves the paths of `[inbox]`, and reads its keys.
pub(super) fn read(inbox: &mut InboxSettings, files: &Files, problems: &mut Problems) {
    inbox.resolve(files.directory());
    for at in 0..inbox.encryption.len() {
        let (before, rest) = inbox.encryption.split_at_mut(at);
        let Some(settings) = rest.first_mut() else { return };
        settings.key = read_key(settings, files, problems);
        let same = |other: &&InboxKeySettings| {
            other.key.as_ref().zip(settings.key.as_ref()).is_some_and(|(other, key)| other.same_as(key))
        };
        if let Some(other) = before.iter().find(same) {
            let message = format!("is the same as the key \"{}\"", other.id);
            problems.warning(settings.place.clone(), message, "a rotation needs a second key: remove one of the two");
        }
    }
}

fn read_key(settings: &InboxKeySettings, files: &Files, problems: &mut Problems) -> Option<Secret> {
    let (path, place) = (&settings.file, || settings.place.clone());
    let content = files.read(path, LIMIT).map_err(|error| {
        let message = format!("{} cannot be read: {error}", path.display());
        problems.error(place(), message, advice(&error, path));
    });
    let content = content.ok()?;
    warn_if_readable(path, place(), problems);
    let Some(key) = parse_key(&content) else {
        let message = format!("{} holds no key: it has {} bytes", path.display(), content.len());
        let digits = 2 * KEY_SIZE;
        let fix = format!(
            "a key is {KEY_SIZE} random bytes, or {digits} hexadecimal digits: openssl rand -hex {KEY_SIZE} > {}",
            path.display()
        );
        problems.error(place(), message, fix);
        return None;
    };
    if key.iter().all(|byte| Some(byte) == key.first()) {
        let message = format!("the key in {} is one byte repeated", path.display());
        problems.error(place(), message, format!("make a random one: openssl rand -hex {KEY_SIZE}"));
        return None;
    }
    if content.len() == KEY_SIZE && content.trim_ascii_end().iter().all(u8::is_ascii_hexdigit) {
        let message =
            format!("{} holds {KEY_SIZE} hexadecimal digits, which count as {KEY_SIZE} bytes", path.display());
        let fix =
            "a key in digits has twice as many: where the file was cut off, put it back before anything is stored";
        problems.warning(place(), message, fix);
    }
    Some(Secret::new(key))
}

fn advice(error: &io::Error, path: &Path) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!(
            "make it, readable by this user alone: openssl rand -hex {KEY_SIZE} > {}; where deliveries are stored already, \
             put back the key that they were encrypted with",
            path.display()
        ),
        io::ErrorKind::FileTooLarge => "is this the right file?".to_owned(),
        _ => "check the path (it is relative to the configuration file) and the permissions".to_owned(),
    }
}
