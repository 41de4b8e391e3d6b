//! Secrets that were copied together with what stood around them: markup, a line of a program or of a configuration file,
//! an option of a command. The names that stand there are not shown: only the form is.

use super::text;

/// A value with the form in which it stands in the file, in words that go on behind "wraps the value as".
pub(super) struct WrappedValue {
    pub(super) form: &'static str,
    pub(super) value: Vec<u8>,
}

/// No file has more values that are tried.
const MOST: usize = 24;
/// Forms that stand in each other: `Environment="NAME=value"`.
const DEEPEST: usize = 3;

const XML: &str = "XML (`<secret>...</secret>`)";
const HTML: &str = "text of HTML (`&amp;` for `&`)";
const JSON: &str = "the inside of a JSON string (escapes with backslashes)";
const MANIFEST: &str = "a manifest of Kubernetes (`stringData:`)";
const MANIFEST_DATA: &str = "a manifest of Kubernetes (`data:`, which is base64)";
const CODE: &str = "a line of a program (the value in quotes)";
const TABLE: &str = "a row of a table (`| NAME | value |`)";
const PAIR: &str = "`NAME:value`";
const COMMENTED: &str = "a value with a comment behind it";

/// Beginnings of lines that say what the form is, with its words.
const BEGINNINGS: [(&str, &str); 24] = [
    ("b'", "Python's notation of bytes (`b'...'`)"),
    ("b\"", "Python's notation of bytes (`b\"...\"`)"),
    ("$env:", "a line of PowerShell (`$env:NAME = '...'`)"),
    ("[Environment]::", "a line of PowerShell (`SetEnvironmentVariable('NAME', '...')`)"),
    ("define(", "a line of PHP (`define('NAME', '...')`)"),
    ("putenv(", "a line of PHP (`putenv('NAME=...')`)"),
    ("$", "a line of a program (`$NAME = '...'`)"),
    ("--env", "an option of docker (`--env NAME=value`)"),
    ("-e ", "an option of docker (`-e NAME=value`)"),
    ("ENV ", "a line of a Dockerfile (`ENV NAME=value`)"),
    ("ARG ", "a line of a Dockerfile (`ARG NAME=value`)"),
    ("Environment=", "a line of systemd (`Environment=NAME=value`)"),
    ("--from-literal", "an option of kubectl (`--from-literal=NAME=value`)"),
    ("--set", "an option of helm (`--set NAME=value`)"),
    ("setx ", "a line of Windows (`setx NAME value`)"),
    ("set -", "a line of fish (`set -x NAME value`)"),
    ("setenv ", "a line of csh (`setenv NAME value`)"),
    ("- ", "an item of a list (`- NAME=value`)"),
    ("* ", "an item of a list (`* value`)"),
    ("# ", "a comment (`# value`)"),
    ("// ", "a comment (`// value`)"),
    ("**", "bold text of Markdown (`**value**`)"),
    ("```", "a block of code of Markdown"),
    ("<!--", "a comment of XML (`<!-- value -->`)"),
];

/// Every value that such a text may hold.
pub(super) fn unwrapped(text: &[u8]) -> Vec<WrappedValue> {
    let mut found = Vec::new();
    let bare = text::trimmed(text);
    if markup(bare, &mut found) {
        return found;
    }
    manifest(bare, &mut found);
    if !bare.contains(&b'\n') {
        in_line(bare, None, DEEPEST, &mut found);
    }
    escaped(bare, &mut found);
    found.truncate(MOST);
    found
}

/// The form that a text has, for words about one whose value does not match either: only where hardly a secret has it.
pub(super) fn form_of(text: &[u8]) -> Option<&'static str> {
    let bare = text::trimmed(text);
    let mut found = Vec::new();
    if markup(bare, &mut found) {
        return Some(XML);
    }
    if is_manifest(bare) {
        return Some(MANIFEST);
    }
    let sure =
        ["b'", "b\"", "$env:", "[Environment]::", "define(", "putenv(", "--env", "Environment=", "--from-literal"];
    let begins = |start: &str| bare.starts_with(start.as_bytes());
    let known = BEGINNINGS.iter().find(|(start, _)| sure.contains(start) && begins(start));
    known.map(|(_, form)| *form).or_else(|| is_arrow(bare).then_some(CODE))
}

/// The texts between tags.
fn markup(text: &[u8], found: &mut Vec<WrappedValue>) -> bool {
    if text.first() != Some(&b'<') || memchr::memmem::find(text, b"</").is_none() || text.last() != Some(&b'>') {
        return false;
    }
    for piece in text.split(|byte| *byte == b'>').take(64) {
        let Some(open) = memchr::memrchr(b'<', piece) else { continue };
        let (inside, tag) = piece.split_at(open);
        let inside = match tag.strip_prefix(b"<![CDATA[") {
            Some(data) => data.strip_suffix(b"]]").unwrap_or(data),
            None => text::trimmed(inside),
        };
        if inside.is_empty() || found.len() >= MOST {
            continue;
        }
        found.push(WrappedValue { form: XML, value: inside.to_vec() });
        let plain = text::without_entities(inside);
        if plain != inside {
            found.push(WrappedValue { form: XML, value: plain });
        }
    }
    true
}

fn is_manifest(text: &[u8]) -> bool {
    let has = |part: &[u8]| memchr::memmem::find(text, part).is_some();
    has(b"\n") && (has(b"kind: Secret") || has(b"stringData:"))
}

/// The values of a manifest, as they are and decoded.
fn manifest(text: &[u8], found: &mut Vec<WrappedValue>) {
    if !is_manifest(text) {
        return;
    }
    for line in text.split(|byte| *byte == b'\n').take(64) {
        let Some(value) = text::assigned(text::trimmed(line)) else { continue };
        found.push(WrappedValue { form: MANIFEST, value: value.to_vec() });
        if let Some(decoded) = text::base64(value) {
            found.push(WrappedValue { form: MANIFEST_DATA, value: text::trimmed(&decoded).to_vec() });
        }
    }
}

/// The values of one line, which may have another form inside.
fn in_line(line: &[u8], outer: Option<&'static str>, depth: usize, found: &mut Vec<WrappedValue>) {
    if depth == 0 || found.len() >= MOST {
        return;
    }
    if let Some(cells) = line.strip_prefix(b"|").and_then(|rest| rest.strip_suffix(b"|")) {
        let cells = cells.split(|byte| *byte == b'|').take(8).map(text::trimmed).filter(|cell| !cell.is_empty());
        let bare = cells.map(|cell| text::unquoted(cell).unwrap_or(cell));
        found.extend(bare.map(|cell| WrappedValue { form: TABLE, value: cell.to_vec() }));
        return;
    }
    let starts = |start: &str| line.strip_prefix(start.as_bytes());
    let known = BEGINNINGS.iter().find_map(|(start, form)| Some((*form, starts(start)?)));
    let own = known.map(|(form, _)| form).or_else(|| quoted_name(line).then_some(CODE));
    let form = outer.or(own);
    let mut add = |form: &'static str, value: &[u8]| {
        let value = text::trimmed(value);
        let value = text::unquoted(value).unwrap_or(value);
        if !value.is_empty() && value != line {
            found.push(WrappedValue { form, value: value.to_vec() });
        }
    };
    let mut inside: Vec<&[u8]> = Vec::new();
    if let Some((form, rest)) = known {
        let form = outer.unwrap_or(form);
        let rest = rest.trim_ascii();
        let end = [&b"'"[..], b"\"", b"**", b"```", b"-->"].into_iter().find_map(|end| rest.strip_suffix(end));
        add(form, end.unwrap_or(rest));
        // What stands behind the name, in the forms that write it with a space.
        if let Some(at) = memchr::memrchr(b' ', rest) {
            add(form, rest.get(at + 1..).unwrap_or_default());
        }
        inside.push(rest.strip_prefix(b"=").unwrap_or(rest));
    }
    if let Some(last) = last_quoted(line) {
        add(form.unwrap_or(CODE), last);
        inside.push(last);
    }
    if let Some(value) = text::assigned(line) {
        if let Some(form) = form {
            add(form, value);
        }
        inside.push(value);
    }
    if let Some(at) = memchr::memmem::find(line, b" #") {
        let value = line.get(..at).unwrap_or_default();
        add(COMMENTED, value);
        text::assigned(value).into_iter().for_each(|value| add(COMMENTED, value));
    }
    if let Some(value) = behind_colon(line) {
        add(PAIR, value);
    }
    for text in inside.into_iter().map(text::trimmed).filter(|text| text.len() < line.len()) {
        in_line(text, form, depth - 1, found);
    }
}

/// What stands behind the one colon of `NAME:value`.
fn behind_colon(line: &[u8]) -> Option<&[u8]> {
    let at = memchr::memchr(b':', line)?;
    let (name, value) = (line.get(..at)?, line.get(at + 1..)?);
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
    (!name.is_empty() && name.iter().all(is_name) && !value.starts_with(b"//")).then_some(value)
}

fn is_arrow(line: &[u8]) -> bool {
    memchr::memmem::find(line, b"=>").is_some() && last_quoted(line).is_some()
}

/// Whether quotes stand in a line behind something else: those of a program.
fn quoted_name(line: &[u8]) -> bool {
    last_quoted(line).is_some_and(|last| last.len() + 2 < line.len())
}

/// What stands in the last pair of quotes of a line.
fn last_quoted(line: &[u8]) -> Option<&[u8]> {
    let end = line.iter().rposition(|byte| matches!(byte, b'\'' | b'"' | b'`'))?;
    let quote = *line.get(end)?;
    let start = memchr::memrchr(quote, line.get(..end)?)?;
    line.get(start + 1..end).filter(|inside| !inside.is_empty())
}

/// Entities and escapes in the whole text, outside of any markup.
fn escaped(text: &[u8], found: &mut Vec<WrappedValue>) {
    let plain = text::without_entities(text);
    if plain != text {
        found.push(WrappedValue { form: HTML, value: plain });
    }
    if text.contains(&b'\\') && !text.starts_with(b"\"") {
        let quoted = [b"\"", text, b"\""].concat();
        if let Ok(plain) = serde_json::from_slice::<String>(&quoted) {
            found.push(WrappedValue { form: JSON, value: plain.into_bytes() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_in_what_stands_around_it() {
        for (text, form) in [
            ("<secret>S3cret&amp;x</secret>", XML),
            ("<?xml version=\"1.0\"?>\n<a><b>other</b><c> S3cret&amp;x </c></a>", XML),
            ("<a><![CDATA[S3cret&x]]></a>", XML),
            ("S3cret&amp;x", HTML),
            ("S3cret\\u0026x", JSON),
            ("kind: Secret\nstringData:\n  hook: \"S3cret&x\"\n", MANIFEST),
            ("kind: Secret\ndata:\n  hook: UzNjcmV0Jng=\n", MANIFEST_DATA),
            ("b'S3cret&x'", "Python's notation of bytes (`b'...'`)"),
            ("$env:HOOK = 'S3cret&x'", "a line of PowerShell (`$env:NAME = '...'`)"),
            ("$env:HOOK=\"S3cret&x\";", "a line of PowerShell (`$env:NAME = '...'`)"),
            ("-e HOOK=S3cret&x", "an option of docker (`-e NAME=value`)"),
            ("-e HOOK=\"S3cret&x\"", "an option of docker (`-e NAME=value`)"),
            ("--env HOOK=S3cret&x", "an option of docker (`--env NAME=value`)"),
            ("--env=HOOK=S3cret&x", "an option of docker (`--env NAME=value`)"),
            ("ENV HOOK S3cret&x", "a line of a Dockerfile (`ENV NAME=value`)"),
            ("Environment=HOOK=S3cret&x", "a line of systemd (`Environment=NAME=value`)"),
            ("Environment=\"HOOK=S3cret&x\"", "a line of systemd (`Environment=NAME=value`)"),
            ("define('HOOK', 'S3cret&x');", "a line of PHP (`define('NAME', '...')`)"),
            ("'hook' => 'S3cret&x',", CODE),
            ("const hook = \"S3cret&x\";", CODE),
            ("os.environ['HOOK'] = 'S3cret&x'", CODE),
            ("- HOOK=S3cret&x", "an item of a list (`- NAME=value`)"),
            ("| hook | S3cret&x |", TABLE),
            ("**S3cret&x**", "bold text of Markdown (`**value**`)"),
            ("hook:S3cret&x", PAIR),
            ("HOOK=S3cret&x # of production", COMMENTED),
        ] {
            let found = unwrapped(text.as_bytes());
            let right = found.iter().find(|it| it.value == b"S3cret&x");
            assert_eq!(right.map(|it| it.form), Some(form), "{text}");
            assert!(found.len() <= MOST, "{text}");
        }
    }

    /// Each candidate costs a trial, and a secret as senders show it has none.
    #[test]
    fn secrets_as_they_are_shown_hold_nothing() {
        for text in ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "7f3Kq9vXw2LmPz8RtYb4", "aGVsbG8gd29ybGQ=", "a+b/c=="] {
            assert!(unwrapped(text.as_bytes()).is_empty() && form_of(text.as_bytes()).is_none(), "{text}");
        }
        let long = [&b"<a>"[..], &b"x</a><a>".repeat(2000), b"</a>"].concat();
        assert!(unwrapped(&long).len() <= MOST);
        assert!(unwrapped(&b"-e ".repeat(5000)).len() <= MOST);
    }
}
