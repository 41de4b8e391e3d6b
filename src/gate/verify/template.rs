//! The signed content as a template: literal bytes and tokens, for instance `v0:{timestamp}:{body}`.

use core::fmt;

use super::form::SortedForm;
use super::json::JsonPath;
use super::json_lines::JsonLines;
use super::mac::DigestAlgorithm;
use super::signature::Encoding;
use super::url::UNESCAPED;

/// One piece of the signed content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Bytes that stand for themselves.
    Literal(Vec<u8>),
    /// `{body}`: the body as received.
    Body,
    /// `{timestamp}`: the timestamp's text as received.
    Timestamp,
    /// `{id}`: the delivery id as received.
    Id,
    /// `{method}`: the request method as received.
    Method,
    /// `{url}`: the public URL with the query of the request.
    Url,
    /// `{url_unescaped}`: the same with the twelve escapes decoded that HubSpot v3 decodes.
    UrlUnescaped,
    /// `{path}`: path of the request as received, without the query.
    Path,
    /// `{target}`: path and query of the request as received.
    Target,
    /// `{header:Name}`: the value of a header.
    Header(String),
    /// `{sorted_form_params}`: names and values of a form body, decoded and sorted by name (Twilio).
    SortedFormParams,
    /// `{form:NAME}`: the decoded value of a field of a form body.
    Form(String),
    /// `{query:NAME}`: the decoded value of a parameter of the query.
    Query(String),
    /// `{sorted_form:=&}`: names and values of a form body, decoded and sorted by name, with these two characters between
    /// them; `{sorted_form:=&:NAME,NAME}` without these fields.
    SortedForm(SortedForm),
    /// `{json:PATH}`: the string, number or boolean at a path of the JSON body; `{json?:PATH}` the same, and nothing where
    /// there is none.
    Json {
        /// Where it stands.
        path: JsonPath,
        /// Whether it can be missing.
        optional: bool,
    },
    /// `{json_lines:NAME,NAME?}`: fields of the JSON body, each with its name, a line for each (Amazon SNS).
    JsonLines(JsonLines),
    /// `{crc32:body}`: the checksum of the body as a decimal number (PayPal).
    Checksum,
    /// `{route:NAME}`: a value that only the route knows, `values` of the route.
    Route(String),
    /// `{sha256:body}`: a digest of the body, in small hexadecimal digits or (`{sha256-base64:body}`) in base64.
    HashedBody(DigestAlgorithm, Encoding),
    /// `{field:KEY}`: the value of another key of a signature header made of pairs.
    Field(String),
    /// `{named_headers:KEY}`: the values of the headers that this key of the signature header names, joined by `.`.
    NamedHeaders(String),
    /// `{secret}`: the secret itself, for plain digests.
    Secret,
}

impl Part {
    /// Whether its bytes are found in the body, other than as the body itself.
    pub(super) const fn reads_form(&self) -> bool {
        matches!(self, Self::SortedFormParams | Self::SortedForm(_) | Self::Form(_))
    }

    /// The path, where it is a field of a JSON body.
    pub(super) const fn json_path(&self) -> Option<&JsonPath> {
        if let Self::Json { path, .. } = self { Some(path) } else { None }
    }

    /// Whether its bytes can be known only when the body is whole.
    pub(super) const fn needs_body(&self) -> bool {
        self.reads_form()
            || matches!(self, Self::Json { .. } | Self::JsonLines(_) | Self::Checksum | Self::HashedBody(..))
    }

    /// Whether a guard can say how many bytes it has.
    pub(super) const fn can_be_measured(&self) -> bool {
        matches!(self, Self::Id | Self::Header(_) | Self::Form(_) | Self::Query(_) | Self::Field(_) | Self::Json { .. })
    }

    /// Whether a guard can say what it never contains. Of the body that would be a second look at all of it; a form
    /// that is sorted has nothing to be told apart by.
    pub(super) const fn can_be_guarded(&self) -> bool {
        use Part::{Field, Form, Header, Id, Json, NamedHeaders, Path, Query, Target, Url, UrlUnescaped};
        matches!(
            self,
            Json { .. }
                | Id
                | Header(_)
                | Form(_)
                | Query(_)
                | Field(_)
                | NamedHeaders(_)
                | Path
                | Target
                | Url
                | UrlUnescaped
        )
    }

    /// Whether `byte` is one that a guard can exclude: values of named headers are joined by dots, and an escape that is
    /// decoded could bring what was excluded.
    pub(super) fn can_be_guarded_against(&self, byte: u8) -> bool {
        match self {
            Self::NamedHeaders(_) => byte != b'.',
            Self::UrlUnescaped => !UNESCAPED.contains(&byte),
            _ => self.can_be_guarded(),
        }
    }

    /// The part that a token without its braces stands for.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let (token, argument) = name.split_once(':').map_or((name, None), |(token, rest)| (token, Some(rest)));
        Some(match (token, argument) {
            ("body", None) => Self::Body,
            ("timestamp", None) => Self::Timestamp,
            ("id", None) => Self::Id,
            ("method", None) => Self::Method,
            ("url", None) => Self::Url,
            ("url_unescaped", None) => Self::UrlUnescaped,
            ("path", None) => Self::Path,
            ("target", None) => Self::Target,
            ("sorted_form_params", None) => Self::SortedFormParams,
            ("secret", None) => Self::Secret,
            ("header", Some(name)) if !name.is_empty() => Self::Header(name.to_owned()),
            ("form", Some(name)) if !name.is_empty() => Self::Form(name.to_owned()),
            ("query", Some(name)) if !name.is_empty() => Self::Query(name.to_owned()),
            ("json" | "json?", Some(path)) => {
                Self::Json { path: JsonPath::parse(path)?, optional: token.ends_with('?') }
            }
            ("json_lines", Some(names)) => Self::JsonLines(JsonLines::parse(names)?),
            ("crc32", Some("body")) => Self::Checksum,
            ("route", Some(name)) if !name.is_empty() => Self::Route(name.to_owned()),
            ("sorted_form", Some(form)) => Self::SortedForm(SortedForm::parse(form)?),
            (name, Some("body")) => {
                let (name, encoding) =
                    name.strip_suffix("-base64").map_or((name, Encoding::Hex), |name| (name, Encoding::Base64));
                let (_, algorithm) = HASHES.iter().find(|(known, _)| *known == name)?;
                Self::HashedBody(*algorithm, encoding)
            }
            ("field", Some(key)) if !key.is_empty() => Self::Field(key.to_owned()),
            ("named_headers", Some(key)) if !key.is_empty() => Self::NamedHeaders(key.to_owned()),
            _ => return None,
        })
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(bytes) => f.write_str(&String::from_utf8_lossy(bytes).replace('{', "{{").replace('}', "}}")),
            Self::Body => f.write_str("{body}"),
            Self::Timestamp => f.write_str("{timestamp}"),
            Self::Id => f.write_str("{id}"),
            Self::Method => f.write_str("{method}"),
            Self::Url => f.write_str("{url}"),
            Self::UrlUnescaped => f.write_str("{url_unescaped}"),
            Self::Path => f.write_str("{path}"),
            Self::Target => f.write_str("{target}"),
            Self::SortedFormParams => f.write_str("{sorted_form_params}"),
            Self::Secret => f.write_str("{secret}"),
            Self::Header(name) => write!(f, "{{header:{name}}}"),
            Self::Form(name) => write!(f, "{{form:{name}}}"),
            Self::Query(name) => write!(f, "{{query:{name}}}"),
            Self::SortedForm(form) => write!(f, "{{sorted_form:{form}}}"),
            Self::Json { path, optional } => {
                write!(f, "{{json{}:{}}}", if *optional { "?" } else { "" }, path.text())
            }
            Self::JsonLines(lines) => write!(f, "{{json_lines:{lines}}}"),
            Self::Checksum => f.write_str("{crc32:body}"),
            Self::Route(name) => write!(f, "{{route:{name}}}"),
            Self::HashedBody(algorithm, encoding) => {
                let name = HASHES.iter().find(|(_, known)| known == algorithm).map_or("", |(name, _)| name);
                write!(f, "{{{name}{}:body}}", if *encoding == Encoding::Base64 { "-base64" } else { "" })
            }
            Self::Field(key) => write!(f, "{{field:{key}}}"),
            Self::NamedHeaders(key) => write!(f, "{{named_headers:{key}}}"),
        }
    }
}

/// The digests that can stand in the content.
const HASHES: [(&str, DigestAlgorithm); 4] = [
    ("sha1", DigestAlgorithm::Sha1),
    ("sha256", DigestAlgorithm::Sha256),
    ("sha384", DigestAlgorithm::Sha384),
    ("sha512", DigestAlgorithm::Sha512),
];

/// The signed content of a scheme.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    /// Where the body stands among them.
    body: Option<usize>,
}

/// Why a text is not a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateError {
    /// `{` without `}`.
    Unclosed,
    /// `}` without `{`.
    Unopened,
    /// There is no token of this name.
    UnknownToken(String),
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unclosed => f.write_str("a `{` is not closed"),
            Self::Unopened => f.write_str("a `}` stands alone"),
            Self::UnknownToken(name) => write!(f, "there is no token `{{{name}}}`"),
        }
    }
}

impl core::error::Error for TemplateError {}

/// The tokens, for messages.
pub const TOKENS: &str = "{body} {timestamp} {id} {method} {url} {url_unescaped} {path} {target} {header:NAME} \
     {sorted_form_params} {sorted_form:=&} {form:NAME} {query:NAME} {json:PATH} {json?:PATH} {json_lines:NAME,NAME?} \
     {sha256:body} {sha256-base64:body} (and sha1, sha384, sha512) {crc32:body} {route:NAME} {field:KEY} {named_headers:KEY} {secret}; write {{ and }} for braces";

impl Template {
    /// Reads a template: `{token}`, `{{` and `}}` for braces, everything else literal.
    ///
    /// # Errors
    /// When a brace stands alone or a token is unknown.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(at);
            literal.push_str(before);
            if let Some(after) = brace.strip_prefix("{{") {
                literal.push('{');
                rest = after;
            } else if let Some(after) = brace.strip_prefix("}}") {
                literal.push('}');
                rest = after;
            } else if let Some(token) = brace.strip_prefix('{') {
                let (name, after) = token.split_once('}').ok_or(TemplateError::Unclosed)?;
                let part = Part::named(name).ok_or_else(|| TemplateError::UnknownToken(name.to_owned()))?;
                push_literal(&mut parts, &mut literal);
                parts.push(part);
                rest = after;
            } else {
                return Err(TemplateError::Unopened);
            }
        }
        literal.push_str(rest);
        push_literal(&mut parts, &mut literal);
        Ok(Self::of(parts))
    }

    /// A template of these parts.
    pub(crate) fn of(parts: Vec<Part>) -> Self {
        Self { body: parts.iter().position(|part| *part == Part::Body), parts }
    }

    /// The pieces in order.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Whether a piece satisfies `test`.
    pub fn any(&self, test: impl FnMut(&Part) -> bool) -> bool {
        self.parts.iter().any(test)
    }

    /// Whether the byte stands between parts of the content.
    #[must_use]
    pub fn separates(&self, byte: u8) -> bool {
        self.any(|part| matches!(part, Part::Literal(bytes) if bytes.contains(&byte)))
    }

    /// Whether the piece stands in the content.
    #[must_use]
    pub fn contains(&self, part: &Part) -> bool {
        self.parts.contains(part)
    }

    /// The pieces before and after `{body}`; without a `{body}` all of them are after it.
    pub(super) fn around_body(&self) -> (&[Part], &[Part]) {
        match self.body {
            Some(at) => {
                let (before, rest) = self.parts.split_at(at);
                (before, rest.get(1..).unwrap_or_default())
            }
            None => (&[], &self.parts),
        }
    }

    /// The first byte of the literal that ends the delivery id: an id that contains it would make the content
    /// ambiguous.
    pub(super) fn id_terminator(&self) -> Option<u8> {
        let mut parts = self.parts.iter().skip_while(|part| **part != Part::Id).skip(1);
        match parts.next() {
            Some(Part::Literal(bytes)) => bytes.first().copied(),
            _ => None,
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| part.fmt(f))
    }
}

fn push_literal(parts: &mut Vec<Part>, literal: &mut String) {
    if !literal.is_empty() {
        parts.push(Part::Literal(core::mem::take(literal).into_bytes()));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tokens_and_literals_alternate() {
        let template = Template::parse("v0:{timestamp}:{body}").unwrap();
        assert_eq!(
            template.parts(),
            [Part::Literal(b"v0:".to_vec()), Part::Timestamp, Part::Literal(b":".to_vec()), Part::Body]
        );
        assert_eq!(template.around_body().0.len(), 3);
        assert_eq!(template.to_string(), "v0:{timestamp}:{body}");
    }

    #[test]
    fn doubled_braces_are_literal() {
        let template = Template::parse("{{{header:X-A}}}\n").unwrap();
        assert_eq!(
            template.parts(),
            [Part::Literal(b"{".to_vec()), Part::Header("X-A".to_owned()), Part::Literal(b"}\n".to_vec())]
        );
        assert_eq!(template.to_string(), "{{{header:X-A}}}\n");
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(Template::parse("{body"), Err(TemplateError::Unclosed));
        assert_eq!(Template::parse("body}"), Err(TemplateError::Unopened));
        assert_eq!(Template::parse("{bdy}"), Err(TemplateError::UnknownToken("bdy".to_owned())));
        assert_eq!(Template::parse("{header:}"), Err(TemplateError::UnknownToken("header:".to_owned())));
        assert_eq!(Template::parse("{body:x}"), Err(TemplateError::UnknownToken("body:x".to_owned())));
    }

    #[test]
    fn the_id_ends_where_the_next_literal_begins() {
        assert_eq!(Template::parse("{id}.{timestamp}.{body}").unwrap().id_terminator(), Some(b'.'));
        assert_eq!(Template::parse("{id}{timestamp}{body}").unwrap().id_terminator(), None);
    }
}
