//! `[inbox] encryption`: the keys that stored deliveries are encrypted with.

use core::fmt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::config::digest::{Digest, digest_of_bytes};
use crate::config::lines::line;
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::config::secret::Secret;
use crate::config::units::shorten;

/// Bytes of a key.
pub const KEY_SIZE: usize = 32;

/// More keys than this at once are not a rotation.
const KEYS: usize = 16;

const EXAMPLE: &str = "keys = [{ id = \"2026-11\", file = \"secrets/inbox\" }]";

/// A key that stored deliveries are encrypted with.
#[derive(Clone, Debug)]
pub struct InboxKeySettings {
    /// Its name, which is in every file that it encrypts.
    pub id: String,
    /// The file, relative to the directory of the configuration file until it has been loaded.
    pub file: PathBuf,
    /// Where the file is configured.
    pub place: Place,
    /// The key itself. [`crate::config::load()`] reads it.
    pub key: Option<Secret>,
}

impl PartialEq for InboxKeySettings {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.key, &other.key) {
            (Some(ours), Some(theirs)) => ours.same_as(theirs),
            (None, None) => true,
            _ => false,
        };
        same && self.id == other.id && self.file == other.file
    }
}

impl Eq for InboxKeySettings {}

impl InboxKeySettings {
    /// Makes the path one that does not depend on where the process was started.
    pub(super) fn resolve(&mut self, directory: &Path) {
        self.file = directory.join(&self.file);
    }

    /// For comparison: a key with other bytes is another key.
    pub(crate) fn digest(&self) -> Digest {
        self.key.as_ref().map(|key| digest_of_bytes(key.bytes())).unwrap_or_default()
    }
}

/// The key in a file: 32 bytes, or 64 hexadecimal digits and perhaps the end of a line.
#[must_use]
pub fn parse_key(content: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if content.len() == KEY_SIZE {
        return Some(Zeroizing::new(content.to_vec()));
    }
    let digits = content.trim_ascii_end();
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut key = Zeroizing::new(Vec::with_capacity(KEY_SIZE));
    for pair in digits.chunks(2) {
        key.push(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?);
    }
    (digits.len() == 2 * KEY_SIZE).then_some(key)
}

/// The keys of `[inbox]`, the one that encrypts first; none without `encryption`.
pub(super) fn read(inbox: &Reader<'_>) -> Vec<InboxKeySettings> {
    let Some(reader) = inbox.table("encryption") else { return Vec::new() };
    reader.require("keys", &format!("add {EXAMPLE}"));
    let readers = reader.tables_like("keys", EXAMPLE).unwrap_or_default();
    if reader.has("keys") && !(1..=KEYS).contains(&readers.len()) && !reader.failed() {
        let message = format!("has {} keys", readers.len());
        reader.error("keys", message, format!("give from 1 to {KEYS}, the one that encrypts first: {EXAMPLE}"));
    }
    let mut keys: Vec<InboxKeySettings> = Vec::new();
    for reader in readers.into_iter().take(KEYS) {
        keys.extend(read_key(&reader, &keys));
        reader.finish();
    }
    reader.finish();
    keys
}

fn read_key(reader: &Reader<'_>, others: &[InboxKeySettings]) -> Option<InboxKeySettings> {
    reader.require("id", "add id = \"2026-11\": stored deliveries name their key by it");
    reader.require("file", "add file = \"secrets/inbox\", made by: openssl rand -hex 32 > secrets/inbox");
    let (id, file) = (reader.string("id"), reader.string("file"));
    let id = id?;
    if !(1..=64).contains(&id.len()) || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        let message = format!("\"{}\" is not a name for a key", shorten(id));
        reader.error("id", message, "use 1 to 64 letters, digits, \"-\", \"_\" and \".\"; never the key itself");
        return None;
    }
    if others.iter().any(|other| other.id == id) {
        reader.error("id", format!("\"{id}\" is the name of another key"), "give each key a name of its own");
        return None;
    }
    let file = file?;
    if file.is_empty() {
        reader.error("file", "is empty", "write the path of a file with the key");
        return None;
    }
    Some(InboxKeySettings { id: id.to_owned(), file: PathBuf::from(file), place: reader.place("file"), key: None })
}

/// For `check`.
pub(super) fn describe(out: &mut String, keys: &[InboxKeySettings]) -> fmt::Result {
    let Some((first, others)) = keys.split_first() else { return Ok(()) };
    line(out, "encryption", format_args!("on: heads and bodies are encrypted with the key \"{}\"", first.id))?;
    if !others.is_empty() {
        let ids: Vec<String> = others.iter().map(|key| format!("\"{}\"", key.id)).collect();
        line(out, "", format_args!("what was encrypted with {} is read, and encrypted anew", ids.join(", ")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::document::Document;

    fn read_text(keys: &str) -> (Vec<InboxKeySettings>, Vec<String>) {
        let text = format!("[inbox]\ndirectory = 'box'\nencryption = {keys}\n");
        let document = Document::parse("test.toml", &text).unwrap();
        let root = Reader::root(&document);
        let inbox = root.table("inbox").unwrap();
        let _ = inbox.string("directory");
        let keys = read(&inbox);
        inbox.finish();
        root.finish();
        (keys, document.into_problems().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn keys_are_read_in_their_order_and_described() {
        let (keys, problems) = read_text("{ keys = [{ id = 'b', file = 'new' }, { id = 'a', file = 'old' }] }");
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(keys.iter().map(|key| (&*key.id, key.place.line)).collect::<Vec<_>>(), [("b", 3), ("a", 3)]);
        let mut text = String::new();
        describe(&mut text, &keys).unwrap();
        assert!(text.contains("on: heads and bodies are encrypted with the key \"b\""), "{text}");
        assert!(text.contains("encrypted with \"a\" is read"), "{text}");
        let mut other = keys.clone();
        assert_eq!(other, keys);
        other[0].key = Some(Secret::new(vec![1; 32]));
        assert_ne!(other, keys);
        assert_ne!(other[0].digest(), keys[0].digest());
        assert!(!format!("{other:?}").contains("1, 1"), "the key is not shown");
    }

    #[test]
    fn each_mistake_is_named() {
        for (keys, expected) in [
            ("{}", "keys"),
            ("{ keys = [] }", "has 0 keys"),
            ("{ keys = [{ id = 'a' }] }", "openssl rand -hex 32"),
            ("{ keys = [{ file = 'a' }] }", "id"),
            ("{ keys = [{ id = 'a b', file = 'a' }] }", "not a name for a key"),
            ("{ keys = [{ id = 'a', file = '' }] }", "is empty"),
            ("{ keys = [{ id = 'a', file = 'x' }, { id = 'a', file = 'y' }] }", "the name of another key"),
            ("{ keys = [{ id = 'a', file = 'x', env = 'X' }] }", "env"),
            ("{ id = 'a', file = 'x' }", "keys"),
        ] {
            let (_, problems) = read_text(keys);
            assert!(problems.iter().any(|problem| problem.contains(expected)), "{keys}: {problems:?}");
        }
    }

    #[test]
    fn a_key_is_raw_or_hexadecimal() {
        assert_eq!(parse_key(&[7; 32]).unwrap()[..], [7; 32]);
        assert_eq!(parse_key(&b"0aFf".repeat(16)).unwrap()[..], [10, 255].repeat(16));
        assert_eq!(parse_key(&[&b"00".repeat(32)[..], b"\r\n"].concat()).unwrap()[..], [0; 32]);
        for wrong in [vec![], vec![7; 31], b"0g".repeat(32), b"00".repeat(33), b"0".repeat(63)] {
            assert!(parse_key(&wrong).is_none());
        }
    }
}
