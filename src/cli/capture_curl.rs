//! Captures that curl has made, or would make: the output of `curl -v`, and a command line.

use crate::explain::quoted_start;

use super::capture_described::{DescribedRequest, OtherForm, WANTED, target_of};

/// So many characters of an argument are shown.
const SHOWN: usize = 40;

/// The lines behind `> ` are the head; what follows them is the body, unless curl goes on.
///
/// # Errors
/// A sentence for the user.
pub(super) fn verbose(text: &[u8]) -> Result<OtherForm, String> {
    let (mut rest, mut head) = (text, Vec::new());
    let mut ended = false;
    while let Some(line) = rest.split_inclusive(|byte| *byte == b'\n').next() {
        rest = rest.get(line.len()..).unwrap_or_default();
        let bare = line.trim_ascii_end();
        if bare == b">" {
            ended = true;
            break;
        }
        match bare.strip_prefix(b"> ") {
            Some(field) => head.extend_from_slice(&[field, b"\r\n"].concat()),
            None if bare.starts_with(b"* ") || bare.is_empty() || head.is_empty() => {}
            None => break,
        }
    }
    if head.is_empty() {
        return Ok(OtherForm::Raw);
    }
    let goes_on = [&b"* "[..], b"< ", b"{ [", b"} ["].iter().any(|start| rest.starts_with(start));
    let body = if goes_on || !ended { &b""[..] } else { rest };
    let small = head.to_ascii_lowercase();
    let says_length = memchr::memmem::find(&small, b"\r\ncontent-length:").is_some();
    let without =
        body.is_empty() && says_length && memchr::memmem::find(&small, b"\r\ncontent-length: 0\r\n").is_none();
    let remark = if without { ", which does not show the body: add it behind the empty line" } else { "" };
    Ok(OtherForm::Read(format!("the output of curl -v{remark}"), [&head, &b"\r\n"[..], body].concat()))
}

/// A command line with the quoting of a shell.
///
/// # Errors
/// A sentence for the user.
pub(super) fn command(text: &[u8]) -> Result<OtherForm, String> {
    let text =
        core::str::from_utf8(text).map_err(|_| "the capture is a command with bytes that are no UTF-8".to_owned())?;
    let words = words(text.trim_start_matches("$ "))?;
    let mut read = ReadCommand::default();
    let mut words = words.into_iter().skip(1);
    while let Some(word) = words.next() {
        let (name, joined) = split_option(&word);
        let takes = TAKING.iter().any(|known| *known == name);
        let value = if takes { joined.or_else(|| words.next()) } else { None };
        read.take(&name, value.as_deref(), &word)?;
    }
    let described = read.described()?;
    Ok(OtherForm::Read("a command of curl".to_owned(), described.written()?))
}

/// Options with a value.
const TAKING: [&str; 20] = [
    "-X",
    "--request",
    "-H",
    "--header",
    "-d",
    "--data",
    "--data-raw",
    "--data-binary",
    "--data-ascii",
    "--json",
    "--url",
    "-A",
    "--user-agent",
    "-o",
    "--output",
    "-m",
    "--max-time",
    "--connect-timeout",
    "-w",
    "--write-out",
];

/// `--name=value` is no form of curl's; `-Xvalue` is.
fn split_option(word: &str) -> (String, Option<String>) {
    match word.get(..2) {
        Some(short) if !word.starts_with("--") && word.len() > 2 && TAKING.contains(&short) => {
            (short.to_owned(), word.get(2..).map(str::to_owned))
        }
        _ => (word.to_owned(), None),
    }
}

/// What a command says of its request.
#[derive(Default)]
struct ReadCommand {
    method: Option<String>,
    url: Option<String>,
    headers: Vec<(String, String)>,
    data: Option<String>,
    json: bool,
}

impl ReadCommand {
    fn take(&mut self, name: &str, value: Option<&str>, word: &str) -> Result<(), String> {
        let missing =
            || format!("the capture is a command of curl with `{}` and nothing behind it", quoted_start(word, SHOWN));
        match name {
            "-X" | "--request" => self.method = Some(value.ok_or_else(missing)?.to_owned()),
            "--url" => self.url = Some(value.ok_or_else(missing)?.to_owned()),
            "-A" | "--user-agent" => {
                self.headers.push(("User-Agent".to_owned(), value.ok_or_else(missing)?.to_owned()));
            }
            "-H" | "--header" => {
                let value = value.ok_or_else(missing)?;
                let (name, value) = value.split_once(':').ok_or_else(missing)?;
                self.headers.push((name.trim().to_owned(), value.trim().to_owned()));
            }
            "-d" | "--data" | "--data-raw" | "--data-binary" | "--data-ascii" | "--json" => {
                let value = value.ok_or_else(missing)?;
                self.json |= name == "--json";
                if value.starts_with('@') && name != "--data-raw" {
                    return Err(format!(
                        "the capture is a command of curl whose body stands in a file (`{}`): {WANTED}",
                        quoted_start(value, SHOWN)
                    ));
                }
                self.data = Some(match self.data.take() {
                    Some(before) if name != "--json" => format!("{before}&{value}"),
                    Some(before) => format!("{before}{value}"),
                    None => value.to_owned(),
                });
            }
            _ if TAKING.contains(&name) => {}
            "-s" | "-S" | "-sS" | "-v" | "-i" | "-k" | "-L" | "-f" | "-g" | "-N" | "--silent" | "--show-error"
            | "--verbose" | "--include" | "--insecure" | "--location" | "--fail" | "--compressed" | "--globoff"
            | "--http1.1" | "--http2" | "--no-buffer" => {}
            _ if name.starts_with('-') => {
                let option = quoted_start(word, SHOWN);
                return Err(format!(
                    "the capture is a command of curl with an option that is not known here (`{option}`): {WANTED}"
                ));
            }
            _ => self.url = Some(word.to_owned()),
        }
        Ok(())
    }

    fn described(self) -> Result<DescribedRequest, String> {
        let url = self.url.ok_or("the capture is a command of curl without a URL")?;
        let has = |wanted: &str| self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
        let mut headers = Vec::new();
        let authority = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest).split(['/', '?']).next();
        if let Some(host) = authority.filter(|_| !has("Host")) {
            headers.push(("Host".to_owned(), host.to_owned()));
        }
        if self.data.is_some() && !has("Content-Type") {
            let form = if self.json { "application/json" } else { "application/x-www-form-urlencoded" };
            headers.push(("Content-Type".to_owned(), form.to_owned()));
        }
        headers.extend(self.headers);
        let method = self.method.unwrap_or_else(|| if self.data.is_some() { "POST" } else { "GET" }.to_owned());
        let target = target_of(if url.contains("://") { url.clone() } else { format!("http://{url}") }.as_str());
        Ok(DescribedRequest { method, target, headers, body: self.data.unwrap_or_default().into_bytes() })
    }
}

/// The words of a command: quotes, `$'...'`, backslashes, lines that go on.
fn words(text: &str) -> Result<Vec<String>, String> {
    let unclosed = || "the capture is a command of curl in which a quote is not closed".to_owned();
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        match character {
            '\\' => match rest.next() {
                Some('\n') | None => {}
                Some('\r') => drop(rest.next()),
                Some(other) => word.get_or_insert_default().push(other),
            },
            '\'' => {
                let inside = until_quote(&mut rest).ok_or_else(unclosed)?;
                word.get_or_insert_default().push_str(&inside);
            }
            '"' => word.get_or_insert_default().push_str(&double_quoted(&mut rest).ok_or_else(unclosed)?),
            '$' if rest.as_str().starts_with('\'') => {
                rest.next();
                word.get_or_insert_default().push_str(&dollar_quoted(&mut rest).ok_or_else(unclosed)?);
            }
            '$' | '`' | '|' | ';' | '<' | '>' => {
                return Err(format!(
                    "the capture is a command with `{}` outside of single quotes, which a shell would act on: {WANTED}",
                    quoted_start(character.to_string(), 1)
                ));
            }
            white if white.is_whitespace() => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

fn until_quote(rest: &mut core::str::Chars<'_>) -> Option<String> {
    let mut out = String::new();
    loop {
        match rest.next()? {
            '\'' => return Some(out),
            other => out.push(other),
        }
    }
}

fn double_quoted(rest: &mut core::str::Chars<'_>) -> Option<String> {
    let mut out = String::new();
    loop {
        match rest.next()? {
            '"' => return Some(out),
            '\\' => match rest.next()? {
                '\n' => {}
                escaped @ ('"' | '\\' | '$' | '`') => out.push(escaped),
                other => out.extend(['\\', other]),
            },
            other => out.push(other),
        }
    }
}

/// The quoting that browsers write for bodies with special characters.
fn dollar_quoted(rest: &mut core::str::Chars<'_>) -> Option<String> {
    let mut out = String::new();
    loop {
        match rest.next()? {
            '\'' => return Some(out),
            '\\' => match rest.next()? {
                'n' => out.push('\n'),
                'r' => out.push('\r'),
                't' => out.push('\t'),
                'u' => {
                    let digits = rest.as_str().get(..4)?;
                    out.push(u32::from_str_radix(digits, 16).ok().and_then(char::from_u32)?);
                    rest.nth(3);
                }
                other => out.push(other),
            },
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[track_caller]
    fn assert_reads(form: OtherForm, expected: &str) {
        let OtherForm::Read(_, bytes) = form else { panic!("it is read") };
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    #[test]
    fn the_output_of_curl_is_read() {
        let text = "* Connected to x\n> POST /a HTTP/1.1\n> Host: x\n> Content-Length: 2\n>\n* upload completely sent off\n< HTTP/1.1 401\n";
        assert_reads(verbose(text.as_bytes()).unwrap(), "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n");
        let with_body = "> POST /a HTTP/1.1\r\n> Host: x\r\n> \r\n{\n}";
        assert_reads(verbose(with_body.as_bytes()).unwrap(), "POST /a HTTP/1.1\r\nHost: x\r\n\r\n{\n}");
    }

    #[test]
    fn a_command_is_read() {
        let text = "curl -X POST 'https://x.example/a?b=c#d' \\\n  -H 'X-S: it'\\''s' \\\n  -H \"A: \\\"b\\\"\" --data-raw $'{\\n\\u0041}' --compressed";
        assert_reads(
            command(text.as_bytes()).unwrap(),
            "POST /a?b=c HTTP/1.1\r\nHost: x.example\r\nContent-Type: application/x-www-form-urlencoded\r\nX-S: it's\r\nA: \"b\"\r\nContent-Length: 4\r\n\r\n{\nA}",
        );
        assert_reads(command(b"curl x.example").unwrap(), "GET / HTTP/1.1\r\nHost: x.example\r\n\r\n");
        for (text, what) in [
            ("curl x -d @body.json", "stands in a file (`@body.json`)"),
            ("curl x --cert c.pem", "not known here (`--cert`)"),
            ("curl x -d 'a", "not closed"),
            ("curl x -H \"A: b\" | jq", "`|` outside"),
            ("curl x -X", "nothing behind it"),
            ("curl -s", "without a URL"),
        ] {
            let why = command(text.as_bytes()).map(drop).unwrap_err();
            assert!(why.contains(what), "{why}");
        }
    }
}
