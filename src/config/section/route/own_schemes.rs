//! `[scheme.NAME]`: the schemes of the file, and the search for the scheme that a route names.

use std::sync::Arc;

use crate::config::other_names::known_as;
use crate::config::presets;
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::config::scheme;
use crate::config::suggest::did_you_mean;
use crate::config::units::shorten;
use crate::gate::verify::Scheme;

/// What to do where a scheme needs the URL.
pub(super) const FIX_NO_URL: &str = "add public_url = \"https://…\", exactly as it is registered with the sender";

const SCHEME_LIMIT: usize = 256;

/// A `[scheme.NAME]` of the file. Without a scheme when it has errors, so that routes can name it all the same.
pub(super) struct OwnScheme {
    name: String,
    scheme: Option<Arc<Scheme>>,
    place: Place,
    used: bool,
    /// Whether a route needs `public_url`, as far as the text of its content can tell.
    mentions_url: bool,
}

pub(super) fn read(root: &Reader<'_>) -> Vec<OwnScheme> {
    let Some(tables) = root.table("scheme") else { return Vec::new() };
    let mut schemes = Vec::new();
    let named = tables.named_tables();
    if named.len() > SCHEME_LIMIT {
        root.error("scheme", format!("has more than {SCHEME_LIMIT} schemes"), "remove those that no route uses");
    }
    for (name, reader) in named.into_iter().take(SCHEME_LIMIT) {
        let place = reader.here();
        if name == "none" || presets::preset_names().any(|preset| preset == name) {
            let message = "this name belongs to a scheme that is built in";
            tables.error(name, message, format!("choose another name: [scheme.my-{name}]"));
        }
        let scheme = scheme::read_scheme(name, &reader).map(Arc::new);
        let mentions_url = reader.string("content").is_some_and(|content| content.contains("{url"));
        schemes.push(OwnScheme { name: name.to_owned(), scheme, place, used: false, mentions_url });
        reader.finish();
    }
    tables.finish();
    schemes
}

/// The scheme that a route names.
pub(super) fn find_scheme(reader: &Reader<'_>, name: &str, schemes: &mut [OwnScheme]) -> Option<Arc<Scheme>> {
    if let Some(own) = schemes.iter_mut().find(|own| own.name == name) {
        own.used = true;
        if own.scheme.is_none() && own.mentions_url {
            reader.require("public_url", FIX_NO_URL);
        }
        return own.scheme.clone();
    }
    let preset = presets::preset(name);
    if preset.is_none() {
        let mut names: Vec<&str> = schemes.iter().map(|own| own.name.as_str()).collect();
        for known in presets::preset_names().chain(presets::aliases().map(|(alias, _)| alias)) {
            names.push(known);
        }
        names.push("none");
        let message = format!("there is no scheme \"{}\"", shorten(name));
        let meant = known_as(name).map(|scheme| format!("write scheme = \"{scheme}\", or "));
        let meant = meant.unwrap_or_else(|| did_you_mean(name, &names));
        let fix = format!("{meant}describe it in [scheme.{}]", shorten(name));
        reader.error("scheme", message, fix);
    }
    preset
}

/// Warns about schemes that no route names.
pub(super) fn warn_of_unused(root: &Reader<'_>, schemes: &[OwnScheme]) {
    for unused in schemes.iter().filter(|own| !own.used) {
        let message = "no route uses this scheme";
        root.warning_at(unused.place.clone(), message, "remove it, or name it in a route: scheme = \"…\"");
    }
}
