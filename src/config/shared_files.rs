//! The secrets and certificates of `[shared]`, and those of `[upstream]`, from their files.

use std::io;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::config::certificates;
use crate::config::digest::digest_of_bytes;
use crate::config::files::{Files, warn_if_readable};
use crate::config::problem::Problems;
use crate::config::secret::Secret;
use crate::config::section::engine_address::EngineAddress;
use crate::config::section::inbox_keys::{KEY_SIZE, parse_key};
use crate::config::section::listener::tls::{CertificateSettings, FileSettings};
use crate::config::section::secret_file::SecretFile;
use crate::config::section::shared::SharedSettings;
use crate::config::section::shared_tls::LoadedTls;
use crate::config::section::upstream_tls::UpstreamTls;

/// No secret is longer, in bytes.
const LIMIT: usize = 4 << 10;

/// No file of certificates is longer, in bytes: that of a system has hundreds.
const PEM_LIMIT: usize = 2 << 20;

/// Resolves the paths of `[shared]`, and reads its files.
pub(super) fn read(shared: &mut SharedSettings, files: &Files, problems: &mut Problems) {
    shared.resolve(files.directory());
    let make = format!("make it once, and give the same to every replica: openssl rand -hex {KEY_SIZE}");
    if let Some(content) = read_file(&shared.key, &make, files, problems) {
        shared.key.content = key(&content, &shared.key, problems);
    }
    if let Some(tls) = &mut shared.tls {
        tls.loaded = read_tls(tls.ca.as_ref(), tls.pair.as_mut(), files, problems);
    }
    if let Some(file) = &mut shared.password {
        read_password(file, "put the password of the engine's user there", files, problems);
    }
    if let EngineAddress::Sentinels { password: Some(file), .. } = &mut shared.address {
        read_password(file, "put the password of the sentinels there", files, problems);
    }
}

/// Resolves the paths of `tls` in `[upstream]`, and reads its files. Applications are spoken to in HTTP/1.1.
pub(super) fn read_upstream(tls: &mut UpstreamTls, files: &Files, problems: &mut Problems) {
    tls.resolve(files.directory());
    tls.loaded = read_tls(tls.ca.as_ref(), tls.pair.as_mut(), files, problems).map(|mut loaded| {
        Arc::make_mut(&mut loaded.config).alpn_protocols = vec![b"http/1.1".to_vec()];
        loaded
    });
}

fn read_password(file: &mut SecretFile, fix: &str, files: &Files, problems: &mut Problems) {
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

/// Whom we trust as a server, and what we show it.
fn read_tls(
    ca: Option<&FileSettings>,
    pair: Option<&mut CertificateSettings>,
    files: &Files,
    problems: &mut Problems,
) -> Option<LoadedTls> {
    let mut contents = Vec::new();
    let roots = match ca {
        Some(ca) => {
            let bytes = read_pem(ca, files, problems)?;
            contents.extend_from_slice(&bytes);
            certificates::authorities(ca, &bytes, problems)?.0
        }
        None => certificates::system_authorities(|path| files.read(path, PEM_LIMIT).ok()),
    };
    let mut shown = None;
    if let Some(pair) = pair {
        let chain = read_pem(&pair.certificate, files, problems);
        let key = read_pem(&pair.key, files, problems).map(Secret::new);
        if key.is_some() {
            warn_if_readable(&pair.key.path, pair.key.place.clone(), problems);
        }
        chain.iter().for_each(|bytes| contents.extend_from_slice(bytes));
        key.iter().for_each(|key| contents.extend_from_slice(&digest_of_bytes(key.bytes())));
        let made = certificates::pair(pair, (chain.as_ref().map(|it| it.as_slice()), key.as_ref()), problems);
        let (key, facts) = made?;
        pair.facts = Some(facts);
        shown = Some(key);
    }
    Some(LoadedTls { config: certificates::client(roots, shown)?, digest: digest_of_bytes(&contents) })
}

fn read_pem(file: &FileSettings, files: &Files, problems: &mut Problems) -> Option<Zeroizing<Vec<u8>>> {
    let read = files.read(&file.path, PEM_LIMIT);
    if let Err(error) = &read {
        let message = format!("{} cannot be read: {error}", file.path.display());
        let fix = "check the path (it is relative to the configuration file) and the permissions";
        problems.error(file.place.clone(), message, fix);
    }
    read.ok()
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
