//! What an explanation says of the keys of a route, and of an id that cannot be one.

use core::time::Duration;

use super::report::Report;
use super::spans::shown_span;
use crate::gate::verify::{Delivery, Source, inspect};

impl<D: Delivery> Report<'_, D> {
    /// Which character of an id it must not have: most often that which stands behind it in what is signed.
    pub(super) fn strange_in_id(&mut self, source: &Source) {
        let Some(strange) = inspect::strange_in_id(self.scheme, source, self.delivery) else { return };
        let shown = strange.escape_ascii();
        let line = if self.scheme.content.separates(strange) {
            format!(
                "the id contains `{shown}`, which separates the parts of what is signed: an id cannot have it, for the \
                 parts could then be told apart in two ways. Let the sender use other ids, or another separator in `content`"
            )
        } else {
            format!("the id contains `{shown}`, which an id cannot have")
        };
        self.say(line);
    }

    pub(super) fn keys(&mut self) {
        let span = |seconds: i64| shown_span(Duration::from_secs(seconds.unsigned_abs()));
        for key in self.verifier.keys() {
            let validity = key.validity();
            let now = i64::try_from(self.now.unix.as_secs()).unwrap_or(i64::MAX);
            match (validity.not_before, validity.not_after) {
                (_, Some(end)) if now >= end => {
                    self.say(format!("key `{}`: expired {} ago", key.id(), span(now - end)));
                }
                (Some(start), _) if now < start => {
                    self.say(format!("key `{}`: counts only in {}", key.id(), span(start - now)));
                }
                _ => self.say(format!("key `{}`: active", key.id())),
            }
        }
    }
}
