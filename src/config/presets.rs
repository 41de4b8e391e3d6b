//! The schemes that are built in: the same text as `[scheme.NAME]` of a configuration file, and further names of them.

use std::sync::{Arc, LazyLock, OnceLock};

use crate::config::document::Document;
use crate::config::reader::Reader;
use crate::config::scheme::read_scheme;
use crate::gate::verify::Scheme;

/// The text of all presets: paragraphs of one scheme each.
const TEXT: &str = concat!(include_str!("presets-fields.toml"), "\n", include_str!("presets.toml"));

/// A preset, which is read when it is asked for: a process needs few of them.
struct Preset {
    name: &'static str,
    /// Its table, with the comment above.
    text: &'static str,
    scheme: OnceLock<Option<Arc<Scheme>>>,
}

impl Preset {
    fn of(paragraph: &'static str) -> Option<Self> {
        let text = paragraph.trim();
        Some(Self { name: text.lines().find_map(header_name)?, text, scheme: OnceLock::new() })
    }

    fn scheme(&self) -> Option<Arc<Scheme>> {
        self.scheme.get_or_init(|| self.read()).clone()
    }

    fn read(&self) -> Option<Arc<Scheme>> {
        let document = Document::parse("presets.toml", self.text).ok()?;
        let root = Reader::root(&document);
        let table = root.table("scheme")?.table(self.name)?;
        read_scheme(self.name, &table).map(Arc::new)
    }
}

/// In the order of their text.
static PRESETS: LazyLock<Vec<Preset>> = LazyLock::new(|| TEXT.split("\n\n").filter_map(Preset::of).collect());

/// Further names of presets, each with the name of its preset.
static ALIASES: LazyLock<Vec<(&'static str, &'static str)>> = LazyLock::new(|| {
    let lines = TEXT.split("\n[alias]\n").nth(1).unwrap_or_default().lines();
    lines.filter_map(|line| line.split_once(" = ")).map(|(alias, name)| (alias, name.trim_matches('"'))).collect()
});

/// Further names of presets, each with the name of its preset: other names of a sender, and senders that sign in the same
/// way. A scheme of a configuration may have such a name, and is then meant by it.
pub fn aliases() -> impl Iterator<Item = (&'static str, &'static str)> {
    ALIASES.iter().copied()
}

/// The names of the presets, in the order of their text.
pub fn preset_names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|preset| preset.name)
}

fn find(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

/// A preset, by its name or by an alias.
#[must_use]
pub fn preset(name: &str) -> Option<Arc<Scheme>> {
    find(without_alias(name))?.scheme()
}

/// The name of the preset that is meant.
#[must_use]
pub fn without_alias(name: &str) -> &str {
    aliases().find(|(alias, _)| *alias == name).map_or(name, |(_, preset)| preset)
}

/// The text of a preset with the comment above it: a table that can be copied into a configuration file under another
/// name.
#[must_use]
pub fn preset_text(name: &str) -> Option<&'static str> {
    find(name).map(|preset| preset.text)
}

fn header_name(line: &'static str) -> Option<&'static str> {
    line.trim().strip_prefix("[scheme.")?.strip_suffix(']')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::gate::verify::ToldApart;

    #[test]
    fn every_preset_reads_without_a_problem() {
        let document = Document::parse("presets.toml", TEXT).unwrap();
        let root = Reader::root(&document);
        let tables = root.table("scheme").unwrap();
        let mut count = 0;
        for (name, table) in tables.named_tables() {
            assert!(read_scheme(name, &table).is_some(), "{name}");
            assert!(table.has("description"), "{name}");
            let status = table.string("status").unwrap();
            let standings = ["sdk", "vector", "source", "document", "third-party", "from memory", "generic"];
            assert!(standings.contains(&status), "{name}");
            let told_apart = preset(name).unwrap().told_apart();
            assert_eq!(table.has("equal_bytes"), matches!(told_apart, ToldApart::Bytes(_)), "{name}");
            table.finish();
            count += 1;
        }
        let written = root.table("alias").unwrap();
        for (alias, name) in aliases() {
            assert_eq!(written.string(alias), Some(name));
            assert!(preset_names().any(|preset| preset == name), "{alias} = {name}");
            assert!(preset_names().all(|preset| preset != alias), "{alias}");
            assert_eq!(preset(alias), preset(name));
        }
        written.finish();
        root.finish();
        assert_eq!(document.into_problems().to_string(), "");
        assert_eq!(preset_names().count(), count);
        assert!(count >= 160 && aliases().count() > 40, "{count}");
    }

    #[test]
    fn the_text_of_a_preset_is_a_table_of_its_own() {
        for name in preset_names() {
            let text = preset_text(name).unwrap();
            assert!(text.starts_with("# "), "{name}: {text}");
            let document = Document::parse("copy.toml", text).unwrap();
            let root = Reader::root(&document);
            let (read, table) = root.table("scheme").unwrap().named_tables().pop().unwrap();
            assert_eq!(read, name);
            assert_eq!(read_scheme(name, &table), preset(name).as_deref().cloned());
        }
    }
}
