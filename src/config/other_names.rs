//! Names by which people look for a sender, beside those of the schemes and their aliases.

use crate::config::presets::{preset_names, without_alias};

/// Names that people look for and that are no aliases of a scheme.
const OTHER_NAMES: [(&str, &str); 5] = [
    ("shopify-app", "shopify"),
    ("github-app", "github"),
    ("atlassian", "jira-webhook"),
    ("codeberg", "forgejo"),
    ("standardwebhooks", "standard-webhooks"),
];

/// The built-in scheme of a sender that people call by this name, which is neither that of a scheme nor an alias of one:
/// capitals, spaces and underscores do not count.
#[must_use]
pub fn known_as(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase().replace(['_', ' '], "-");
    let other = OTHER_NAMES.iter().find(|(other, _)| *other == name).map(|(_, scheme)| *scheme);
    other.or_else(|| preset_names().find(|known| *known == without_alias(&name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::presets::preset;

    #[test]
    fn other_names_lead_to_schemes() {
        for (name, scheme) in OTHER_NAMES {
            assert!(preset(name).is_none() && preset(scheme).is_some(), "{name}");
            assert_eq!(known_as(&name.to_uppercase()), Some(scheme));
        }
        for (name, scheme) in [("GitHub", Some("github")), ("WhatsApp", Some("meta")), ("nonesuch", None)] {
            assert_eq!(known_as(name), scheme);
        }
    }
}
