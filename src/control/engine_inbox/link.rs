//! Keeps a connection to the engine: when it ends, another one is made.

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

use crate::inbox::engine::answers::InboxRefusal;
use crate::inbox::engine::scripts::{self, InboxKeys, InboxScript};
use crate::wire::resp::{self, RespValue};

use super::dial::{DialTerms, DialTrouble, Dialled};
use super::line::EngineLine;

/// Between two attempts to connect pass so many milliseconds, and at random up to as many more.
const PAUSE: u64 = 250;

/// The engine is asked so often what it keeps.
const EXAMINED: Duration = Duration::from_secs(10);

/// What the engine is asked by a script.
#[derive(Debug)]
pub(super) struct ScriptCall<'a> {
    pub(super) script: InboxScript,
    pub(super) arguments: Vec<&'a [u8]>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoReply {
    /// Nothing was sent.
    Unsent,
    /// It was sent, and may have been done.
    Unknown,
}

/// What changes with the connection, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LinkNews {
    /// There is one, and this is what a 202 means.
    Up(String),
    /// There is none, for this reason.
    Down(String),
}

/// The connection of a store to its engine.
#[derive(Debug)]
pub(super) struct StoreLink {
    terms: DialTerms,
    pub(super) keys: InboxKeys,
    line: Option<EngineLine>,
    /// How many connections there have been.
    pub(super) connections: u64,
    /// Not before then another connection is tried.
    next: Duration,
    examined: Duration,
    news: Vec<LinkNews>,
    told: Option<LinkNews>,
}

impl StoreLink {
    pub(super) fn new(terms: DialTerms) -> Self {
        let key = &terms.engine.key;
        let keys = InboxKeys::new(key.prefix(), &key.inbox_tag());
        Self {
            terms,
            keys,
            line: None,
            connections: 0,
            next: Duration::ZERO,
            examined: Duration::ZERO,
            news: Vec::new(),
            told: None,
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.terms.clock.monotonic()
    }

    /// By what order keys of routes are called.
    pub(super) fn lane(&self, route: &str, key: &[u8; 16]) -> String {
        if *key == [0; 16] { String::new() } else { self.terms.engine.key.inbox_lane(route, key) }
    }

    pub(super) const fn is_up(&self) -> bool {
        self.line.is_some()
    }

    pub(super) fn take_news(&mut self) -> Vec<LinkNews> {
        std::mem::take(&mut self.news)
    }

    /// Whether there is a connection; where it is time, one is made. `now_or_never`: without waiting for that time.
    pub(super) fn reach(&mut self, now_or_never: bool) -> bool {
        if self.line.is_some() {
            return self.stays_fit();
        }
        if self.now() < self.next && !now_or_never {
            return false;
        }
        match self.terms.dial() {
            Ok(Dialled { line, means }) => {
                self.line = Some(line);
                self.connections += 1;
                self.examined = self.now();
                self.tell(LinkNews::Up(means));
                true
            }
            Err(why) => {
                self.fail(&why);
                false
            }
        }
    }

    /// Asks now and then whether the engine keeps what is promised still: settings change while it runs.
    fn stays_fit(&mut self) -> bool {
        if self.now() < self.examined + EXAMINED {
            return true;
        }
        self.examined = self.now();
        let Some(line) = &mut self.line else { return false };
        match self.terms.examine(line) {
            Ok(means) => {
                self.tell(LinkNews::Up(means));
                true
            }
            Err(why) => {
                self.line = None;
                self.fail(&why);
                false
            }
        }
    }

    fn tell(&mut self, news: LinkNews) {
        if self.told.as_ref() != Some(&news) {
            self.told = Some(news.clone());
            self.news.push(news);
        }
    }

    fn fail(&mut self, why: &DialTrouble) {
        let mut random = [0; 1];
        let _ = SystemRandom::new().fill(&mut random);
        let jitter = PAUSE * u64::from(random.first().copied().unwrap_or(0)) / 255;
        self.next = self.now() + Duration::from_millis(PAUSE + jitter);
        self.tell(LinkNews::Down(why.to_string()));
    }

    /// Sends commands and gives their replies.
    pub(super) fn send(&mut self, commands: &[u8], count: usize) -> Result<Vec<Vec<u8>>, NoReply> {
        let Some(line) = &mut self.line else { return Err(NoReply::Unsent) };
        line.ask(commands, count).map_err(|trouble| {
            self.line = None;
            self.fail(&trouble.into());
            NoReply::Unknown
        })
    }

    /// Runs scripts, all sent at once. Those that the engine does not have are sent with their texts then.
    pub(super) fn call_all(&mut self, calls: &[ScriptCall<'_>]) -> Result<Vec<Vec<u8>>, NoReply> {
        let mut out = Vec::new();
        for call in calls {
            scripts::encode(&mut out, &self.keys, call.script, &call.arguments, false);
        }
        let mut replies = self.send(&out, calls.len())?;
        for (call, reply) in calls.iter().zip(&mut replies) {
            if is_unknown_script(reply) {
                out.clear();
                scripts::encode(&mut out, &self.keys, call.script, &call.arguments, true);
                *reply = self.send(&out, 1)?.pop().unwrap_or_default();
            }
        }
        Ok(replies)
    }

    /// Runs one script.
    pub(super) fn call(&mut self, script: InboxScript, arguments: &[&[u8]]) -> Result<Vec<u8>, NoReply> {
        let call = ScriptCall { script, arguments: arguments.to_vec() };
        Ok(self.call_all(&[call])?.pop().unwrap_or_default())
    }

    /// What the engine says is no answer, or that it cannot do what it was asked.
    pub(super) fn doubt(&mut self, refusal: &InboxRefusal) {
        self.line = None;
        self.next = self.now() + Duration::from_millis(PAUSE);
        self.tell(LinkNews::Down(refusal.to_string()));
    }
}

fn is_unknown_script(reply: &[u8]) -> bool {
    matches!(resp::values(reply).next(), Some(RespValue::Failure(error)) if error.starts_with(b"NOSCRIPT"))
}
