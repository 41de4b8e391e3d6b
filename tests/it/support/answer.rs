//! Reads answers strictly, by their own framing, and says whether they were whole.

use std::io::{self, Read};

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the framing says that this was all of it.
    pub(crate) whole: bool,
}

impl Answer {
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(values.len() < 2, "one {name} at most: {values:?}");
        values.first().copied()
    }

    pub(crate) fn closes(&self) -> bool {
        self.field("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// What has been received and belongs to no answer yet.
#[derive(Default)]
pub(crate) struct AnswerReader(Vec<u8>);

impl AnswerReader {
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }

    /// Reads one answer. A connection that ends inside the head is an error, one that ends inside the body an answer
    /// that is not whole.
    pub(crate) fn read(&mut self, stream: &mut impl Read, to_head: bool) -> io::Result<Answer> {
        let end = loop {
            if let Some(at) = memchr::memmem::find(&self.0, b"\r\n\r\n") {
                break at + 4;
            }
            self.more(stream)?;
        };
        let head: Vec<u8> = self.0.drain(..end).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
        let line = lines.next().unwrap_or_default();
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.unwrap_or_else(|| panic!("a status line: {line:?}"));
        let fields =
            lines.filter_map(|line| line.split_once(": ")).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        let mut answer = Answer { status, fields, body: Vec::new(), whole: true };
        if !(to_head || matches!(status, 100..=199 | 204 | 304)) {
            match self.body(stream, &mut answer) {
                Ok(()) => {}
                Err(error) if is_end(&error) => answer.whole = false,
                Err(error) => return Err(error),
            }
        }
        Ok(answer)
    }

    fn body(&mut self, stream: &mut impl Read, answer: &mut Answer) -> io::Result<()> {
        if answer.field("Transfer-Encoding") == Some("chunked") {
            assert_eq!(answer.field("Content-Length"), None);
            loop {
                let line = self.line(stream)?;
                let size = usize::from_str_radix(&line, 16).unwrap_or_else(|_| panic!("a chunk size: {line:?}"));
                let chunk = self.exactly(stream, size)?;
                answer.body.extend_from_slice(&chunk);
                assert_eq!(self.line(stream)?, "");
                if size == 0 {
                    return Ok(());
                }
            }
        }
        if let Some(length) = answer.field("Content-Length") {
            let length: usize = length.parse().expect("a length");
            while self.0.len() < length {
                if let Err(error) = self.more(stream) {
                    answer.body = self.take();
                    return Err(error);
                }
            }
            answer.body = self.0.drain(..length).collect();
            return Ok(());
        }
        assert!(answer.closes(), "a body that ends with the connection, which stays: {answer:?}");
        while self.more(stream).is_ok() {}
        answer.body = self.take();
        Ok(())
    }

    fn line(&mut self, stream: &mut impl Read) -> io::Result<String> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.0, b"\r\n") {
                let line: Vec<u8> = self.0.drain(..at + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            self.more(stream)?;
        }
    }

    pub(crate) fn exactly(&mut self, stream: &mut impl Read, count: usize) -> io::Result<Vec<u8>> {
        while self.0.len() < count {
            self.more(stream)?;
        }
        Ok(self.0.drain(..count).collect())
    }

    fn more(&mut self, stream: &mut impl Read) -> io::Result<()> {
        let mut buf = [0; 16 << 10];
        loop {
            match stream.read(&mut buf) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.0.extend_from_slice(&buf[..count]);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}
