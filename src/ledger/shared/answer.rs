//! What the answers of the engine mean.

use core::time::Duration;

use super::script::EngineOperation;
use super::trouble::EngineTrouble;
use crate::wire::resp::{self, RespValue};

/// What the engine says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineAnswer {
    /// The delivery is the claimant's.
    Yours,
    /// It has been accepted before, and is remembered for so long.
    Committed {
        /// What is left of the time for which it is remembered.
        left: Duration,
    },
    /// Another has claimed it.
    Taken,
    /// What was asked has been done, or there was nothing to do.
    Done,
    /// It has not been done: another has the claim by now.
    Fenced,
    /// So many tokens of a rate, fewer than were asked for if there is a wait.
    Tokens {
        /// How many.
        count: u32,
        /// Until there is another one.
        wait: Duration,
    },
    /// The engine does not have the script: it wants the text.
    NoScript,
    /// It was not asked, or could not do it.
    Failed(EngineTrouble),
}

impl EngineAnswer {
    /// Reads a whole reply.
    #[must_use]
    pub fn of(operation: EngineOperation, reply: &[u8]) -> Self {
        let mut values = resp::values(reply);
        let first = values.next();
        if let Some(RespValue::Failure(error)) = first {
            return if error.starts_with(b"NOSCRIPT") {
                Self::NoScript
            } else {
                Self::Failed(EngineTrouble::of_error(error))
            };
        }
        let rest = (values.next(), values.next(), values.next());
        match (operation, first, rest) {
            (EngineOperation::Claim, Some(RespValue::Values(1)), (Some(RespValue::Integer(0)), None, _)) => Self::Yours,
            (EngineOperation::Claim, Some(RespValue::Values(2)), (Some(RespValue::Integer(1)), Some(left), None)) => {
                let RespValue::Integer(millis) = left else { return Self::Failed(EngineTrouble::Malformed) };
                Self::Committed { left: Duration::from_millis(u64::try_from(millis).unwrap_or(0)) }
            }
            (
                EngineOperation::Claim,
                Some(RespValue::Values(2)),
                (Some(RespValue::Integer(2)), Some(RespValue::Integer(_)), None),
            ) => Self::Taken,
            (EngineOperation::Take, Some(RespValue::Values(2)), (Some(count), Some(wait), None)) => {
                let (RespValue::Integer(count), RespValue::Integer(wait)) = (count, wait) else {
                    return Self::Failed(EngineTrouble::Malformed);
                };
                match (u32::try_from(count), u64::try_from(wait)) {
                    (Ok(count), Ok(wait)) => Self::Tokens { count, wait: Duration::from_micros(wait) },
                    _ => Self::Failed(EngineTrouble::Malformed),
                }
            }
            (EngineOperation::Commit, Some(RespValue::Integer(1 | 2)), (None, ..)) => Self::Done,
            (EngineOperation::Commit, Some(RespValue::Integer(0)), (None, ..)) => Self::Fenced,
            (EngineOperation::Release, Some(RespValue::Integer(_)), (None, ..)) => Self::Done,
            (EngineOperation::Ping, Some(RespValue::Text(b"PONG")), (None, ..)) => Self::Done,
            (EngineOperation::Asking, Some(RespValue::Text(b"OK")), (None, ..)) => Self::Done,
            _ => Self::Failed(EngineTrouble::Malformed),
        }
    }

    /// A word for it, as metrics have it.
    #[must_use]
    pub const fn result(self) -> EngineResult {
        match self {
            Self::Tokens { count: 0, .. } => EngineResult::Empty,
            Self::Yours | Self::Done | Self::Tokens { .. } => EngineResult::Done,
            Self::Committed { .. } => EngineResult::Duplicate,
            Self::Taken => EngineResult::InFlight,
            Self::Fenced => EngineResult::Fenced,
            Self::NoScript | Self::Failed(_) => EngineResult::Failed,
        }
    }
}

/// How an operation has ended, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineResult {
    /// Done: a claim is the claimant's.
    Done,
    /// The delivery had been accepted before.
    Duplicate,
    /// Another has it.
    InFlight,
    /// Another had taken it over.
    Fenced,
    /// There was no token.
    Empty,
    /// The engine could not do it, or not in time.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_means_one_thing() {
        use EngineOperation::{Claim, Commit, Ping, Release, Take};
        for (operation, reply, expected) in [
            (Claim, &b"*1\r\n:0\r\n"[..], EngineAnswer::Yours),
            (Claim, b"*2\r\n:1\r\n:1500\r\n", EngineAnswer::Committed { left: Duration::from_millis(1500) }),
            (Claim, b"*2\r\n:1\r\n:-1\r\n", EngineAnswer::Committed { left: Duration::ZERO }),
            (Claim, b"*2\r\n:2\r\n:7\r\n", EngineAnswer::Taken),
            (Claim, b"-NOSCRIPT No matching script.\r\n", EngineAnswer::NoScript),
            (Claim, b"-OOM command not allowed\r\n", EngineAnswer::Failed(EngineTrouble::OutOfMemory)),
            (Commit, b":1\r\n", EngineAnswer::Done),
            (Commit, b":2\r\n", EngineAnswer::Done),
            (Commit, b":0\r\n", EngineAnswer::Fenced),
            (Release, b":2\r\n", EngineAnswer::Done),
            (Take, b"*2\r\n:5\r\n:0\r\n", EngineAnswer::Tokens { count: 5, wait: Duration::ZERO }),
            (Take, b"*2\r\n:0\r\n:1500\r\n", EngineAnswer::Tokens { count: 0, wait: Duration::from_micros(1500) }),
            (Ping, b"+PONG\r\n", EngineAnswer::Done),
        ] {
            assert_eq!(EngineAnswer::of(operation, reply), expected, "{}", reply.escape_ascii());
        }
        // What a server could say that is none: it must never count as a yes.
        for (operation, reply) in [
            (Claim, &b"*0\r\n"[..]),
            (Claim, b"*1\r\n:1\r\n"),
            (Claim, b"*2\r\n:0\r\n:1\r\n"),
            (Claim, b"*2\r\n:1\r\n+a\r\n"),
            (Claim, b":0\r\n"),
            (Claim, b"+OK\r\n"),
            (Claim, b"_\r\n"),
            (Claim, b"*3\r\n:2\r\n:1\r\n:1\r\n"),
            (Take, b"*2\r\n:-1\r\n:0\r\n"),
            (Take, b"*1\r\n:1\r\n"),
            (Take, b"*2\r\n:1\r\n$1\r\n1\r\n"),
            (Take, b":1\r\n"),
            (Commit, b":3\r\n"),
            (Commit, b"*1\r\n:1\r\n"),
            (Ping, b"+OK\r\n"),
        ] {
            let answer = EngineAnswer::of(operation, reply);
            assert_eq!(answer, EngineAnswer::Failed(EngineTrouble::Malformed), "{}", reply.escape_ascii());
        }
    }
}
