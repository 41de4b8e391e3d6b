//! What the scripts answer.

use core::fmt;

use crate::inbox::delivery::DeliveryId;
use crate::wire::resp::{self, ReplyBounds, RespValue};

/// How long answers may be: rows and records are longer than what is asked for claims.
pub const ANSWER_BOUNDS: ReplyBounds = ReplyBounds { bytes: 512 << 20, values: 1 << 16 };

/// Why the engine has not done what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InboxRefusal {
    /// The holding is not in the engine any more: another replica has taken it over.
    Lost,
    /// A bound of the inbox is met.
    Full,
    /// The request came after its successor.
    Stale,
    /// The engine does not have the script.
    NoScript,
    /// It has done nothing: its own words.
    Refused(String),
    /// It failed, and it is not known what it has done: its own words.
    Failed(String),
    /// What it says is no answer to what was asked.
    Malformed,
}

impl fmt::Display for InboxRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str("the engine does not have what this replica had"),
            Self::Full => f.write_str("the inbox is full"),
            Self::Stale => f.write_str("a request came after its successor"),
            Self::NoScript => f.write_str("the engine does not have the script"),
            Self::Refused(words) | Self::Failed(words) => write!(f, "the engine says: {words}"),
            Self::Malformed => f.write_str("what the engine says is no answer"),
        }
    }
}

/// First words of errors that a script ends with before it has changed anything.
const BEFORE_ANYTHING: [&[u8]; 9] =
    [b"OOM", b"MISCONF", b"READONLY", b"NOPERM", b"LOADING", b"BUSY", b"NOREPLICAS", b"MASTERDOWN", b"NOAUTH"];

impl InboxRefusal {
    /// What an error means.
    #[must_use]
    pub fn of_error(error: &[u8]) -> Self {
        let word = error.split(|byte| *byte == b' ').next().unwrap_or_default();
        let words = String::from_utf8_lossy(error).chars().filter(|it| !it.is_control()).take(200).collect();
        match word {
            b"NOSCRIPT" => Self::NoScript,
            word if BEFORE_ANYTHING.contains(&word) => Self::Refused(words),
            _ => Self::Failed(words),
        }
    }
}

/// Deliveries and bytes in the engine, those of all replicas together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InboxCounts {
    /// Deliveries, dead letters and damaged ones included.
    pub all: u64,
    /// Dead letters.
    pub dead: u64,
    /// Damaged ones.
    pub damaged: u64,
    /// Bytes of records.
    pub bytes: u64,
    /// Bytes of records of dead letters.
    pub dead_bytes: u64,
}

/// An answer that is being read, value by value.
pub struct InboxAnswer<'b> {
    values: Box<dyn Iterator<Item = RespValue<'b>> + 'b>,
}

impl fmt::Debug for InboxAnswer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboxAnswer").finish_non_exhaustive()
    }
}

impl<'b> InboxAnswer<'b> {
    /// An answer of any command.
    #[must_use]
    pub fn plain(reply: &'b [u8]) -> Self {
        Self { values: Box::new(resp::values_within(reply, ANSWER_BOUNDS)) }
    }

    /// The answer of a script, behind the word that says that it was done.
    ///
    /// # Errors
    /// It was not.
    pub fn of(reply: &'b [u8]) -> Result<Self, InboxRefusal> {
        let mut answer = Self::plain(reply);
        match answer.values.next() {
            Some(RespValue::Values(_)) => {}
            Some(RespValue::Failure(error)) => return Err(InboxRefusal::of_error(error)),
            _ => return Err(InboxRefusal::Malformed),
        }
        match answer.values.next() {
            Some(RespValue::Text(b"OK")) => Ok(answer),
            Some(RespValue::Text(b"LOST")) => Err(InboxRefusal::Lost),
            Some(RespValue::Text(b"FULL")) => Err(InboxRefusal::Full),
            Some(RespValue::Text(b"STALE")) => Err(InboxRefusal::Stale),
            _ => Err(InboxRefusal::Malformed),
        }
    }

    /// A text, or nothing where the engine has none.
    ///
    /// # Errors
    /// It is something else.
    pub fn text_if_any(&mut self) -> Result<Option<&'b [u8]>, InboxRefusal> {
        match self.values.next() {
            Some(RespValue::Text(text)) => Ok(Some(text)),
            Some(RespValue::Null) => Ok(None),
            Some(RespValue::Failure(error)) => Err(InboxRefusal::of_error(error)),
            _ => Err(InboxRefusal::Malformed),
        }
    }

    /// A text.
    ///
    /// # Errors
    /// It is something else.
    pub fn text(&mut self) -> Result<&'b [u8], InboxRefusal> {
        self.text_if_any()?.ok_or(InboxRefusal::Malformed)
    }

    /// A number that is not negative.
    ///
    /// # Errors
    /// It is something else.
    pub fn number(&mut self) -> Result<u64, InboxRefusal> {
        match self.values.next() {
            Some(RespValue::Integer(number)) => u64::try_from(number).map_err(|_| InboxRefusal::Malformed),
            Some(RespValue::Failure(error)) => Err(InboxRefusal::of_error(error)),
            _ => Err(InboxRefusal::Malformed),
        }
    }

    /// A list of texts; those that the engine does not have are nothing.
    ///
    /// # Errors
    /// It is something else.
    pub fn list(&mut self) -> Result<Vec<Option<&'b [u8]>>, InboxRefusal> {
        match self.values.next() {
            Some(RespValue::Values(count)) => (0..count).map(|_| self.text_if_any()).collect(),
            Some(RespValue::Null) => Ok(Vec::new()),
            Some(RespValue::Failure(error)) => Err(InboxRefusal::of_error(error)),
            _ => Err(InboxRefusal::Malformed),
        }
    }

    /// A list of texts that are all there.
    ///
    /// # Errors
    /// It is something else.
    pub fn texts(&mut self) -> Result<Vec<&'b [u8]>, InboxRefusal> {
        self.list()?.into_iter().map(|text| text.ok_or(InboxRefusal::Malformed)).collect()
    }

    /// A list of ids.
    ///
    /// # Errors
    /// It is something else.
    pub fn ids(&mut self) -> Result<Vec<DeliveryId>, InboxRefusal> {
        self.texts()?.into_iter().map(|text| read_id(text).ok_or(InboxRefusal::Malformed)).collect()
    }

    /// The counts at the end of an answer.
    ///
    /// # Errors
    /// It is something else.
    pub fn counts(&mut self) -> Result<InboxCounts, InboxRefusal> {
        let Some(RespValue::Values(5)) = self.values.next() else { return Err(InboxRefusal::Malformed) };
        Ok(InboxCounts {
            all: self.number()?,
            dead: self.number()?,
            damaged: self.number()?,
            bytes: self.number()?,
            dead_bytes: self.number()?,
        })
    }
}

/// Where a delivery was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutPlace {
    /// It is the caller's to attempt.
    Here(DeliveryId),
    /// It is another replica's, or comes by a tick.
    Elsewhere(DeliveryId),
    /// It is a copy of one that was stored before.
    Copy(DeliveryId),
}

/// Reads where deliveries were put.
///
/// # Errors
/// It is not said of each.
pub fn put_places(text: &[u8], count: usize) -> Result<Vec<PutPlace>, InboxRefusal> {
    let place = |word: &[u8]| {
        let (how, id) = word.split_first()?;
        let id = read_id(id)?;
        match how {
            b'+' => Some(PutPlace::Here(id)),
            b'-' => Some(PutPlace::Elsewhere(id)),
            b'=' => Some(PutPlace::Copy(id)),
            _ => None,
        }
    };
    let places: Option<Vec<PutPlace>> = text.split(|byte| *byte == b' ').map(place).collect();
    places.filter(|places| places.len() == count).ok_or(InboxRefusal::Malformed)
}

/// An id as the engine has it: 16 hexadecimal digits, whose order is that of the ids.
#[must_use]
pub fn id_text(id: DeliveryId) -> String {
    format!("{:016x}", id.0)
}

/// The id with this text.
#[must_use]
pub fn read_id(text: &[u8]) -> Option<DeliveryId> {
    let text = core::str::from_utf8(text).ok().filter(|text| text.len() == 16)?;
    u64::from_str_radix(text, 16).ok().map(DeliveryId)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_answer_is_done_or_says_why_not() {
        let done = b"*3\r\n$2\r\nOK\r\n$3\r\n110\r\n*5\r\n:4\r\n:1\r\n:0\r\n:77\r\n:9\r\n";
        let mut answer = InboxAnswer::of(done).unwrap();
        assert_eq!(answer.text(), Ok(&b"110"[..]));
        let counts = InboxCounts { all: 4, dead: 1, damaged: 0, bytes: 77, dead_bytes: 9 };
        assert_eq!(answer.counts(), Ok(counts));
        assert_eq!(answer.number(), Err(InboxRefusal::Malformed), "the answer is at its end");
        for (reply, refusal) in [
            (&b"*1\r\n$4\r\nLOST\r\n"[..], InboxRefusal::Lost),
            (b"*1\r\n$4\r\nFULL\r\n", InboxRefusal::Full),
            (b"*1\r\n$5\r\nSTALE\r\n", InboxRefusal::Stale),
            (b"-NOSCRIPT No matching script\r\n", InboxRefusal::NoScript),
            (b"-OOM command not allowed\r\n", InboxRefusal::Refused("OOM command not allowed".to_owned())),
            (b"-MISCONF no disk\r\n", InboxRefusal::Refused("MISCONF no disk".to_owned())),
            (b"-WRONGTYPE of key\r\n", InboxRefusal::Failed("WRONGTYPE of key".to_owned())),
            (b"+OK\r\n", InboxRefusal::Malformed),
            (b"*1\r\n$2\r\nNO\r\n", InboxRefusal::Malformed),
        ] {
            assert_eq!(InboxAnswer::of(reply).map(|_| ()), Err(refusal), "{}", reply.escape_ascii());
        }
    }

    #[test]
    fn places_are_read_one_for_each_delivery() {
        let text = b"+00000000000000ff -0000000000000100 =0000000000000001";
        let [here, there, copy] = [255, 256, 1].map(DeliveryId);
        let places = [PutPlace::Here(here), PutPlace::Elsewhere(there), PutPlace::Copy(copy)];
        assert_eq!(put_places(text, 3), Ok(places.to_vec()));
        assert_eq!(put_places(text, 2), Err(InboxRefusal::Malformed));
        assert_eq!(put_places(b"+1", 1), Err(InboxRefusal::Malformed));
        assert_eq!(put_places(b"?00000000000000ff", 1), Err(InboxRefusal::Malformed));
        assert_eq!(read_id(id_text(here).as_bytes()), Some(here));
    }
}
