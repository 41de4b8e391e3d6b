//! What is to be written into a text, and how it is written: in lines as YAML, or in brackets as JSON.

use core::fmt::Write;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ManifestValue {
    /// Text; quoted where it could be taken for something else.
    Text(String),
    /// A number or a truth value.
    Plain(String),
    /// Keys and values, at least one.
    Map(Vec<(String, Self)>),
    /// Items, at least one.
    List(Vec<Self>),
}

impl ManifestValue {
    /// Text.
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A number.
    pub(super) fn number(number: impl Into<u64>) -> Self {
        Self::Plain(number.into().to_string())
    }

    /// A truth value.
    #[must_use]
    pub(super) fn truth(truth: bool) -> Self {
        Self::Plain(truth.to_string())
    }

    /// Keys and values.
    pub(super) fn map<const N: usize>(entries: [(&str, Self); N]) -> Self {
        Self::Map(entries.map(|(key, value)| (key.to_owned(), value)).to_vec())
    }

    /// Lines of texts.
    pub(super) fn texts(items: &[&str]) -> Self {
        Self::List(items.iter().map(|item| Self::text(*item)).collect())
    }

    /// As lines, of which all but the first are indented by `indent` blanks; without an end of line.
    #[must_use]
    pub(super) fn lines(&self, indent: usize) -> String {
        let margin = format!("\n{}", " ".repeat(indent));
        match self {
            Self::Text(text) => scalar(text),
            Self::Plain(text) => text.clone(),
            Self::Map(entries) => {
                let line = |(key, value): &(String, Self)| format!("{}:{}", scalar(key), value.behind_key(indent));
                entries.iter().map(line).collect::<Vec<_>>().join(&margin)
            }
            Self::List(items) => {
                let line = |item: &Self| format!("- {}", item.lines(indent + 2));
                items.iter().map(line).collect::<Vec<_>>().join(&margin)
            }
        }
    }

    /// What follows `key:` on a line that is indented by `indent` blanks.
    #[must_use]
    pub(super) fn behind_key(&self, indent: usize) -> String {
        match self {
            Self::Map(_) => format!("\n{}{}", " ".repeat(indent + 2), self.lines(indent + 2)),
            // As kubectl and most people write it: dashes stand below the key.
            Self::List(items) if items.iter().all(|item| matches!(item, Self::Text(_))) => format!(" {}", self.flow()),
            Self::List(_) => format!("\n{}{}", " ".repeat(indent), self.lines(indent)),
            Self::Text(_) | Self::Plain(_) => format!(" {}", self.lines(indent)),
        }
    }

    /// As JSON, on one line.
    #[must_use]
    pub(super) fn flow(&self) -> String {
        match self {
            Self::Text(text) => quoted(text),
            Self::Plain(text) => text.clone(),
            Self::Map(entries) => {
                let pair = |(key, value): &(String, Self)| format!("{}: {}", quoted(key), value.flow());
                format!("{{{}}}", entries.iter().map(pair).collect::<Vec<_>>().join(", "))
            }
            Self::List(items) => format!("[{}]", items.iter().map(Self::flow).collect::<Vec<_>>().join(", ")),
        }
    }
}

/// Words that readers of YAML 1.1 take for truth values or null.
const WORDS: [&str; 10] = ["true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan"];

fn scalar(text: &str) -> String {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./:".contains(&byte));
    let is_word = WORDS.iter().any(|word| text.eq_ignore_ascii_case(word));
    if begins && plain && !is_word && !text.ends_with(':') { text.to_owned() } else { quoted(text) }
}

/// In double quotes, as in JSON, which is YAML, too.
#[must_use]
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if (c as u32) < 0x20 => {
                // Writing into a String cannot fail.
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_look_like_something_else_are_quoted() {
        for (text, written) in [
            ("countersign:1.0", "countersign:1.0"),
            ("/live", "/live"),
            ("yes", "\"yes\""),
            ("1", "\"1\""),
            ("", "\"\""),
            ("a: b", "\"a: b\""),
            ("a\"\\\n", "\"a\\\"\\\\\\u000a\""),
        ] {
            assert_eq!(ManifestValue::text(text).lines(0), written);
        }
    }

    #[test]
    fn lines_and_brackets() {
        let shape = ManifestValue::map([
            ("a", ManifestValue::number(1_u64)),
            (
                "b",
                ManifestValue::List(vec![ManifestValue::map([
                    ("c", ManifestValue::truth(true)),
                    ("d", ManifestValue::texts(&["x", "y"])),
                ])]),
            ),
        ]);
        assert_eq!(shape.lines(2), "a: 1\n  b:\n  - c: true\n    d: [\"x\", \"y\"]");
        assert_eq!(shape.flow(), r#"{"a": 1, "b": [{"c": true, "d": ["x", "y"]}]}"#);
    }
}
