//! Answers to what was sent: where one ends, and how many there were of each kind.

use memchr::memmem;

/// One whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The status.
    pub status: u16,
    /// The word in the proxy's own JSON: what went wrong, or `duplicate`. Empty for other bodies.
    pub word: &'a str,
    /// Whether the connection ends with it.
    pub closes: bool,
    /// Its length in bytes.
    pub length: usize,
}

/// The first answer in `bytes`, or nothing if it is not whole. Bodies have a length: the proxy and the application that
/// this program brings along send no others.
///
/// # Errors
/// What came is not HTTP/1.1, or has no length.
pub fn parse(bytes: &[u8]) -> Result<Option<Answer<'_>>, String> {
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let head = &bytes[..end + 2];
    let odd = || format!("unexpected answer: {:?}", String::from_utf8_lossy(&head[..head.len().min(200)]));
    let status = head.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3)).ok_or_else(odd)?;
    let status = std::str::from_utf8(status).ok().and_then(|text| text.parse().ok()).ok_or_else(odd)?;
    let length = field(head, b"content-length").and_then(|value| value.trim().parse::<usize>().ok()).ok_or_else(odd)?;
    let closes = field(head, b"connection").is_some_and(|value| value.trim().eq_ignore_ascii_case("close"));
    let length = end + 4 + length;
    let Some(body) = bytes.get(end + 4..length) else { return Ok(None) };
    Ok(Some(Answer { status, word: word(body), closes, length }))
}

fn field<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a str> {
    let mut from = 0;
    while let Some(at) = memmem::find(&head[from..], b"\r\n") {
        let line = &head[from..from + at];
        from += at + 2;
        if line.len() > name.len() && line[name.len()] == b':' && line[..name.len()].eq_ignore_ascii_case(name) {
            return std::str::from_utf8(&line[name.len() + 1..]).ok();
        }
    }
    None
}

fn word(body: &[u8]) -> &str {
    let start = [&b"{\"error\":\""[..], b"{\"status\":\""].iter().find_map(|open| body.strip_prefix(*open));
    let text = start.and_then(|rest| memchr::memchr(b'"', rest).map(|end| &rest[..end]));
    text.and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
}

/// How many answers of each kind.
#[derive(Debug, Default)]
pub struct Tally(Vec<(u16, String, u64)>);

impl Tally {
    /// Counts one.
    pub fn count(&mut self, answer: Answer<'_>) {
        match self.0.iter_mut().find(|(status, word, _)| *status == answer.status && word == answer.word) {
            Some((_, _, count)) => *count += 1,
            None => self.0.push((answer.status, answer.word.to_owned(), 1)),
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|(_, _, count)| count).sum()
    }

    /// As a JSON object: `{"401 unauthorized": 7}`.
    pub fn json(&self) -> String {
        let each =
            self.0.iter().map(|(status, word, count)| format!("\"{}\":{count}", format!("{status} {word}").trim()));
        format!("{{{}}}", each.collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_or_not() {
        let bytes = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 23\r\nConnection: close\r\n\r\n{\"error\":\"unauthorized\"HTTP";
        let answer = parse(bytes).unwrap().unwrap();
        assert_eq!(answer, Answer { status: 401, word: "unauthorized", closes: true, length: bytes.len() - 4 });
        for end in 0..answer.length {
            assert_eq!(parse(&bytes[..end]).unwrap(), None);
        }
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err() && parse(b"no\r\n\r\n").is_err());
        let mut tally = Tally::default();
        tally.count(answer);
        tally.count(answer);
        tally.count(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap().unwrap());
        assert_eq!((tally.json().as_str(), tally.total()), (r#"{"401 unauthorized":2,"200":1}"#, 3));
    }
}
