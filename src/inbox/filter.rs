//! Which deliveries an operator means.

use crate::inbox::delivery::{DeliveryId, DeliveryReason, DeliveryState};
use crate::inbox::row::DeliveryRow;

/// Deliveries that fit everything that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// These ones; all where it is empty.
    pub ids: Vec<DeliveryId>,
    /// Of this route.
    pub route: Option<String>,
    /// In this state.
    pub state: Option<DeliveryState>,
    /// For this reason.
    pub reason: Option<DeliveryReason>,
    /// Accepted then or later, in milliseconds since 1970.
    pub since: Option<u64>,
    /// Accepted before then, in milliseconds since 1970.
    pub before: Option<u64>,
}

impl DeliveryFilter {
    /// Whether a delivery of this route fits.
    #[must_use]
    pub fn matches(&self, row: &DeliveryRow, route: &str) -> bool {
        (self.ids.is_empty() || self.ids.contains(&row.id))
            && self.route.as_deref().is_none_or(|wanted| wanted == route)
            && self.state.is_none_or(|wanted| wanted == row.state)
            && self.reason.is_none_or(|wanted| wanted == row.reason)
            && self.since.is_none_or(|since| row.accepted >= since)
            && self.before.is_none_or(|before| row.accepted < before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::row::tests::row;

    #[test]
    fn every_condition_counts() {
        let fits = |filter: &DeliveryFilter| filter.matches(&DeliveryRow { accepted: 50, ..row(5) }, "orders");
        let all = DeliveryFilter::default();
        assert!(fits(&all));
        let (ids, route) = (vec![DeliveryId(5), DeliveryId(6)], Some("orders".to_owned()));
        assert!(fits(&DeliveryFilter { ids, route, since: Some(50), before: Some(51), ..all.clone() }));
        for other in [
            DeliveryFilter { ids: vec![DeliveryId(6)], ..all.clone() },
            DeliveryFilter { route: Some("order".to_owned()), ..all.clone() },
            DeliveryFilter { state: Some(DeliveryState::Dead), ..all.clone() },
            DeliveryFilter { reason: Some(DeliveryReason::GaveUpAge), ..all.clone() },
            DeliveryFilter { since: Some(51), ..all.clone() },
            DeliveryFilter { before: Some(50), ..all },
        ] {
            assert!(!fits(&other), "{other:?}");
        }
    }
}
