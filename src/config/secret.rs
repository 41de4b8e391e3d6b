//! Secrets between the file that holds them and the key that is made of them.
//!
//! A [`Secret`] is zeroized when it is dropped and never printed. [`judge`] tells a secret from a mistake: what is
//! empty or a placeholder is refused, what is merely odd is warned about. No message quotes any part of a secret.

use core::fmt;

use zeroize::Zeroizing;

/// An attacker who has one signed delivery can guess shorter secrets offline.
const SHORT: usize = 16;

/// Words that stand in documentation where a secret should stand.
const PLACEHOLDERS: [&str; 16] = [
    "changeme",
    "change-me",
    "change_me",
    "secret",
    "mysecret",
    "my-secret",
    "my_secret",
    "password",
    "placeholder",
    "replaceme",
    "replace-me",
    "replace_me",
    "example",
    "test",
    "todo",
    "fixme",
];

/// The bytes of a secret, or of a public key, which is treated the same.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over.
    #[must_use]
    pub fn new(bytes: impl Into<Zeroizing<Vec<u8>>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same without the one line end that editors and `echo` leave behind.
    #[must_use]
    pub fn without_line_end(mut self) -> Self {
        let line = self.0.strip_suffix(b"\n");
        let line = line.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let length = line.map_or(self.0.len(), <[u8]>::len);
        self.0.truncate(length);
        self
    }

    /// Whether both are the same bytes. Compares what one operator has configured with what the same operator has
    /// configured, at load: nothing that a stranger could time.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.0.as_slice() == other.0.as_slice()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// Why something is not a secret. The texts complete "the secret …".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnfitSecret {
    /// No bytes at all, or only white space.
    Empty,
    /// A word from documentation.
    Placeholder,
    /// A template that was never filled in: `${NAME}`, `$(NAME)`, `{{ name }}`.
    Unexpanded,
    /// One character over and over.
    Monotonous,
    /// A public key or a certificate: it is public, so a signature that is made with it as a secret proves nothing.
    PublicKey,
}

impl fmt::Display for UnfitSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty",
            Self::Placeholder => "is a placeholder",
            Self::Unexpanded => "is a template that was not filled in",
            Self::Monotonous => "is one character repeated",
            Self::PublicKey => "is a public key or a certificate, which is no secret",
        })
    }
}

/// What is odd about a secret that can be used all the same. The texts complete "the secret …".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// Fewer than 16 bytes.
    Short,
    /// White space at either end, which counts as part of the secret.
    SurroundingSpace,
    /// Begins with a UTF-8 byte order mark, which counts as part of the secret.
    ByteOrderMark,
    /// Quotes around it, which count as part of the secret.
    Quoted,
    /// `NAME=value`, the line of an environment file.
    Assignment,
    /// A line break, as in a file with several secrets.
    LineBreak,
    /// Every other byte is NUL, or it begins with the byte order mark of UTF-16.
    Utf16,
    /// A NUL byte among text.
    Nul,
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => write!(f, "has fewer than {SHORT} bytes and can be guessed"),
            Self::SurroundingSpace => f.write_str("begins or ends with white space, which counts as part of it"),
            Self::ByteOrderMark => f.write_str("begins with a byte order mark, which counts as part of it"),
            Self::Quoted => f.write_str("stands in quotes, which count as part of it"),
            Self::Assignment => f.write_str("looks like NAME=value, and all of it counts"),
            Self::LineBreak => f.write_str("has a line break inside, which counts as part of it"),
            Self::Utf16 => f.write_str("is written in UTF-16, and every byte of that counts"),
            Self::Nul => f.write_str("has a NUL byte inside, which counts as part of it"),
        }
    }
}

impl Oddity {
    /// What to do about it.
    #[must_use]
    pub const fn fix(self) -> &'static str {
        match self {
            Self::Short => "use at least 32 random bytes if the sender lets you choose",
            Self::SurroundingSpace => "write the secret without white space around it: printf %s \"$SECRET\" > FILE",
            Self::ByteOrderMark => "save the file as UTF-8 without a byte order mark",
            Self::Quoted => "remove the quotes, unless the sender shows them too",
            Self::Assignment => "write the value alone, unless the sender shows it like that",
            Self::LineBreak => "give each secret a file of its own, and an entry in the list",
            Self::Utf16 => "save the file as UTF-8",
            Self::Nul => "write the secret without it: printf %s \"$SECRET\" > FILE",
        }
    }
}

/// Looks at a secret, without its line end.
///
/// # Errors
/// [`UnfitSecret`] for what cannot be meant as a secret.
pub fn judge(secret: &Secret) -> Result<Vec<Oddity>, UnfitSecret> {
    let bytes = secret.bytes();
    let trimmed = bytes.trim_ascii();
    let bare = trimmed.strip_prefix(b"v1,").unwrap_or(trimmed);
    let content = bare.strip_prefix(b"whsec_").unwrap_or(trimmed);
    if content.is_empty() {
        return Err(if trimmed.is_empty() { UnfitSecret::Empty } else { UnfitSecret::Placeholder });
    }
    let between = |open: &[u8], close: &[u8]| content.starts_with(open) && content.ends_with(close);
    if between(b"${", b"}") || between(b"$(", b")") || between(b"{{", b"}}") {
        return Err(UnfitSecret::Unexpanded);
    }
    if content.windows(2).all(|pair| pair.first() == pair.last()) {
        return Err(UnfitSecret::Monotonous);
    }
    let begins =
        |word: &str| content.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()));
    let is_word = PLACEHOLDERS.iter().any(|word| content.eq_ignore_ascii_case(word.as_bytes()));
    let is_phrase = ["your-", "your_", "your ", "xxx", "..."].into_iter().any(begins);
    if is_word || is_phrase || between(b"<", b">") {
        return Err(UnfitSecret::Placeholder);
    }
    if trimmed.starts_with(b"-----BEGIN PUBLIC KEY") || trimmed.starts_with(b"-----BEGIN CERTIFICATE") {
        return Err(UnfitSecret::PublicKey);
    }
    let short = (bytes.len() < SHORT).then_some(Oddity::Short);
    let space = (trimmed.len() < bytes.len()).then_some(Oddity::SurroundingSpace);
    let mark = bytes.starts_with("\u{feff}".as_bytes()).then_some(Oddity::ByteOrderMark);
    Ok([short, space, mark, form(bytes, trimmed)].into_iter().flatten().collect())
}

/// What a secret looks like that was meant to be another. Bytes that are not text are left alone: a secret may be any.
fn form(bytes: &[u8], trimmed: &[u8]) -> Option<Oddity> {
    let nul = |byte: &u8| *byte == 0;
    let every_other = |skip: usize| bytes.len() >= 4 && bytes.iter().skip(skip).step_by(2).all(nul);
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) || every_other(0) || every_other(1) {
        return Some(Oddity::Utf16);
    }
    if core::str::from_utf8(bytes).is_err() || bytes.iter().any(|b| b.is_ascii_control() && !b"\0\t\r\n".contains(b)) {
        return None;
    }
    let quoted = [b'"', b'\'', b'`']
        .into_iter()
        .any(|quote| trimmed.len() > 1 && trimmed.first() == Some(&quote) && trimmed.last() == Some(&quote));
    let name = trimmed.split(|byte| *byte == b'=').next().filter(|name| name.len() < trimmed.len()).unwrap_or_default();
    let named = matches!(name.first(), Some(b'A'..=b'Z' | b'_'))
        && name.iter().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_'))
        // Padding of base32 and base64 is not a value.
        && trimmed.get(name.len()..).is_some_and(|rest| rest.iter().any(|byte| *byte != b'='));
    if bytes.iter().any(nul) {
        Some(Oddity::Nul)
    } else if trimmed.contains(&b'\n') || trimmed.contains(&b'\r') {
        Some(Oddity::LineBreak)
    } else if quoted {
        Some(Oddity::Quoted)
    } else {
        named.then_some(Oddity::Assignment)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn secret(bytes: &[u8]) -> Secret {
        Secret::new(bytes.to_vec())
    }

    #[test]
    fn placeholders_are_refused() {
        for (text, unfit) in [
            ("", UnfitSecret::Empty),
            (" \n\t", UnfitSecret::Empty),
            ("changeme", UnfitSecret::Placeholder),
            ("ChangeMe", UnfitSecret::Placeholder),
            ("secret", UnfitSecret::Placeholder),
            ("password", UnfitSecret::Placeholder),
            ("your-signing-secret", UnfitSecret::Placeholder),
            ("YOUR_SECRET_HERE", UnfitSecret::Placeholder),
            ("<the secret of the webhook>", UnfitSecret::Placeholder),
            ("whsec_", UnfitSecret::Placeholder),
            ("v1,whsec_", UnfitSecret::Placeholder),
            ("whsec_...", UnfitSecret::Monotonous),
            ("whsec_...here", UnfitSecret::Placeholder),
            ("xxxx", UnfitSecret::Monotonous),
            ("xxx-xxx-xxx", UnfitSecret::Placeholder),
            ("whsec_xxxxxxxx", UnfitSecret::Monotonous),
            ("${GITHUB_SECRET}", UnfitSecret::Unexpanded),
            ("$(GITHUB_SECRET)", UnfitSecret::Unexpanded),
            ("{{ .Values.secret }}", UnfitSecret::Unexpanded),
            ("0000000000000000000000", UnfitSecret::Monotonous),
        ] {
            assert_eq!(judge(&secret(text.as_bytes())), Err(unfit), "{text:?}");
        }
    }

    #[test]
    fn real_secrets_pass_and_odd_ones_are_pointed_out() {
        assert_eq!(judge(&secret(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")), Ok(vec![]));
        assert_eq!(judge(&secret(&[0xff, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14])), Ok(vec![]));
        assert_eq!(judge(&secret(b"0123456789abcde")), Ok(vec![Oddity::Short]));
        assert_eq!(judge(&secret(b" 0123456789abcdef")), Ok(vec![Oddity::SurroundingSpace]));
        assert_eq!(judge(&secret("\u{feff}0123456789abcdef".as_bytes())), Ok(vec![Oddity::ByteOrderMark]));
    }

    #[test]
    fn what_was_copied_wrongly_is_pointed_out() {
        let cases: [(&[u8], Option<Oddity>); 13] = [
            (b"\"0123456789abcdef\"", Some(Oddity::Quoted)),
            (b"'0123456789abcdef'", Some(Oddity::Quoted)),
            (b"'0123456789abcdef\"", None),
            (b"GITHUB_SECRET=0123456789abcdef", Some(Oddity::Assignment)),
            (b"_A1=0123456789abcdef", Some(Oddity::Assignment)),
            (b"MFRGGZDFMZTWQ2LK====", None),
            (b"aGVsbG8gd29ybGQgaGVsbG8=", None),
            (b"0123456789abcdef\nfedcba9876543210", Some(Oddity::LineBreak)),
            (b"0123456789abcdef\0fedcba", Some(Oddity::Nul)),
            (b"\xff\xfea\0b\0c\0d\0e\0f\0g\0h\0", Some(Oddity::Utf16)),
            (b"a\0b\0c\0d\0e\0f\0g\0h\0", Some(Oddity::Utf16)),
            (b"\0a\0b\0c\0d\0e\0f\0g\0h", Some(Oddity::Utf16)),
            (b"\x80\n\x00456789abcdef01", None),
        ];
        for (bytes, oddity) in cases {
            assert_eq!(judge(&secret(bytes)), Ok(oddity.into_iter().collect()), "{}", bytes.escape_ascii());
        }
        for text in ["-----BEGIN PUBLIC KEY-----\nMCowBQYDK2Vw", "-----BEGIN CERTIFICATE-----\nMIIB"] {
            assert_eq!(judge(&secret(text.as_bytes())), Err(UnfitSecret::PublicKey));
        }
    }

    #[test]
    fn exactly_one_line_end_is_trimmed() {
        for (before, after) in [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a\r", "a\r"), ("a ", "a "), ("", "")]
        {
            assert_eq!(secret(before.as_bytes()).without_line_end().bytes(), after.as_bytes(), "{before:?}");
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", secret(b"hunter2")), "Secret(redacted)");
    }
}
