//! Fields of a JSON body, each as a line with its name and a line with its value, as Amazon SNS signs them.
//!
//! From the signed bytes the fields can be told apart in one way: only the first value may have line ends, and it ends where
//! the second field begins, which is always there. Behind that, lines come in pairs, and the name in each pair says which
//! field it is.

use core::fmt;

use super::json::JsonPath;

/// The most fields.
const FIELDS: usize = 16;

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineField {
    /// The name, which is its path, too.
    pub path: JsonPath,
    /// Whether it can be missing.
    pub optional: bool,
}

/// Fields in the order in which they are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonLines {
    fields: Vec<LineField>,
}

impl JsonLines {
    /// Reads names that are separated by commas; `?` behind a name says that the field can be missing. Nothing where a name
    /// stands twice, one is no name, or one of the first two can be missing.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let field = |text: &str| {
            let (name, optional) = text.strip_suffix('?').map_or((text, false), |name| (name, true));
            let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            Some(LineField { path: JsonPath::parse(name).filter(|_| plain)?, optional })
        };
        let fields = text.split(',').map(field).collect::<Option<Vec<_>>>()?;
        let again = |(place, field): (usize, &LineField)| fields.iter().skip(place + 1).any(|f| f.path == field.path);
        let sound = (2..=FIELDS).contains(&fields.len())
            && !fields.iter().enumerate().any(again)
            && !fields.iter().take(2).any(|field| field.optional);
        sound.then_some(Self { fields })
    }

    /// The fields.
    #[must_use]
    pub fn fields(&self) -> &[LineField] {
        &self.fields
    }

    /// Whether the field at this path is always signed.
    #[must_use]
    pub fn always_has(&self, path: &JsonPath) -> bool {
        self.fields.iter().any(|field| field.path == *path && !field.optional)
    }
}

impl fmt::Display for JsonLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, field) in self.fields.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{}{}", field.path.text(), if field.optional { "?" } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_two_are_always_there_and_no_name_twice() {
        for text in ["a,b", "Message,MessageId,Subject?,Type", "a,b,c_d?"] {
            assert_eq!(JsonLines::parse(text).map(|lines| lines.to_string()).as_deref(), Some(text));
        }
        for text in ["", "a", "a?,b", "a,b?", "a,b,a", "a,b,a?", "a,,b", "a,b c", "a,b.c", "a,b\n", "a,*"] {
            assert_eq!(JsonLines::parse(text), None, "{text}");
        }
    }
}
