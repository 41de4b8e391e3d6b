//! Explanations: whatever a body is, all trials together cost no more than a multiple of its length, and a delivery that
//! is signed with another key matches none of them.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use countersign::config::presets::{preset, preset_names};
use countersign::explain::{BodyEnd, Certainty, Given, TrialBudget, explain};
use countersign::gate::verify::{
    Encoding, Key, KeyEncoding, Keyring, PublicUrl, Scheme, SignInput, Validity, Verifier, sign,
};
use countersign::now::Now;
use countersign::wire::headers::HeaderBuf;

use crate::request::Request;

/// What the sender signs with, and what we have; each raw, as hexadecimal digits and in base64.
const THEIRS: [&str; 3] =
    ["user:theirs", "5d8a3c1be2f94706a1c8d05be72f9346", "NWQ4YTNjMWJlMmY5NDcwNmExYzhkMDViZTcyZjkzNDY="];
const OURS: [&str; 3] =
    ["user:ours", "6d8a3c1be2f94706a1c8d05be72f9346", "NmQ4YTNjMWJlMmY5NDcwNmExYzhkMDViZTcyZjkzNDY="];

const URL: &str = "https://hooks.example.com/hook";

static SCHEMES: LazyLock<Vec<Arc<Scheme>>> = LazyLock::new(|| {
    let presets = preset_names().filter_map(preset);
    presets.filter(|scheme| scheme.signs() && !scheme.wants_public_key()).collect()
});

fn secret(scheme: &Scheme, spellings: [&'static str; 3]) -> &'static str {
    match scheme.secret.encoding {
        KeyEncoding::Raw => spellings[0],
        KeyEncoding::Encoded(Encoding::Hex) => spellings[1],
        KeyEncoding::Encoded(_) => spellings[2],
    }
}

/// The input is the number of a preset and a body. What is signed is another body.
pub fn run(bytes: &[u8]) {
    let Some((number, body)) = bytes.split_first() else { return };
    let scheme = &SCHEMES[usize::from(*number) % SCHEMES.len()];
    let now = Now::at_unix(Duration::from_secs(1_760_000_000));
    let input = SignInput { method: "POST", url: URL, headers: &[], body: b"{\"id\":1}", now, id: Some("1") };
    let Ok(signed) = sign(scheme, secret(scheme, THEIRS).as_bytes(), &input) else { return };
    let mut headers = HeaderBuf::default();
    signed.iter().for_each(|(name, value)| headers.push(name, value.as_bytes()));
    let request = Request { target: b"/hook", headers, body };
    let ours = secret(scheme, OURS);
    let Ok(key) = Key::from_secret("1", scheme, ours.as_bytes(), Validity::default()) else { return };
    let url = PublicUrl::parse(URL).ok().filter(|_| scheme.signs_url());
    let Ok(verifier) = Verifier::new(Arc::clone(scheme), Keyring::new(vec![key]), None, url.clone()) else { return };
    let budget = TrialBudget::of(body.len());
    let secrets = [("1".to_owned(), ours.as_bytes().to_vec().into())];
    let given = Given {
        verifier: &verifier,
        secrets: &secrets,
        of_others: &[],
        schemes: &SCHEMES,
        now,
        is_present: false,
        query: None,
        end: BodyEnd::AsSaid,
        budget: &budget,
    };
    let explanation = explain(&given, &request);
    let proven = explanation.finding.as_ref().is_some_and(|finding| finding.certainty() == Certainty::Matches);
    assert!(explanation.verdict.is_err() && !proven, "{explanation}");
    let length = body.len() as u64;
    assert!(budget.spent() <= (64 << 20) + 512 * length, "{length}: {}", budget.spent());
    assert!(budget.spent() <= (4096 + length) << 14, "{length}: {}", budget.spent());
}
