//! Keys that deliveries name: whatever a delivery names, only a URL of the pinned hosts comes out; whatever stands there, it is
//! a key or none.

use std::sync::LazyLock;
use std::time::Duration;

use countersign::config::presets::{preset, preset_names};
use countersign::gate::verify::{Key, KeyLocator, Validity};
use countersign::now::Now;

static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let named = preset_names().filter_map(preset).filter(|scheme| scheme.named_key.is_some());
    let keys = named.map(|scheme| Key::named_by_deliveries("1", &scheme, Validity::default()).expect("a key"));
    keys.collect()
});

/// The input is the number of a preset, and what a delivery names, or what stands there.
pub fn run(bytes: &[u8]) {
    let Some((number, rest)) = bytes.split_first() else { return };
    let keys = KEYS[usize::from(*number) % KEYS.len()].pinned().expect("keys that deliveries name");
    if let Some(url) = keys.locator().url(rest) {
        assert!(is_pinned(keys.locator(), &url), "{url}");
    }
    let _ = keys.read(rest, Now::at_unix(Duration::from_secs(1_760_000_000)));
}

/// By other means than the pin itself: the host ends as the pin's does, and nothing of the URL is special.
fn is_pinned(locator: &KeyLocator, url: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:".contains(&byte);
    let host = |url: &str| url.strip_prefix("https://").and_then(|rest| rest.split('/').next()).map(str::to_owned);
    let ends = |pin: &str| {
        let (own, wanted) = (host(url).unwrap_or_default(), host(pin).unwrap_or_default());
        let behind = wanted.rsplit('*').next().unwrap_or_default().to_owned();
        own.ends_with(&behind) && own.matches('.').count() == wanted.matches('.').count()
    };
    url.bytes().all(plain) && url.matches('/').count() < 9 && locator.pins.iter().any(|pin| ends(pin.text()))
}
