//! What a request is judged by that is explained, and how an explanation is told.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::config::section::limits::LimitSettings;
use crate::config::section::route::keys::KeySource;
use crate::config::section::route::verification::Verification;
use crate::config::{load, parse_str, presets};
use crate::explain::{
    BodyEnd, Explanation, Given, NamedMistake, NamedSecret, TrialBudget, blank_secret, explain, explain_head, quoted,
};
use crate::gate::verify::{Delivery, Key, KeyForm, Keyring, Scheme, Validity, Verifier};
use crate::now::Now;
use crate::outcome::Rejection;
use crate::telemetry::advice;
use crate::wire::head::HeadLimits;

use super::capture_forms::{self, ReadCapture};
use super::captured::{self, CaptureSource};
use super::configured::ConfigFlag;
use super::offline::{find_scheme, read_file, split_url};
use super::output::{line, print_problems, tell};
use super::strict::HeadRefusal;

/// What a request is judged by, and what that was made of.
pub(super) struct Judgement {
    pub(super) verifier: Verifier,
    /// As they stand in their files.
    pub(super) secrets: Vec<NamedSecret>,
    /// Those of other routes, with words for each.
    pub(super) of_others: Vec<NamedSecret>,
    /// What is to be said of keys.
    pub(super) remarks: Vec<String>,
    /// How large a head may be.
    pub(super) limits: HeadLimits,
    /// The query of `--url`, where the URL is signed.
    pub(super) query: Option<String>,
    /// Whether it is judged by the present, for want of the time at which the request came.
    pub(super) is_present: bool,
}

/// How large a head may be, by the configuration.
pub(super) const fn head_limits(limits: &LimitSettings) -> HeadLimits {
    HeadLimits { size: limits.head_size, fields: limits.headers, target: limits.target_size }
}

/// A key that was made of a file, or of what stands in it where that is none: with a word about that.
pub(super) fn key_of_file(id: &str, scheme: &Arc<Scheme>, secret: &[u8]) -> Result<(Key, Option<String>), String> {
    let bare = secret.strip_suffix(b"\n").unwrap_or(secret);
    let bare = bare.strip_suffix(b"\r").unwrap_or(bare);
    if scheme.wants_public_key() {
        let text = String::from_utf8_lossy(bare);
        let key = Key::from_public(id, scheme, text.trim(), Validity::default());
        return key.map(|key| (key, None)).map_err(|error| format!("{id}: {error}"));
    }
    match Key::from_secret(id, scheme, bare, Validity::default()) {
        Ok(key) => Ok((key, None)),
        // It matches nothing by itself, and what it was made of by mistake is tried.
        Err(error) => {
            let raw = Scheme { secret: KeyForm::default(), ..(**scheme).clone() };
            let why = format!("the secret `{id}` cannot be used by this scheme as it is: {error}");
            let nothing = Zeroizing::new([bare, b"\0 is no key of this scheme"].concat());
            let key = Key::from_secret(id, &raw, &nothing, Validity::default());
            key.map(|key| (key, Some(why))).map_err(|error| format!("{id}: {error}"))
        }
    }
}

impl Judgement {
    /// By a scheme and secrets in files.
    ///
    /// # Errors
    /// A sentence for the user.
    pub(super) fn by_scheme(
        name: &str,
        config: &ConfigFlag,
        files: &[PathBuf],
        url: Option<&str>,
    ) -> Result<Self, String> {
        let scheme = find_scheme(name, config)?;
        let (public_url, target) = url.map(split_url).transpose()?.unzip();
        let query = target.and_then(|target| target.split_once('?').map(|(_, query)| query.to_owned()));
        let query = query.filter(|_| scheme.signs_url());
        if files.is_empty() {
            return Err("give at least one --secret-file".to_owned());
        }
        let (mut secrets, mut keys, mut remarks) = (Vec::new(), Vec::new(), Vec::new());
        for path in files {
            let id = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let secret = Zeroizing::new(read_file(path)?);
            // One that is empty is named with its whole path: that is what is to be corrected.
            let id = if blank_secret(&secret).is_some() { path.display().to_string() } else { id };
            let (key, remark) = key_of_file(&id, &scheme, &secret)?;
            keys.push(key);
            remarks.extend(remark.filter(|_| blank_secret(&secret).is_none()));
            secrets.push((id, secret));
        }
        if scheme.wants_public_key() {
            secrets.clear();
        }
        let signed_url = public_url.filter(|_| scheme.signs_url());
        let verifier = Verifier::new(scheme, Keyring::new(keys), None, signed_url).map_err(|problems| {
            let lines: Vec<String> = problems.iter().map(|it| format!("{}: {}", it.message, it.fix)).collect();
            lines.join("\n")
        })?;
        Ok(Self {
            verifier,
            secrets,
            of_others: Vec::new(),
            remarks,
            limits: head_limits(&LimitSettings::default()),
            query,
            is_present: false,
        })
    }

    /// By a route. The verifier is the one of `run`; the secrets are read once more, because nothing keeps them as they
    /// are written.
    ///
    /// # Errors
    /// A sentence for the user.
    pub(super) fn by_route(config: &Path, name: &str) -> Result<Self, String> {
        let verifier = of_route(config, name)?;
        let text = Zeroizing::new(read_file(config)?);
        let text = String::from_utf8_lossy(&text);
        let (settings, _) = parse_str(&config.display().to_string(), &text).map_err(|problems| problems.to_string())?;
        let route = settings.routes.iter().find(|route| route.name == name);
        let verification = route.and_then(|route| route.verification.as_ref());
        let verification = verification.ok_or_else(|| format!("the route \"{name}\" verifies nothing"))?;
        let directory = config.parent().unwrap_or(Path::new("."));
        let mut remarks = Vec::new();
        let secrets = secrets_of(verification, directory, |variable, key| {
            remarks.push(format!("the key `{key}` is in the variable {variable}: not varied"));
        })?;
        let mut of_others: Vec<NamedSecret> = Vec::new();
        for other in settings.routes.iter().filter(|other| other.name != name) {
            let keys = other.verification.as_ref().map(|it| secrets_of(it, directory, |_, _| {})).transpose()?;
            for (id, secret) in keys.unwrap_or_default() {
                if secrets.iter().chain(&of_others).all(|(_, known)| *known != secret) {
                    of_others.push((format!("the secret `{id}` of the route `{}`", other.name), secret));
                }
            }
        }
        Ok(Self {
            verifier,
            secrets,
            of_others,
            remarks,
            limits: head_limits(&settings.limits),
            query: None,
            is_present: false,
        })
    }

    /// Which URL was judged, where the query of `--url` is not that of the request.
    fn remark_on_query(&self, target: &[u8]) -> Option<String> {
        let given = self.query.as_deref()?;
        let mark = target.iter().position(|byte| *byte == b'?');
        let own = mark.and_then(|mark| target.get(mark + 1..));
        if own == Some(given.as_bytes()) {
            return None;
        }
        let own = own.map_or("no query".to_owned(), |own| format!("the query `{}`", quoted(own)));
        let mut judged = Vec::new();
        self.verifier.public_url()?.write(target, &mut |piece| judged.extend_from_slice(piece));
        Some(format!(
            "--url has the query `{}`, and the request line has {own}: a guard sees the request line, so the URL that was \
             judged is {}",
            quoted(given),
            quoted(judged)
        ))
    }

    /// Calls `tell` with what a delivery is explained with.
    pub(super) fn explained(
        &self,
        now: Now,
        length: usize,
        tell: impl FnOnce(&Given<'_>) -> Explanation,
    ) -> Explanation {
        let schemes: Vec<Arc<Scheme>> = presets::preset_names().filter_map(presets::preset).collect();
        let budget = TrialBudget::of(length);
        let (secrets, of_others) = (self.secrets.as_slice(), self.of_others.as_slice());
        tell(&Given {
            verifier: &self.verifier,
            secrets,
            of_others,
            schemes: &schemes,
            now,
            is_present: self.is_present,
            query: self.query.as_deref().map(str::as_bytes),
            end: BodyEnd::AsSaid,
            budget: &budget,
        })
    }
}

/// The verifier of a route, made of the configuration as `run` makes it.
fn of_route(config: &Path, name: &str) -> Result<Verifier, String> {
    let loaded = load(config).map_err(|problems| {
        print_problems(&problems);
        format!("{} is not valid", config.display())
    })?;
    let routes = loaded.gate.routes.routes();
    let found = routes.iter().find(|route| route.name == name).map(|route| route.verifier.clone());
    let names: Vec<&str> = routes.iter().map(|route| route.name.as_str()).collect();
    found.ok_or_else(|| format!("there is no route \"{name}\" in {}: it has {}", config.display(), names.join(", ")))
}

/// The secrets of a route, byte for byte. Those that are in the environment are told to `left_out`.
fn secrets_of(
    verification: &Verification,
    directory: &Path,
    mut left_out: impl FnMut(&str, &str),
) -> Result<Vec<NamedSecret>, String> {
    let mut secrets = Vec::new();
    if verification.scheme.wants_public_key() {
        return Ok(secrets);
    }
    for key in &verification.keys {
        match &key.source {
            KeySource::Value(secret) => secrets.push((key.id.clone(), Zeroizing::new(secret.bytes().to_vec()))),
            KeySource::File(path) => {
                secrets.push((key.id.clone(), Zeroizing::new(read_file(&directory.join(path))?)));
            }
            // Nothing that is secret, and nothing of the sender is fetched for an explanation.
            KeySource::Url(_) | KeySource::Named | KeySource::NamedWith(_) => {}
            KeySource::Env(variable) => left_out(variable, &key.id),
        }
    }
    Ok(secrets)
}

/// Whether a reason is one that the bytes of a request and the keys of a route explain.
pub(super) fn is_about_verification(code: &str) -> bool {
    Rejection::ALL.iter().any(|it| it.code() == code && it.answer().status == 401)
}

/// Judges the bytes of a request, and says what would explain the verdict.
///
/// # Errors
/// A sentence for the user.
pub(super) fn judge(bytes: &[u8], judgement: &Judgement, now: Now, source: CaptureSource) -> Result<bool, String> {
    let read = match source {
        CaptureSource::File(_) => capture_forms::read(bytes)?,
        CaptureSource::Process => ReadCapture { bytes: bytes.into(), remarks: Vec::new() },
    };
    let captured = captured::parse(&read.bytes, source)?;
    captured.refusal.iter().for_each(tell_refusal);
    let genuine = told(&captured.request, captured.end(), judgement, now);
    read.remarks.iter().chain(&captured.oddities).for_each(line);
    Ok(genuine && captured.refusal.is_none())
}

/// Says that the signature is not looked at, and why.
pub(super) fn tell_refusal(refusal: &HeadRefusal) {
    let code = refusal.rejection.code();
    let culprit = refusal.line.as_ref().map(|line| format!("; {line}")).unwrap_or_default();
    let meaning = refusal.rejection.meaning().trim_end_matches('.');
    line(format!(
        "not taken: the guard refuses this head before it looks at the signature: {code} ({meaning}{culprit})"
    ));
    line(format!("what to do: {}", advice::in_explanation(code)));
    line("and what the signature is:");
    tell("refused_before", code.into());
}

/// Explains a delivery and tells it; whether it is genuine.
pub(super) fn told<D: Delivery>(request: &D, end: BodyEnd<'_>, judgement: &Judgement, now: Now) -> bool {
    let explanation =
        judgement.explained(now, request.body().len(), |given| explain(&Given { end, ..*given }, request));
    tell_explanation(&explanation);
    judgement.remarks.iter().for_each(line);
    judgement.remark_on_query(request.target()).into_iter().for_each(line);
    explanation.verdict.is_ok()
}

/// Judges what is there of a request without the whole of its body.
///
/// # Errors
/// A sentence for the user.
pub(super) fn judge_head(bytes: &[u8], judgement: &Judgement, now: Now) -> Result<(), String> {
    let request = captured::parse(bytes, CaptureSource::Process)?.request;
    let explanation = judgement.explained(now, 0, |given| explain_head(given, &request));
    if explanation.verdict.is_ok() {
        line("nothing is wrong that can be seen without the body");
        line("what to do: send a smaller one, or capture a whole one on its way: `explain --request FILE`");
        explanation.facts.iter().for_each(line);
    } else {
        tell_explanation(&explanation);
    }
    line("not all of it is kept: its body had not come whole, or was too long");
    Ok(())
}

/// The cause, what to do, and the facts below.
fn tell_explanation(explanation: &Explanation) {
    line(explanation.headline());
    if let Err(rejection) = explanation.verdict {
        let remedy = explanation.remedy().unwrap_or_else(|| advice::in_explanation(rejection.code()).to_owned());
        line(format!("what to do: {remedy}"));
    }
    explanation.facts.iter().for_each(line);
    // The cause says more than the reason, and the reason stands for it where none is known.
    if let (Err(rejection), None) = (explanation.verdict, &explanation.finding)
        && !explanation.headline().contains(rejection.meaning())
    {
        line(format!("what that means: {}", rejection.meaning()));
    }
    explanation.remark_on_size().into_iter().for_each(line);
    if let Err(rejection) = explanation.verdict {
        tell("meaning", rejection.meaning().into());
    }
    let codes: Vec<&str> = explanation.finding.iter().flat_map(NamedMistake::codes).collect();
    tell("codes", codes.into());
    tell("certainty", explanation.finding.as_ref().map(|finding| finding.certainty().code()).into());
    if let Some(stays) = explanation.finding.as_ref().and_then(|finding| finding.stays.as_ref()) {
        tell("stays_refused", stays.why.as_str().into());
    }
}
