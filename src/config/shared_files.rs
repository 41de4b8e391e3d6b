//! The secrets of `[shared]`, from their files.

use std::io;

use zeroize::Zeroizing;

use crate::config::files::{Files, warn_if_readable};
use crate::config::problem::Problems;
use crate::config::secret::Secret;
use crate::config::section::inbox_keys::{KEY_SIZE, parse_key};
use crate::config::section::shared::{SecretFile, SharedSettings};

/// No file is longer, in bytes.
const LIMIT: usize = 4 << 10;

/// Resolves the paths of `[shared]`, and reads its files.
pub(super) fn read(shared: &mut SharedSettings, files: &Files, problems: &mut Problems) {
    shared.resolve(files.directory());
    let make = format!("make it once, and give the same to every replica: openssl rand -hex {KEY_SIZE}");
    if let Some(content) = read_file(&shared.key, &make, files, problems) {
        shared.key.content = key(&content, &shared.key, problems);
    }
    if let Some(file) = &mut shared.password {
        let fix = "put the password of the engine's user there";
        let content = read_file(file, fix, files, problems);
        file.content = content.and_then(|content| {
            let password = Secret::new(content).without_line_end();
            if password.bytes().is_empty() {
                problems.error(file.place.clone(), format!("{} is empty", file.path.display()), fix);
                return None;
            }
            Some(password)
        });
    }
}

fn read_file(file: &SecretFile, fix: &str, files: &Files, problems: &mut Problems) -> Option<Zeroizing<Vec<u8>>> {
    match files.read(&file.path, LIMIT) {
        Ok(content) => {
            warn_if_readable(&file.path, file.place.clone(), problems);
            Some(content)
        }
        Err(error) => {
            let message = format!("{} cannot be read: {error}", file.path.display());
            let fix = match error.kind() {
                io::ErrorKind::NotFound => fix,
                io::ErrorKind::FileTooLarge => "is this the right file?",
                _ => "check the path (it is relative to the configuration file) and the permissions",
            };
            problems.error(file.place.clone(), message, fix);
            None
        }
    }
}

fn key(content: &[u8], file: &SecretFile, problems: &mut Problems) -> Option<Secret> {
    let digits = 2 * KEY_SIZE;
    let (message, fix) = match parse_key(content) {
        None => (
            format!("{} holds no key: it has {} bytes", file.path.display(), content.len()),
            format!("a key is {KEY_SIZE} random bytes, or {digits} hexadecimal digits: openssl rand -hex {KEY_SIZE}"),
        ),
        Some(key) if key.iter().all(|byte| Some(byte) == key.first()) => (
            format!("the key in {} is one byte repeated", file.path.display()),
            format!("make a random one: openssl rand -hex {KEY_SIZE}"),
        ),
        Some(key) => return Some(Secret::new(key)),
    };
    problems.error(file.place.clone(), message, fix);
    None
}
