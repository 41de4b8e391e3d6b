//! A configuration for one sender, put together from options: `init` writes it to a file, `run --scheme` uses it as it is.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::config::other_names::known_as;
use crate::config::presets;
use crate::config::suggest::did_you_mean;
use crate::config::units::show_size;
use crate::gate::verify::Scheme;

/// What one sender and one application need.
#[derive(Debug)]
pub(super) struct GuardPlan<'a> {
    /// Name of a built-in scheme, or "none".
    pub(super) scheme: &'a str,
    /// The path of the route; empty for all paths.
    pub(super) path: &'a str,
    /// Where requests arrive.
    pub(super) listen: &'a str,
    /// The application.
    pub(super) upstream: String,
    /// Files of secrets, or of public keys, with the ids of the keys.
    pub(super) keys: Vec<(String, PathBuf)>,
    /// The URL as it is registered with the sender.
    pub(super) public_url: Option<&'a str>,
    /// The admin port.
    pub(super) admin: Option<&'a str>,
}

impl GuardPlan<'_> {
    /// The configuration. Whether it holds is found out as for every other.
    pub(super) fn text(&self) -> String {
        let mut text = format!("[[listener]]\naddress = {}\n\n", quoted(self.listen));
        // Writing into a String cannot fail.
        let _ = writeln!(text, "[upstream]\naddress = {}\n", quoted(&self.upstream));
        if let Some(admin) = self.admin {
            let _ = writeln!(text, "[admin]\naddress = {}", quoted(admin));
            text.push_str(
                "# The last refused requests are kept for `countersign explain`. Remove it when everything works.\n",
            );
            text.push_str("capture_refused = 20\n\n");
        }
        let path = if self.path.is_empty() { "/{*path}" } else { self.path };
        let _ = writeln!(text, "[[route]]\nname = {}\npath = {}", quoted(self.scheme), quoted(path));
        let _ = writeln!(text, "scheme = {}", quoted(self.scheme));
        let preset = presets::preset(self.scheme);
        if let Some(url) = self.public_url {
            let _ = writeln!(text, "public_url = {}", quoted(url));
        }
        if let Some(size) = preset.as_ref().and_then(|scheme| scheme.body_size) {
            let _ = writeln!(text, "body_size = \"{}\"", show_size(size));
        }
        let claims = preset.as_ref().map(|scheme| scheme.token.route_claims.as_slice()).unwrap_or_default();
        if !claims.is_empty() {
            let claims: Vec<String> = claims.iter().map(|claim| format!("{claim} = \"replace-me\"")).collect();
            let _ = writeln!(text, "# What the token of the sender must say (docs/tokens.md).");
            let _ = writeln!(text, "claims = {{ {} }}", claims.join(", "));
        }
        let values = preset.as_ref().map(|scheme| scheme.values.as_slice()).unwrap_or_default();
        if !values.is_empty() {
            let values: Vec<String> = values.iter().map(|value| format!("{} = \"replace-me\"", value.name)).collect();
            let _ = writeln!(text, "# What only you know of what is signed (docs/tokens.md).");
            let _ = writeln!(text, "values = {{ {} }}", values.join(", "));
        }
        let asks =
            preset.as_ref().and_then(|scheme| scheme.named_key.as_ref()).is_some_and(|locator| locator.credential);
        if asks && self.keys.is_empty() {
            let _ = writeln!(text, "# The API key by which the sender shows you its public keys (docs/tokens.md).");
            let _ = writeln!(text, "key_credential_file = {}", quoted(&format!("secrets/{}-api-key", self.scheme)));
        }
        let keys: Vec<String> = self.keys.iter().map(key).collect();
        if !keys.is_empty() {
            let list = if preset.is_some_and(|scheme| scheme.wants_public_key()) { "public_keys" } else { "secrets" };
            let _ = writeln!(text, "{list} = [{}]", keys.join(", "));
        }
        text
    }
}

fn key((id, path): &(String, PathBuf)) -> String {
    format!("{{ id = {}, file = {} }}", quoted(id), quoted(&path.display().to_string()))
}

/// A basic string of TOML: its escapes are those of JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The keys of these files, called 1, 2, 3.
pub(super) fn numbered<'p>(files: impl IntoIterator<Item = &'p PathBuf>) -> Vec<(String, PathBuf)> {
    files.into_iter().enumerate().map(|(at, path)| ((at + 1).to_string(), path.clone())).collect()
}

/// An address on this host may be given as its port, with or without a colon.
pub(super) fn on_this_host(text: &str) -> String {
    let port = text.strip_prefix(':').unwrap_or(text);
    if port.parse::<u16>().is_ok() { format!("127.0.0.1:{port}") } else { text.to_owned() }
}

/// The built-in scheme.
///
/// # Errors
/// A sentence for the operator.
pub(super) fn built_in(name: &str) -> Result<std::sync::Arc<Scheme>, String> {
    presets::preset(name)
        .ok_or_else(|| format!("there is no scheme \"{name}\": {}`countersign schemes` lists them", hint(name)))
}

/// The built-in scheme that was probably meant, as the beginning of a sentence; empty where none is near.
pub(super) fn hint(name: &str) -> String {
    match known_as(name) {
        Some(scheme) => format!("it is called \"{scheme}\" here; "),
        None => {
            let aliases = presets::aliases().map(|(alias, _)| alias);
            did_you_mean(name, &presets::preset_names().chain(aliases).collect::<Vec<_>>())
        }
    }
}

/// The same path from everywhere: what a command is given is relative to the current directory.
///
/// # Errors
/// There is no current directory.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::parse_str;

    #[test]
    fn every_scheme_has_a_configuration_that_is_understood() {
        for name in presets::preset_names() {
            let preset = presets::preset(name).unwrap();
            let url = preset.signs_url().then_some("https://hooks.example.com/hook");
            let plan = GuardPlan {
                scheme: name,
                path: "/hook",
                listen: "127.0.0.1:8080",
                upstream: on_this_host(":9000"),
                keys: numbered(&[PathBuf::from("a \"b\"\\c")]),
                public_url: url,
                admin: Some("127.0.0.1:9090"),
            };
            let (settings, _) = parse_str("x", &plan.text()).unwrap_or_else(|problems| panic!("{name}: {problems}"));
            assert_eq!(settings.routes.len(), 1);
        }
    }

    #[test]
    fn an_application_may_be_a_port() {
        for (given, meant) in [("9000", "127.0.0.1:9000"), (":9000", "127.0.0.1:9000"), ("app:1", "app:1")] {
            assert_eq!(on_this_host(given), meant);
        }
    }
}
