//! The names of a delivery, its states, and why it is where it is.

use core::fmt;
use core::str::FromStr;

/// The identity of a stored delivery, for its whole life. Ids of one directory grow strictly and are never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(pub u64);

/// No id is so large. Ids begin with the time: this is that of the year 6429.
pub const IDS_BELOW: u64 = 1 << 63;

/// Crockford's base 32, in lower case: no letter can be taken for a digit.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Characters of an id.
const ID_LENGTH: usize = 13;

impl DeliveryId {
    /// The id as 13 characters. Their order is that of the ids.
    #[must_use]
    pub fn text(self) -> [u8; ID_LENGTH] {
        let mut out = [b'0'; ID_LENGTH];
        let mut rest = self.0;
        for place in out.iter_mut().rev() {
            *place = ALPHABET[(rest & 31) as usize];
            rest >>= 5;
        }
        out
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(core::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

/// A text that is no delivery id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotADeliveryId;

impl fmt::Display for NotADeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a delivery id has 13 characters of 0-9 and a-z without i, l, o and u")
    }
}

impl core::error::Error for NotADeliveryId {}

impl FromStr for DeliveryId {
    type Err = NotADeliveryId;

    fn from_str(text: &str) -> Result<Self, NotADeliveryId> {
        if text.len() != ID_LENGTH {
            return Err(NotADeliveryId);
        }
        let mut id: u64 = 0;
        for byte in text.bytes() {
            let digit = ALPHABET.iter().position(|known| *known == byte.to_ascii_lowercase()).ok_or(NotADeliveryId)?;
            if id >> 59 != 0 {
                return Err(NotADeliveryId);
            }
            id = id << 5 | digit as u64;
        }
        Ok(Self(id))
    }
}

macro_rules! coded {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $code:literal;)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[doc = $doc])+ $variant,)+ }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word for people, logs and labels.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The number on disk. Numbers are not used again.
            #[must_use]
            pub const fn number(self) -> u8 {
                match self { $(Self::$variant => $number,)+ }
            }

            /// The value with this number.
            #[must_use]
            pub const fn of_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }

            /// The value with this word.
            #[must_use]
            pub fn of_code(code: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.code() == code)
            }
        }
    };
}

coded! {
    /// Where a stored delivery is in its life.
    DeliveryState {
        /// It is to be attempted, now or later.
        Waiting = 0, "waiting";
        /// It is not attempted any more: the application refused it, or the time for it is over.
        Dead = 1, "dead";
        /// What is stored of it is not what was written. It is kept and never attempted.
        Damaged = 2, "damaged";
    }
}

coded! {
    /// Why a delivery is in its state, or how its last attempt ended.
    DeliveryReason {
        /// It has not been attempted yet.
        New = 0, "new";
        /// The application answered with a status that asks for another attempt.
        Refused = 1, "answered";
        /// The application answered with a status after which attempts end (`dead_on`).
        RefusedByApplication = 2, "refused_by_application";
        /// The number of attempts has reached `attempts`.
        GaveUpAttempts = 3, "gave_up_attempts";
        /// It is older than `give_up_after`.
        GaveUpAge = 4, "gave_up_age";
        /// No connection could be made.
        Unreachable = 5, "unreachable";
        /// The answer did not come in time.
        TimedOut = 6, "timed_out";
        /// The connection ended before the answer.
        Closed = 7, "closed";
        /// The answer is not HTTP, or breaks a rule of it.
        MalformedAnswer = 8, "malformed_answer";
        /// It was found in a damaged file by `salvage`.
        Salvaged = 9, "salvaged";
        /// A part of it is missing or changed on disk.
        DamagedRecord = 10, "damaged";
        /// The attempt ended with the process.
        Interrupted = 11, "interrupted";
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        for id in [0, 1, 31, 32, 0xdead_beef, u64::MAX] {
            let text = DeliveryId(id).to_string();
            assert_eq!(text.len(), 13);
            assert_eq!(text.parse::<DeliveryId>(), Ok(DeliveryId(id)), "{text}");
            assert_eq!(text.to_uppercase().parse::<DeliveryId>(), Ok(DeliveryId(id)));
        }
        assert!(DeliveryId(31).to_string() < DeliveryId(32).to_string());
        for wrong in ["", "0", "00000000000000", "000000000000i", "zzzzzzzzzzzzz", "-000000000001"] {
            assert_eq!(wrong.parse::<DeliveryId>(), Err(NotADeliveryId), "{wrong}");
        }
    }

    #[test]
    fn numbers_and_words_are_those_of_one_value() {
        for reason in DeliveryReason::ALL {
            assert_eq!(DeliveryReason::of_number(reason.number()), Some(*reason));
            assert_eq!(DeliveryReason::of_code(reason.code()), Some(*reason));
        }
        for state in DeliveryState::ALL {
            assert_eq!(DeliveryState::of_number(state.number()), Some(*state));
            assert_eq!(DeliveryState::of_code(state.code()), Some(*state));
        }
        assert_eq!((DeliveryReason::of_number(200), DeliveryState::of_code("")), (None, None));
    }
}
