//! A captured request: a file with the bytes of one HTTP/1.1 message. It is read leniently, because captures go through
//! editors and terminals; what is odd about one is said.

use std::borrow::Cow;

use crate::explain::{BodyEnd, quoted_start};
use crate::wire::head::HeadLimits;

use super::offline::Written;
use super::strict::{self, HeadRefusal};
use super::unchunk::{ChunksEnd, unchunk};

/// So many characters of a line are shown that is none.
const SHOWN: usize = 80;

/// A request, and what is odd about the capture.
#[derive(Debug)]
pub(super) struct CapturedRequest<'b> {
    pub(super) request: Written,
    pub(super) oddities: Vec<String>,
    /// All bytes behind the head, where Content-Length says fewer.
    beyond: Option<&'b [u8]>,
    /// Where the chunks break off.
    broken: Option<String>,
    /// What the proxy refuses it for before it looks at the signature.
    pub(super) refusal: Option<HeadRefusal>,
}

impl CapturedRequest<'_> {
    /// What an explanation is to know of the end of the body.
    pub(super) fn end(&self) -> BodyEnd<'_> {
        match (&self.broken, self.beyond) {
            (Some(words), _) => BodyEnd::Broken(words),
            (None, Some(whole)) => BodyEnd::Beyond(whole),
            (None, None) => BodyEnd::AsSaid,
        }
    }
}

/// Where a capture comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CaptureSource {
    /// A file: the bytes as they were sent, if nothing has changed them.
    File(HeadLimits),
    /// A process that has kept it: its head was good, and its body has no chunks any more.
    Process,
}

/// Takes a message apart.
///
/// # Errors
/// A sentence for the user.
pub(super) fn parse(bytes: &[u8], source: CaptureSource) -> Result<CapturedRequest<'_>, String> {
    let mut oddities = Vec::new();
    let blank = bytes.iter().take_while(|byte| b"\r\n".contains(byte)).count();
    let bytes = bytes.get(blank..).unwrap_or_default();
    let (end, start) =
        end_of_head(bytes).ok_or("there is no empty line after the header fields: is this a raw HTTP request?")?;
    let head = bytes.get(..end).unwrap_or_default();
    if memchr::memchr(b'\r', head).is_none() && start - end == 2 {
        oddities.push(
            "the head has LF line ends: the capture went through an editor, so the body may have, too".to_owned(),
        );
    }
    let lines: Vec<&[u8]> =
        head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect();
    let (first, fields) = lines.split_first().map_or((&b""[..], &[][..]), |(first, fields)| (*first, fields));
    let mut words = first.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).map(String::from_utf8_lossy);
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err("the first line is no request line (POST /path HTTP/1.1)".to_owned());
    };
    let request = Written { method: method.into_owned(), target: absolute(&target), ..Written::default() };
    let mut captured = CapturedRequest { request, oddities, beyond: None, broken: None, refusal: None };
    let framing = captured.read_fields(fields)?;
    if let CaptureSource::File(limits) = source {
        captured.judge(&lines, limits);
    }
    let after = bytes.get(start..).unwrap_or_default();
    if source == CaptureSource::Process {
        captured.request.body = after.to_vec();
    } else {
        captured.frame(after, framing);
    }
    Ok(captured)
}

/// Where the head ends and where the body begins: at the first empty line, however its line ends are written.
fn end_of_head(bytes: &[u8]) -> Option<(usize, usize)> {
    let found = memchr::memchr_iter(b'\n', bytes).find_map(|at| {
        let after = bytes.get(at + 1..)?;
        let length = if after.starts_with(b"\n") { 1 } else { 2 };
        (after.starts_with(b"\n") || after.starts_with(b"\r\n")).then_some((at, at + 1 + length))
    });
    found.map(|(at, start)| (if at > 0 && bytes.get(at - 1) == Some(&b'\r') { at - 1 } else { at }, start))
}

/// How the head says that the body ends.
#[derive(Clone, Copy, Debug, Default)]
struct SaidFraming {
    /// The length, where all fields that say one say the same.
    length: Option<usize>,
    chunked: bool,
}

impl<'b> CapturedRequest<'b> {
    fn read_fields(&mut self, fields: &[&[u8]]) -> Result<SaidFraming, String> {
        let (mut lengths, mut chunked) = (Vec::new(), false);
        // A line that goes on from the one before is refused by the proxy, and no part of any value here.
        for line in fields.iter().filter(|line| !line.starts_with(b" ") && !line.starts_with(b"\t")) {
            let colon = memchr::memchr(b':', line)
                .ok_or_else(|| format!("a header field without a colon: `{}`", quoted_start(line, SHOWN)))?;
            let (name, value) = (line.get(..colon).unwrap_or_default(), line.get(colon + 1..).unwrap_or_default());
            let (name, value) = (String::from_utf8_lossy(name), value.trim_ascii());
            match name.trim().to_ascii_lowercase().as_str() {
                "content-length" => lengths.push(length(value)),
                "transfer-encoding" => chunked |= value.to_ascii_lowercase().ends_with(b"chunked"),
                _ => {}
            }
            self.request.headers.push(&name, value);
        }
        let same = lengths.iter().all(|length| Some(length) == lengths.first());
        Ok(SaidFraming { length: lengths.first().copied().flatten().filter(|_| same), chunked })
    }

    /// What the parser of the proxy says of the head.
    fn judge(&mut self, lines: &[&[u8]], limits: HeadLimits) {
        let (refusal, repairs) = strict::judge(lines, limits);
        self.refusal = refusal;
        if repairs.host {
            self.oddities.push("the capture has no Host: a request without it is refused (host_invalid)".to_owned());
        }
        if repairs.version {
            self.oddities.push("the capture is not of HTTP/1.1, which is what comes to the guard".to_owned());
        }
    }

    /// Takes the body out of what follows the head.
    fn frame(&mut self, after: &'b [u8], framing: SaidFraming) {
        let mut body = Cow::Borrowed(after);
        match framing.length {
            _ if framing.chunked => match unchunk(after) {
                Some(read) => {
                    body = Cow::Owned(read.payload);
                    match read.end {
                        ChunksEnd::Last { behind: 0 } => {}
                        ChunksEnd::Last { behind } => {
                            self.oddities.push(format!("{} follow the last chunk: left out", bytes(behind)));
                        }
                        ChunksEnd::Broken(what) => {
                            self.oddities.push(format!("the chunked body {what}"));
                            self.broken = Some(what);
                        }
                    }
                }
                None => {
                    self.oddities.push("the body is not chunked although the head says so: taken as it is".to_owned())
                }
            },
            Some(length) if length < after.len() => {
                let more = bytes(after.len() - length);
                self.oddities.push(format!("the file has {more} more than Content-Length says: left out"));
                body = Cow::Borrowed(after.get(..length).unwrap_or_default());
                self.beyond = Some(after);
            }
            Some(length) if length > after.len() => {
                let missing = bytes(length - after.len());
                self.oddities.push(format!("the body lacks {missing}: it is shorter than Content-Length says"));
            }
            None if !after.trim_ascii().is_empty() && self.refusal.is_none() => {
                self.oddities.push("the head says no length: without Content-Length no server reads a body".to_owned());
            }
            _ => {}
        }
        self.request.body = body.into_owned();
    }
}

/// So many bytes, in words.
fn bytes(number: usize) -> String {
    if number == 1 { "1 byte".to_owned() } else { format!("{number} bytes") }
}

/// 1*DIGIT (RFC 9110 section 8.6).
fn length(value: &[u8]) -> Option<usize> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    core::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

/// The target in origin-form.
fn absolute(target: &str) -> String {
    let rest = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"));
    match rest.map(|rest| rest.find('/').and_then(|at| rest.get(at..))) {
        None => target.to_owned(),
        Some(path) => path.unwrap_or("/").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { size: 16 << 10, fields: 100, target: 8 << 10 };

    fn read(bytes: &[u8]) -> CapturedRequest<'_> {
        parse(bytes, CaptureSource::File(LIMITS)).unwrap()
    }

    #[test]
    fn captures_are_read_as_they_were_meant() {
        let plain = read(b"POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok\n");
        assert_eq!((plain.request.method.as_str(), plain.request.target.as_str()), ("POST", "/a?b"));
        assert_eq!(plain.request.body, b"ok");
        assert!(plain.oddities.concat().contains("1 byte more"));
        let chunked =
            read(b"POST http://x/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
        assert_eq!((chunked.request.target.as_str(), chunked.request.body.as_slice()), ("/a", &b"ok"[..]));
        let edited = read(b"POST / HTTP/1.1\nHost: x\nContent-Length: 9\n\nok");
        assert_eq!((edited.request.body.as_slice(), edited.oddities.len()), (&b"ok"[..], 2));
        for bytes in [&b"{}"[..], b"\r\n\r\n", b"POST\r\n\r\n"] {
            assert!(parse(bytes, CaptureSource::Process).is_err());
        }
    }

    /// An empty line in the body is not the end of a head whose line ends an editor has changed.
    #[test]
    fn a_head_ends_at_its_first_empty_line() {
        let edited = read(b"POST / HTTP/1.1\nHost: x\n\na\r\n\r\nb");
        assert_eq!(edited.request.body, b"a\r\n\r\nb");
        let exact = read(b"\r\nPOST / HTTP/1.1\r\nHost: x\r\nA: \xff\r\n\r\n\n\nb");
        assert_eq!(
            (exact.request.body.as_slice(), exact.request.headers.view().unique("A")),
            (&b"\n\nb"[..], Ok(Some(&b"\xff"[..])))
        );
    }

    /// What a process has kept has no chunks, whatever its head says.
    #[test]
    fn the_body_of_a_kept_request_is_taken_as_it_is() {
        let bytes = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{}";
        let kept = parse(bytes, CaptureSource::Process).unwrap();
        assert!(kept.oddities.is_empty() && kept.request.body == b"{}", "{:?}", kept.oddities);
    }
}
