//! The beginning of a connection to the engine: who we are, whether the server is fit, and whether we may do what is needed.

use std::time::Duration;

use super::EngineTerms;
use crate::edge::runtime::stream::ByteStream;
use crate::gate::token_bucket::Rate;
use crate::ledger::shared::script::{self, EngineOperation, EngineRequest, TokenRequest};
use crate::ledger::shared::server::{self, FitServer, SECTIONS, ServerMode};
use crate::ledger::shared::{EngineAnswer, EngineTrouble};
use crate::wire::resp::{self, RespValue};

/// A lease of the name that is tried: it is given back at once.
const TRIAL: Duration = Duration::from_secs(1);

/// Replies to a greeting: to `HELLO`, the sections of `INFO`, the scripts, a claim, its release, and a request for tokens.
const REPLIES: usize = 1 + SECTIONS.len() + EngineOperation::SCRIPTS.len() + 3;

/// A rate of no route.
const TRIAL_RATE: Rate = Rate::per_second(1, 1);

/// Begins a connection: all is asked at once, and answered before `deadline`.
///
/// # Errors
/// Why the engine cannot be used.
pub(super) async fn greet<S: ByteStream>(
    stream: &mut S,
    terms: &EngineTerms,
    worker: usize,
    deadline: Duration,
) -> Result<FitServer, EngineTrouble> {
    let asked = questions(terms, worker);
    let length = asked.len();
    let (written, _) = stream.write_all(asked, 0..length, deadline).await;
    written.map_err(|error| trouble_of(&error))?;
    let mut replies = Replies::default();
    // Without a greeting the other replies mean nothing.
    refused(replies.next(stream, deadline).await?, true)?;
    for _ in 1..REPLIES {
        replies.next(stream, deadline).await?;
    }
    let mode = if terms.place.is_cluster() { ServerMode::Cluster } else { ServerMode::Standalone };
    judge(&replies.all().collect::<Vec<_>>(), mode)
}

/// Replies, as they arrive.
#[derive(Debug, Default)]
pub(super) struct Replies {
    buf: Vec<u8>,
    /// Where each whole one ends.
    ends: Vec<usize>,
}

impl Replies {
    /// The next reply, whole, before `deadline`.
    ///
    /// # Errors
    /// It does not come.
    pub(super) async fn next<S: ByteStream>(
        &mut self,
        stream: &mut S,
        deadline: Duration,
    ) -> Result<&[u8], EngineTrouble> {
        let start = self.ends.last().copied().unwrap_or(0);
        loop {
            let rest = self.buf.get(start..).unwrap_or_default();
            if let Some(length) = resp::reply_length(rest).map_err(|_| EngineTrouble::Malformed)? {
                self.ends.push(start + length);
                return Ok(self.buf.get(start..start + length).unwrap_or_default());
            }
            if self.buf.len() == self.buf.capacity() {
                self.buf.reserve(self.buf.len().max(8 << 10));
            }
            let (read, back) = stream.read(std::mem::take(&mut self.buf), deadline).await;
            self.buf = back;
            match read {
                Ok(0) => return Err(EngineTrouble::Closed),
                Ok(_) => {}
                Err(error) => return Err(trouble_of(&error)),
            }
        }
    }

    /// All of them so far.
    fn all(&self) -> impl Iterator<Item = &[u8]> {
        let starts = core::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.buf.get(start..*end).unwrap_or_default())
    }
}

fn questions(terms: &EngineTerms, worker: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 << 10);
    let name = format!("countersign-{:016x}-{worker}", terms.process);
    let user = terms.username.as_deref().unwrap_or("default").as_bytes();
    match &terms.password {
        Some(password) => {
            resp::command(&mut out, &[b"HELLO", b"3", b"AUTH", user, password, b"SETNAME", name.as_bytes()]);
        }
        None => resp::command(&mut out, &[b"HELLO", b"3", b"SETNAME", name.as_bytes()]),
    }
    SECTIONS.iter().for_each(|section| resp::command(&mut out, &[b"INFO", section.as_bytes()]));
    for operation in EngineOperation::SCRIPTS {
        resp::command(&mut out, &[b"SCRIPT", b"LOAD", operation.text().as_bytes()]);
    }
    let names = terms.key.probe(terms.process, worker);
    for operation in [EngineOperation::Claim, EngineOperation::Release] {
        let request = EngineRequest {
            operation,
            names: &names,
            token: (terms.process, worker, 0),
            time: TRIAL,
            with_text: false,
        };
        script::encode(&mut out, &terms.key, &request);
    }
    let name = terms.key.probe_rate();
    script::encode_take(&mut out, &terms.key, TokenRequest { name, rate: TRIAL_RATE, count: 0, with_text: false });
    out
}

/// Judges the replies, one to each question.
fn judge(replies: &[&[u8]], mode: ServerMode) -> Result<FitServer, EngineTrouble> {
    let mut replies = replies.iter();
    refused(replies.next().copied().unwrap_or_default(), true)?;
    let mut info = String::new();
    for reply in replies.by_ref().take(SECTIONS.len()) {
        refused(reply, false)?;
        match resp::values(reply).next() {
            Some(RespValue::Text(text)) => info.push_str(&String::from_utf8_lossy(text)),
            _ => return Err(EngineTrouble::Malformed),
        }
    }
    let server = server::judge(&info, mode)?;
    // A user that may not load scripts can still send them whole.
    let mut replies = replies.skip(EngineOperation::SCRIPTS.len());
    // A node of a cluster may not have the slot of what is tried: whether it is permitted is judged before.
    let elsewhere = |answer| mode == ServerMode::Cluster && answer == EngineAnswer::Failed(EngineTrouble::Cluster);
    match EngineAnswer::of(EngineOperation::Claim, replies.next().copied().unwrap_or_default()) {
        EngineAnswer::Yours | EngineAnswer::NoScript => {}
        answer if elsewhere(answer) => {}
        EngineAnswer::Failed(trouble) => return Err(trouble),
        _ => return Err(EngineTrouble::Malformed),
    }
    for operation in [EngineOperation::Release, EngineOperation::Take] {
        match EngineAnswer::of(operation, replies.next().copied().unwrap_or_default()) {
            answer if elsewhere(answer) => {}
            EngineAnswer::Failed(trouble) => return Err(trouble),
            _ => {}
        }
    }
    Ok(server)
}

/// An error in place of an answer. `first`: a server that does not know the command is too old.
fn refused(reply: &[u8], first: bool) -> Result<(), EngineTrouble> {
    match resp::values(reply).next() {
        Some(RespValue::Failure(error)) if first && error.starts_with(b"ERR unknown command") => {
            Err(EngineTrouble::TooOld)
        }
        Some(RespValue::Failure(error)) => Err(EngineTrouble::of_error(error)),
        Some(RespValue::Push(_)) => Err(EngineTrouble::Malformed),
        _ => Ok(()),
    }
}

pub(super) fn trouble_of(error: &std::io::Error) -> EngineTrouble {
    match error.kind() {
        std::io::ErrorKind::TimedOut => EngineTrouble::Silent,
        // An alert: with TLS 1.3 a server refuses a certificate when it has answered.
        std::io::ErrorKind::InvalidData => EngineTrouble::TlsFailed,
        _ => EngineTrouble::Closed,
    }
}
