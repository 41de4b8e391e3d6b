//! What deliveries are judged by, by fingerprint, so that the audit trail can say what has changed: keys of routes,
//! certificates of listeners, and the authorities of their clients.

use std::collections::BTreeMap;

use crate::config::load::Loaded;
use crate::telemetry::audit::{Change, Transition};

/// Fingerprints of what is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    items: BTreeMap<InventoryItem, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum InventoryItem {
    Secret {
        route: String,
        key_id: String,
    },
    Certificate {
        listener: String,
        file: String,
    },
    /// Known by nothing but its fingerprint: many share a file.
    Authority {
        listener: String,
        fingerprint: String,
    },
}

impl InventoryItem {
    fn change<'a>(&'a self, step: Transition<'a>) -> Change<'a> {
        match self {
            Self::Secret { route, key_id } => Change::Secret { route, key_id, step },
            Self::Certificate { listener, file } => Change::Certificate { listener, file, step },
            Self::Authority { listener, .. } => Change::Authority { listener, step },
        }
    }
}

impl Inventory {
    /// Of a configuration. `of_secret` tells secrets apart without giving them away.
    #[must_use]
    pub fn of(loaded: &Loaded, of_secret: impl Fn(&[u8]) -> String) -> Self {
        let mut items = BTreeMap::new();
        for (route, secrets) in loaded.settings.routes.iter().zip(&loaded.secrets) {
            let keys = route.verification.iter().flat_map(|it| &it.keys);
            items.extend(keys.zip(secrets).filter_map(|(key, secret)| {
                let item = InventoryItem::Secret { route: route.name.clone(), key_id: key.id.clone() };
                Some((item, of_secret(secret.as_ref()?.bytes())))
            }));
        }
        for listener in &loaded.settings.listeners {
            let Some(tls) = &listener.tls else { continue };
            let listener = listener.address.to_string();
            items.extend(tls.certificates.iter().filter_map(|it| {
                let file = it.certificate.path.display().to_string();
                let item = InventoryItem::Certificate { listener: listener.clone(), file };
                Some((item, it.facts.as_ref()?.fingerprint.clone()))
            }));
            items.extend(tls.callers.iter().flat_map(|callers| &callers.facts).map(|facts| {
                let fingerprint = facts.fingerprint.clone();
                let item = InventoryItem::Authority { listener: listener.clone(), fingerprint: fingerprint.clone() };
                (item, fingerprint)
            }));
        }
        Self { items }
    }

    /// Tells everything, as what a process starts with.
    pub fn tell(&self, mut teller: impl FnMut(&Change<'_>)) {
        self.items.iter().for_each(|(item, fingerprint)| teller(&item.change(Transition::InForce(fingerprint))));
    }

    /// Tells what is different in `newer`: what is gone first.
    pub fn tell_changes(&self, newer: &Self, mut teller: impl FnMut(&Change<'_>)) {
        for (item, before) in &self.items {
            if !newer.items.contains_key(item) {
                teller(&item.change(Transition::Removed(before)));
            }
        }
        for (item, after) in &newer.items {
            match self.items.get(item) {
                None => teller(&item.change(Transition::Added(after))),
                Some(before) if before != after => teller(&item.change(Transition::Changed { before, after })),
                Some(_) => {}
            }
        }
    }
}
