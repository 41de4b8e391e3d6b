//! Who may call a route: networks that are let in, and networks that are not.

use core::net::IpAddr;
use std::sync::Arc;

use crate::gate::networks::Networks;
use crate::gate::ranges::PublishedRanges;
use crate::outcome::Rejection;

/// The networks of one route. Denied goes before allowed.
#[derive(Clone, Debug, Default)]
pub struct AllowList {
    allow: Option<Networks>,
    deny: Networks,
    /// The networks of senders that may call, beside those of `allow`. Without any the list is what `allow` says.
    published: Box<[Arc<PublishedRanges>]>,
}

impl AllowList {
    /// `allow`: the clients that may call; `None` allows all of them, an empty set none. `deny`: clients that may not call
    /// even if they are allowed.
    #[must_use]
    pub fn new(allow: Option<Networks>, deny: Networks) -> Self {
        Self { allow, deny, published: Box::default() }
    }

    /// The same list, on which the networks of these senders may call, too. A list that let everyone in lets in these alone.
    #[must_use]
    pub fn with_published(self, published: Vec<Arc<PublishedRanges>>) -> Self {
        let allow = if published.is_empty() { self.allow } else { Some(self.allow.unwrap_or_default()) };
        Self { allow, published: published.into(), ..self }
    }

    /// The senders whose networks may call.
    #[must_use]
    pub fn published(&self) -> &[Arc<PublishedRanges>] {
        &self.published
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
                !self.deny.contains(client) && self.allow.as_ref().is_none_or(|allow| self.is_in(allow, client))
            });
        if admitted { Ok(()) } else { Err(Rejection::ClientNotAllowed) }
    }

    fn is_in(&self, allow: &Networks, client: IpAddr) -> bool {
        allow.contains(client) || self.published.iter().any(|ranges| ranges.contains(client))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::gate::networks::Network;
    use crate::gate::ranges::{RangeSet, RangeSource};

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
    fn the_networks_of_a_sender_are_allowed_as_they_are_at_the_moment() {
        let ranges = |texts: &[&str]| RangeSet::new(texts.iter().map(|it| Network::parse(it).unwrap()).collect(), 1);
        let source = RangeSource { name: "s".into(), networks: Vec::new(), as_of: 0, feed: None };
        let published = Arc::new(PublishedRanges::new(Arc::new(source), None));
        let denied = networks(&["192.0.2.128/25"]);
        let list = AllowList::new(None, denied).with_published(vec![Arc::clone(&published)]);
        assert!(!list.is_open() && !admits(&list, "192.0.2.1"), "nothing is known: no client is let in");
        published.put(Arc::new(ranges(&["192.0.2.0/24"])));
        assert!(admits(&list, "192.0.2.1") && !admits(&list, "192.0.2.128") && !admits(&list, "198.51.100.1"));
        published.put(Arc::new(ranges(&["198.51.100.0/24"])));
        assert!(!admits(&list, "192.0.2.1") && admits(&list, "198.51.100.1"));
        let both = AllowList::new(Some(networks(&["203.0.113.0/24"])), Networks::default());
        let both = both.with_published(vec![published]);
        assert!(admits(&both, "203.0.113.1") && admits(&both, "198.51.100.1") && !admits(&both, "192.0.2.1"));
        assert!(AllowList::default().with_published(Vec::new()).is_open());
    }

    #[test]
    fn an_unknown_client_passes_no_list_and_an_empty_set_allows_none() {
        let none = AllowList::new(Some(Networks::default()), Networks::default());
        let denying = AllowList::new(None, networks(&["192.0.2.0/24"]));
        assert!(!none.is_open() && !admits(&none, "192.0.2.1"));
        assert_eq!(denying.admit(None), Err(Rejection::ClientNotAllowed));
    }
}
