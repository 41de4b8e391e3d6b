//! What `init` writes: secrets that it makes, files that only their owner may read, and the configuration.

use std::fmt::Write as _;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::gate::verify::{Encoding, KeyEncoding, Kind, Scheme};

/// Bytes of a secret that is made here.
const LENGTH: usize = 32;

/// A secret of 32 random bytes, written as the sender of the scheme writes its own.
///
/// # Errors
/// The system has no randomness.
pub(super) fn random_secret(scheme: &Scheme) -> Result<Zeroizing<String>, String> {
    let mut bytes = Zeroizing::new([0; LENGTH]);
    SystemRandom::new().fill(&mut *bytes).map_err(|_| "the system has no randomness".to_owned())?;
    let hexadecimal = || {
        bytes.iter().fold(Zeroizing::new(String::with_capacity(2 * LENGTH)), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    };
    let prefix = scheme.secret.strip_prefix.first().map(String::as_str).unwrap_or_default();
    Ok(match (scheme.kind, scheme.secret.encoding) {
        // User and password.
        (Kind::Basic, _) => Zeroizing::new(format!("webhook:{}", *hexadecimal())),
        (_, KeyEncoding::Encoded(Encoding::Base64 | Encoding::Base64Url)) => {
            Zeroizing::new(format!("{prefix}{}", STANDARD.encode(*bytes)))
        }
        _ => Zeroizing::new(format!("{prefix}{}", *hexadecimal())),
    })
}

/// Writes a file that only its owner may read. One that is there already is left alone.
///
/// # Errors
/// Of the file system, with the path.
pub(super) fn create(path: &Path, content: &[u8]) -> Result<(), String> {
    let cannot = |error: io::Error| format!("{}: {error}", path.display());
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
        made.map_err(|error| format!("the folder {} for {}: {error}", parent.display(), path.display()))?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(cannot)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(cannot)
}

/// Writes the configuration; it may be read by others, for it holds no secret.
///
/// # Errors
/// It is there already and must not be replaced, or of the file system.
pub(super) fn write_configuration(path: &Path, text: &str, force: bool) -> Result<(), String> {
    if path.exists() && !force {
        return Err(format!(
            "{} exists and was left as it is: name another file with --config, or replace it with --force",
            path.display()
        ));
    }
    let written = match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => std::fs::create_dir_all(parent).and_then(|()| std::fs::write(path, text)),
        None => std::fs::write(path, text),
    };
    written.map_err(|error| format!("{}: {error}", path.display()))
}
