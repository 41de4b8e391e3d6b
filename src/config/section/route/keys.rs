//! `secrets` and `public_keys` of a route: references to bytes that stand elsewhere.

use std::path::PathBuf;

use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::config::secret::Secret;
use crate::config::shown::looks_like_a_secret;
use crate::config::token::read_keys_url;
use crate::config::units::{shorten, show_instant};
use crate::gate::verify::Validity;
use crate::now::Now;

/// A reference to a secret or a public key.
#[derive(Clone, Debug)]
pub struct KeySettings {
    /// Name of the key, unique in its route; the application gets it in `X-Countersign-Key-Id`.
    pub id: String,
    /// The name that tokens have for it (`kid`).
    pub name: Option<String>,
    /// Where the bytes are.
    pub source: KeySource,
    /// When it counts.
    pub validity: Validity,
    /// Where the source is written.
    pub place: Place,
    /// When its file was written, in unix seconds; nothing for one that is in no file. [`crate::config::load()`] says so.
    pub written: Option<i64>,
    /// Whether a pairing may write its file: then it need not be there yet.
    pub can_be_paired: bool,
    /// Whether its file is not there yet, and a pairing is awaited. [`crate::config::load()`] says so.
    pub awaits_pairing: bool,
    /// Whether a line end has been left out at the end of the bytes. [`crate::config::load()`] says so.
    pub line_end_left_out: bool,
}

/// Where the bytes of a key are.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// In a file; relative to the directory of the configuration file.
    File(PathBuf),
    /// In an environment variable.
    Env(String),
    /// In the configuration itself.
    Value(Secret),
    /// At a URL at which the sender publishes it.
    Url(String),
    /// At a URL that deliveries name, within what the scheme pins.
    Named,
    /// The same, fetched with the credential in this file; relative to the directory of the configuration file.
    NamedWith(PathBuf),
}

/// More keys than this at once are not a rotation.
const KEY_LIMIT: usize = 16;

/// The keys under `list` of a route, or `None` when there is no such list.
pub(super) fn read(route: &Reader<'_>, list: &str) -> Option<Vec<KeySettings>> {
    let example = format!("{list} = [{{ id = \"1\", file = \"secrets/github\" }}]");
    let readers = route.tables_like(list, &example)?;
    if readers.is_empty() || readers.len() > KEY_LIMIT {
        let message = format!("has {} keys", readers.len());
        let fix = format!("give from 1 to {KEY_LIMIT}: {list} = [{{ id = \"1\", file = \"…\" }}]");
        route.error(list, message, fix);
    }
    let mut keys: Vec<KeySettings> = Vec::new();
    let mut failed = false;
    for reader in readers.into_iter().take(KEY_LIMIT) {
        let id = id(&reader, &keys);
        let name = name(&reader);
        let source = source(&reader, list != "public_keys");
        let validity = validity(&reader);
        failed |= reader.failed();
        let file = ["file", "env", "value"].into_iter().find(|key| reader.has(key));
        let file = file.unwrap_or(if list == "public_keys" && reader.has("url") { "url" } else { "file" });
        let place = reader.place(file);
        if let (Some(id), Some(source)) = (id, source) {
            keys.push(KeySettings {
                id,
                name,
                source,
                validity,
                place,
                written: None,
                can_be_paired: false,
                awaits_pairing: false,
                line_end_left_out: false,
            });
        }
        reader.finish();
    }
    if failed {
        route.mark_failed();
    }
    Some(keys)
}

/// The name of a key, which no other has.
pub(crate) fn id(reader: &Reader<'_>, others: &[KeySettings]) -> Option<String> {
    reader.require("id", "add id = \"2026-11\": it tells keys apart, in logs and in X-Countersign-Key-Id");
    let id = reader.string("id")?;
    if !(1..=64).contains(&id.len()) || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        let message = format!("\"{}\" is not a name for a key", shorten(id));
        reader.error("id", message, "use 1 to 64 letters, digits, \"-\", \"_\" and \".\"; never the secret itself");
        return None;
    }
    if looks_like_a_secret(id) {
        let fix = "if it is one, exchange it and write a name like \"2026-11\": ids are in logs, metrics and \
                   X-Countersign-Key-Id";
        reader.warning("id", "looks like a secret, and ids are shown", fix);
    }
    if others.iter().any(|other| other.id == id) {
        reader.error(
            "id",
            format!("\"{id}\" is the id of another key of this route"),
            "give each key an id of its own",
        );
    }
    Some(id.to_owned())
}

/// The name that tokens have for the key.
fn name(reader: &Reader<'_>) -> Option<String> {
    let name = reader.string("kid")?;
    if !(1..=256).contains(&name.len()) || name.chars().any(char::is_control) {
        reader.error("kid", "is not a name for a key", "copy the value of `kid` from the header of a token");
        return None;
    }
    Some(name.to_owned())
}

fn source(reader: &Reader<'_>, secret: bool) -> Option<KeySource> {
    let sources: &[&str] = if secret { &["file", "env", "value"] } else { &["file", "env", "value", "url"] };
    let written: Vec<&str> = sources.iter().copied().filter(|key| reader.has(key)).collect();
    match written.as_slice() {
        ["file"] => match reader.string("file")? {
            "" => {
                reader.error("file", "is empty", "name the file, relative to the configuration file");
                None
            }
            path => Some(KeySource::File(PathBuf::from(path))),
        },
        ["env"] => match reader.string("env")? {
            name if name.is_empty() || name.contains(['=', '\0', '$']) => {
                reader.error("env", "is not the name of a variable", "write the name alone: env = \"GITHUB_SECRET\"");
                None
            }
            name => Some(KeySource::Env(name.to_owned())),
        },
        ["value"] => {
            let value = reader.string("value")?;
            if secret {
                let message = "the secret stands in the configuration, where more people and programs read it";
                reader.warning("value", message, "this works, but move it to a file: file = \"secrets/…\"");
            }
            Some(KeySource::Value(Secret::new(value.as_bytes().to_vec())))
        }
        ["url"] => read_keys_url(reader, "url").map(KeySource::Url),
        [] => {
            reader.error_at(reader.here(), "says nowhere where the key is", "add file = \"…\" (or env, or value)");
            None
        }
        _ => {
            let message = format!("{} exclude each other", written.join(" and "));
            reader.error_at(reader.here(), message, "keep one of them");
            None
        }
    }
}

fn validity(reader: &Reader<'_>) -> Validity {
    let validity = Validity { not_before: reader.datetime("not_before"), not_after: reader.datetime("not_after") };
    if let Validity { not_before: Some(start), not_after: Some(end) } = validity
        && start >= end
    {
        reader.error("not_after", "is not later than not_before: the key would never count", "correct one of the two");
    }
    validity
}

/// For `check`: when a key counts.
pub(super) fn described(key: &KeySettings, now: Now) -> String {
    let show = show_instant;

    let seconds = i64::try_from(now.unix.as_secs()).unwrap_or(i64::MAX);
    let Validity { not_before, not_after } = key.validity;
    let from = not_before.map(|start| format!(" from {}", show(start))).unwrap_or_default();
    let until = not_after.map(|end| format!(" until {}", show(end))).unwrap_or_default();
    match (not_before, not_after) {
        _ if key.awaits_pairing => "awaits its secret: countersign pair ROUTE".to_owned(),
        (_, Some(end)) if seconds >= end => format!("expired at {}", show(end)),
        (Some(start), _) if seconds < start => format!("does not count yet: it counts{from}{until}"),
        _ => format!("counts{from}{until}"),
    }
}

/// The keys that the sender of a scheme publishes, for a route that names none.
pub(super) fn published(source: KeySource, place: Place) -> KeySettings {
    KeySettings {
        id: "published".to_owned(),
        name: None,
        source,
        validity: Validity::default(),
        place,
        written: None,
        can_be_paired: false,
        awaits_pairing: false,
        line_end_left_out: false,
    }
}
