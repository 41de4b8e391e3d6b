//! Who may call a route: networks that are let in, and networks that are not.

use core::net::IpAddr;

use crate::gate::networks::Networks;
use crate::outcome::Rejection;

/// The networks of one route. Denied goes before allowed.
#[derive(Clone, Debug, Default)]
pub struct AllowList {
    allow: Option<Networks>,
    deny: Networks,
}

impl AllowList {
    /// `allow`: the clients that may call; `None` allows all of them, an empty set none. `deny`: clients that may not call
    /// even if they are allowed.
    #[must_use]
    pub const fn new(allow: Option<Networks>, deny: Networks) -> Self {
        Self { allow, deny }
    }

    /// Whether no client is ever refused.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.allow.is_none() && self.deny.is_empty()
    }

    /// Judges a client; `None` if its address is not known: only a list that refuses no client lets it pass.
    ///
    /// # Errors
    /// [`Rejection::ClientNotAllowed`]
    pub fn admit(&self, client: Option<IpAddr>) -> Result<(), Rejection> {
        let admitted = self.is_open()
            || client.is_some_and(|client| {
                !self.deny.contains(client) && self.allow.as_ref().is_none_or(|allow| allow.contains(client))
            });
        if admitted { Ok(()) } else { Err(Rejection::ClientNotAllowed) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::gate::networks::Network;

    fn networks(texts: &[&str]) -> Networks {
        texts.iter().map(|text| Network::parse(text).unwrap()).collect()
    }

    fn admits(list: &AllowList, client: &str) -> bool {
        list.admit(client.parse().ok()).is_ok()
    }

    #[test]
    fn without_lists_everyone_may_call() {
        let open = AllowList::default();
        assert!(open.is_open() && admits(&open, "192.0.2.1") && admits(&open, "unknown"));
    }

    #[test]
    fn denied_goes_before_allowed() {
        let list = AllowList::new(Some(networks(&["192.0.2.0/24", "2001:db8::/32"])), networks(&["192.0.2.128/25"]));
        for (client, admitted) in [
            ("192.0.2.127", true),
            ("::ffff:192.0.2.127", true),
            ("192.0.2.128", false),
            ("::ffff:192.0.2.128", false),
            ("198.51.100.1", false),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(admits(&list, client), admitted, "{client}");
        }
        let denying = AllowList::new(None, networks(&["192.0.2.0/24"]));
        assert!(!denying.is_open() && admits(&denying, "2001:db8::1") && !admits(&denying, "192.0.2.1"));
    }

    #[test]
    fn an_unknown_client_passes_no_list_and_an_empty_set_allows_none() {
        let none = AllowList::new(Some(Networks::default()), Networks::default());
        let denying = AllowList::new(None, networks(&["192.0.2.0/24"]));
        assert!(!none.is_open() && !admits(&none, "192.0.2.1"));
        assert_eq!(denying.admit(None), Err(Rejection::ClientNotAllowed));
    }
}
