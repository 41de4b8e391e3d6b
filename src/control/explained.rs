//! Why a request that is kept was refused, by the keys that count at present: what the status page shows of it.
//! `countersign explain` tries more: it has the secrets as they stand in their files.

use std::sync::Arc;

use crate::config::presets;
use crate::explain::{BodyEnd, Explanation, Given, TrialBudget, explain, explain_head};
use crate::gate::verify::{Delivery, Scheme, Verifier};
use crate::now::Now;
use crate::outcome::{Outcome, Rejection};
use crate::telemetry::advice;
use crate::telemetry::capture::Captured;
use crate::wire::headers::{HeaderBuf, Headers};

/// The explanation, a line for each thing that was found. Never anything of a secret.
#[must_use]
pub(super) fn explained(captured: &Captured, verifier: &Verifier) -> String {
    let Outcome::Rejected(rejection) = captured.outcome else { return String::new() };
    // What has another status was refused before anything was verified.
    if rejection.answer().status != 401 {
        return helped(rejection).join("\n");
    }
    let explanation = explanation(captured, verifier);
    let mut lines = vec![explanation.headline()];
    lines.extend(explanation.remedy().map(|remedy| format!("what to do: {remedy}")));
    match explanation.verdict {
        _ if captured.is_cut() => {
            lines.push("not all of it is kept: its body had not come whole, or was too long".to_owned());
        }
        Ok(()) => lines.push("the keys or the scheme of the route have changed since then".to_owned()),
        Err(found) if explanation.remedy().is_none() => lines.extend(helped(found)),
        Err(_) => {}
    }
    let on_size = explanation.remark_on_size();
    lines.extend(explanation.facts.into_iter().chain(on_size));
    lines.join("\n")
}

/// The codes of what explains it, where that has been found: one, or two with a `+`.
#[must_use]
pub(super) fn cause(captured: &Captured, verifier: &Verifier) -> Option<String> {
    let Outcome::Rejected(rejection) = captured.outcome else { return None };
    if rejection.answer().status != 401 {
        return None;
    }
    let finding = explanation(captured, verifier).finding?;
    Some(finding.codes().collect::<Vec<_>>().join("+"))
}

fn explanation(captured: &Captured, verifier: &Verifier) -> Explanation {
    let request = KeptRequest::of(captured);
    let schemes: Vec<Arc<Scheme>> = presets::preset_names().filter_map(presets::preset).collect();
    let budget = TrialBudget::of(request.body.len());
    let (now, schemes) = (Now::at_unix(captured.at), schemes.as_slice());
    let given = Given {
        verifier,
        secrets: &[],
        of_others: &[],
        schemes,
        now,
        is_present: false,
        query: None,
        end: BodyEnd::AsSaid,
        budget: &budget,
    };
    if captured.is_cut() { explain_head(&given, &request) } else { explain(&given, &request) }
}

fn helped(rejection: Rejection) -> [String; 2] {
    [format!("what that means: {}", rejection.meaning()), format!("what to do: {}", advice::of(rejection.code()))]
}

/// A request that is kept, as the engine looks at it.
struct KeptRequest<'c> {
    method: &'c [u8],
    target: &'c [u8],
    headers: HeaderBuf,
    body: &'c [u8],
}

impl<'c> KeptRequest<'c> {
    fn of(captured: &'c Captured) -> Self {
        let mut lines =
            captured.head().split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let mut words = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
        let (method, target) = (words.next().unwrap_or_default(), origin_form(words.next().unwrap_or_default()));
        let mut headers = HeaderBuf::default();
        for line in lines {
            let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':').unwrap_or_default());
            if let (Ok(name), Some(value)) = (core::str::from_utf8(name), value.strip_prefix(b":")) {
                headers.push(name, value.trim_ascii());
            }
        }
        Self { method, target, headers, body: captured.body() }
    }
}

/// The target without scheme and authority, where a client has written them (RFC 9112 section 3.2.2).
fn origin_form(target: &[u8]) -> &[u8] {
    if target.starts_with(b"/") {
        return target;
    }
    let authority = target.windows(3).position(|window| window == b"://").map(|at| at + 3);
    let rest = authority.and_then(|at| target.get(at..)).unwrap_or(target);
    rest.iter().position(|byte| *byte == b'/').and_then(|at| rest.get(at..)).unwrap_or(b"/")
}

impl Delivery for KeptRequest<'_> {
    fn method(&self) -> &[u8] {
        self.method
    }

    fn target(&self) -> &[u8] {
        self.target
    }

    fn headers(&self) -> Headers<'_> {
        self.headers.view()
    }

    fn body(&self) -> &[u8] {
        self.body
    }
}
