//! What is known of the end of a body that its head does not say.

/// How the body of a capture ends, beside what its head says of that.
#[derive(Clone, Copy, Debug, Default)]
pub enum BodyEnd<'g> {
    /// As its head says, or that is not known.
    #[default]
    AsSaid,
    /// The file goes on where Content-Length says that the body ends. These are all bytes behind the head.
    Beyond(&'g [u8]),
    /// It is chunked and breaks off; in words that go on behind "the chunked body".
    Broken(&'g str),
}
