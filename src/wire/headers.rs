//! Header fields as spans into the bytes they arrived in: nothing is copied, order and duplicates are kept.

pub use super::known::Known;
pub use super::span::Span;

use super::options::ConnectionOptions;
use super::spelling::Spelling;

/// One header field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name as it was written.
    pub name: Span,
    /// The value without surrounding white space.
    pub value: Span,
    /// Which of the names that we have rules about it is.
    pub kind: Known,
}

/// Which kinds of names a message has: most messages have few of those that are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kinds(u64);

// More kinds need a wider word. The last of them is `Other`; the highest bit is for spellings.
const _: () = assert!((Known::Other as u32) < u64::BITS - 1);

impl Kinds {
    /// There is a name that is not spelled in the plain way.
    const FOLDED: u64 = 1 << (u64::BITS - 1);

    /// Notes a kind, and how its name is spelled.
    pub(super) fn note(&mut self, kind: Known, spelling: Spelling) {
        self.0 |= Self::bit(kind) | if matches!(spelling, Spelling::Folded) { Self::FOLDED } else { 0 };
    }

    const fn has_folded(self) -> bool {
        self.0 & Self::FOLDED != 0
    }

    const fn has(self, kind: Known) -> bool {
        self.0 & Self::bit(kind) != 0
    }

    const fn bit(kind: Known) -> u64 {
        1 << kind as u32
    }
}

/// A name stands more than once where one value is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duplicate;

/// A view of the header fields of one message.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    fields: &'a [Field],
    kinds: Kinds,
    options: &'a ConnectionOptions,
}

impl<'a> Headers<'a> {
    /// A view of `fields`, whose spans are relative to `bytes`; `kinds` and `options` are theirs.
    #[must_use]
    pub(super) const fn new(
        bytes: &'a [u8],
        fields: &'a [Field],
        kinds: Kinds,
        options: &'a ConnectionOptions,
    ) -> Self {
        Self { bytes, fields, kinds, options }
    }

    /// What the `Connection` fields say.
    #[must_use]
    pub const fn options(self) -> &'a ConnectionOptions {
        self.options
    }

    /// The names of the fields that `Connection` nominates: they end at this hop. At most
    /// [`OPTION_LIMIT`](super::options::OPTION_LIMIT).
    pub fn nominated(self) -> impl Iterator<Item = &'a [u8]> {
        self.options.nominated().iter().map(move |name| name.of(self.bytes))
    }

    /// Whether a name is spelled in a way that applications may fold into another name.
    #[must_use]
    pub const fn has_folded_name(self) -> bool {
        self.kinds.has_folded()
    }

    /// The fields, if there is one of this kind.
    fn with(self, kind: Known) -> &'a [Field] {
        if self.kinds.has(kind) { self.fields } else { &[] }
    }

    /// Fields in order of arrival.
    pub(super) const fn fields(self) -> &'a [Field] {
        self.fields
    }

    /// The bytes that spans refer to.
    pub(super) const fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Names and values in order of arrival.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.fields.iter().map(move |field| (field.name.of(self.bytes), field.value.of(self.bytes)))
    }

    /// Kinds, names and values in order of arrival.
    pub fn with_kinds(self) -> impl Iterator<Item = (Known, &'a [u8], &'a [u8])> {
        self.fields.iter().map(move |field| (field.kind, field.name.of(self.bytes), field.value.of(self.bytes)))
    }

    /// Names and values of all fields of this kind.
    pub fn with_kind(self, kind: Known) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let fields = self.with(kind).iter().filter(move |field| field.kind == kind);
        fields.map(move |field| (field.name.of(self.bytes), field.value.of(self.bytes)))
    }

    /// The values of all fields of this kind.
    pub fn of_kind(self, kind: Known) -> impl Iterator<Item = &'a [u8]> {
        self.with(kind).iter().filter(move |field| field.kind == kind).map(move |field| field.value.of(self.bytes))
    }

    /// The same from the last field to the first.
    pub fn of_kind_backwards(self, kind: Known) -> impl Iterator<Item = &'a [u8]> {
        self.with(kind)
            .iter()
            .rev()
            .filter(move |field| field.kind == kind)
            .map(move |field| field.value.of(self.bytes))
    }

    /// The values of all fields with this name, compared without case.
    pub fn all(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let called = self.fields.iter().filter(move |field| self.is_called(field, name));
        called.map(move |field| field.value.of(self.bytes))
    }

    /// Whether a field has this name, compared without case.
    fn is_called(self, field: &Field, name: &str) -> bool {
        field.name.length() == name.len() && field.name.of(self.bytes).eq_ignore_ascii_case(name.as_bytes())
    }

    /// The value of the only field with this name.
    ///
    /// # Errors
    /// [`Duplicate`] when there is more than one: picking either would let a sender choose what we check and what
    /// the application reads.
    pub fn unique(self, name: &str) -> Result<Option<&'a [u8]>, Duplicate> {
        let mut values = self.all(name);
        let first = values.next();
        if values.next().is_some() { Err(Duplicate) } else { Ok(first) }
    }
}

/// Header fields that own their bytes: for commands and tests that build a request instead of receiving one.
#[derive(Clone, Debug, Default)]
pub struct HeaderBuf {
    bytes: Vec<u8>,
    fields: Vec<Field>,
    kinds: Kinds,
    options: ConnectionOptions,
}

impl HeaderBuf {
    /// Adds a field. Connection options over the limit of a head are left out.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        let (kind, spelling) = Known::heard(name.as_bytes());
        self.kinds.note(kind, spelling);
        let name = self.append(name.as_bytes());
        let value = self.append(value);
        if kind == Known::Connection {
            let _ = self.options.read(value, &self.bytes);
        }
        self.fields.push(Field { name, value, kind });
    }

    /// A view of the fields.
    #[must_use]
    pub fn view(&self) -> Headers<'_> {
        Headers::new(&self.bytes, &self.fields, self.kinds, &self.options)
    }

    fn append(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        Span::new(start, self.bytes.len())
    }
}
