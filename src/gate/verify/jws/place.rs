//! Where a token stands in a delivery.

use std::borrow::Cow;

use super::super::Delivery;
use super::super::reading::{self, SIGNATURE};
use super::super::scheme::{Scheme, SignatureSource};
use super::super::signature::Syntax;
use super::claims::ClaimValue;
use super::compact::{CompactToken, TOKEN_LIMIT};
use crate::outcome::Rejection;

/// The text of the token.
pub(crate) fn text<'d, D: Delivery>(scheme: &Scheme, delivery: &'d D) -> Result<Cow<'d, [u8]>, Rejection> {
    if scheme.signature == SignatureSource::Body {
        let body = delivery.body().trim_ascii();
        return if body.is_empty() { Err(Rejection::SignatureMissing) } else { Ok(Cow::Borrowed(body)) };
    }
    let value = reading::only_value(scheme, delivery, SIGNATURE)?;
    let prefix = match &scheme.syntax {
        Syntax::Single { prefix } => prefix.as_bytes(),
        Syntax::List { .. } | Syntax::Pairs { .. } | Syntax::Items { .. } => &[],
    };
    // The word for a kind of credentials is written in either case (RFC 9110, section 11.1).
    let fits = value.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    if !fits {
        return Err(Rejection::SignatureMalformed);
    }
    if value.len() > TOKEN_LIMIT {
        return Err(Rejection::TokenTooLarge);
    }
    Ok(match value {
        Cow::Borrowed(value) => Cow::Borrowed(value.get(prefix.len()..).unwrap_or_default().trim_ascii()),
        Cow::Owned(value) => Cow::Owned(value.get(prefix.len()..).unwrap_or_default().trim_ascii().to_vec()),
    })
}

/// The value of a claim as text, where it is a text or a whole number: for what is shown and explained.
pub(in super::super) fn claim<D: Delivery>(
    scheme: &Scheme,
    delivery: &D,
    wanted: &str,
) -> Result<Option<Vec<u8>>, Rejection> {
    let text = text(scheme, delivery)?;
    let mut found = None;
    CompactToken::parse(&text)?.claims(&mut |name, value| {
        if name == wanted {
            found = match value {
                ClaimValue::Text(text) => Some(text.as_bytes().to_vec()),
                ClaimValue::Whole(number) => Some(number.to_string().into_bytes()),
                _ => None,
            };
        }
        Ok(())
    })?;
    Ok(found)
}
