//! Takes the sidecar out of a text again: one change at a time, each found anew, until there is none.

use super::InjectError;
use super::add::GRACE;
use super::object::{self, BEFORE};
use super::policy::OURS;
use super::shape::quoted;
use super::sidecar::{CONFIG_VOLUME, NAME, SECRETS_VOLUME};
use super::splice::Splices;
use super::tree::{self, Node, YamlDocument};

/// More changes than any text has objects times keys.
const ROUNDS: usize = 10_000;

pub(super) fn take(text: &str) -> Result<String, InjectError> {
    let mut text = text.to_owned();
    for _ in 0..ROUNDS {
        let documents = tree::parse(&text)?;
        let Some(splices) = next(&text, &documents) else { return Ok(text) };
        text = splices.apply(&text);
    }
    Err(InjectError::Choose("the sidecar cannot be taken out: the text is too large".to_owned()))
}

/// The next change that is to be undone.
fn next(text: &str, documents: &[YamlDocument]) -> Option<Splices> {
    let change =
        |object: &Node| if object::is_workload(object) { workload(text, object) } else { service(text, object) };
    object::objects(documents).find_map(change).or_else(|| policy(text, documents))
}

fn workload(text: &str, workload: &Node) -> Option<Splices> {
    let pod = object::pod(workload)?;
    // What has no such note was not put there by us, whatever its name is.
    let note = object::before(workload)?;
    let stays = |key: &str| object::noted(note, "empty").is_some_and(|keys| keys.split(',').any(|it| it == key));
    for (key, names) in
        [("initContainers", [NAME].as_slice()), ("containers", &[NAME]), ("volumes", &[CONFIG_VOLUME, SECRETS_VOLUME])]
    {
        if let Some(splices) = item(text, pod, (key, names), stays(key)) {
            return Some(splices);
        }
    }
    let group = object::noted(note, "group").unwrap_or_default().split(',');
    let context = pod.get("securityContext");
    let mut added = group.filter(|key| context.is_some_and(|context| context.get(key).is_some()));
    if let Some(key) = added.next_back() {
        return entry(text, pod, ("securityContext", key), stays("securityContext"));
    }
    grace(text, pod, note).or_else(|| annotation(text, workload, stays("annotations")))
}

/// Takes an item with one of these names out of a list of the pod; the list, if it has no other.
fn item(text: &str, pod: &Node, (key, names): (&str, &[&str]), stays: bool) -> Option<Splices> {
    let (place, list) = pod.entry(key)?;
    let ours = |item: &Node| item.get("name").and_then(Node::text).is_some_and(|name| names.contains(&name));
    let position = list.items().iter().position(ours)?;
    let mut splices = Splices::default();
    if list.items().len() == 1 && !stays {
        splices.take_entry(text, pod, place);
    } else {
        splices.take_item(text, list, position);
    }
    Some(splices)
}

/// Takes an entry out of a mapping inside a mapping; the whole, if it has no other.
fn entry(text: &str, outer: &Node, (key, inner): (&str, &str), stays: bool) -> Option<Splices> {
    let (place, map) = outer.entry(key)?;
    let (position, _) = map.entry(inner)?;
    let mut splices = Splices::default();
    if map.len() == 1 && !stays {
        splices.take_entry(text, outer, place);
    } else {
        splices.take_entry(text, map, position);
    }
    Some(splices)
}

/// Restores the grace period, unless it was changed since.
fn grace(text: &str, pod: &Node, note: &str) -> Option<Splices> {
    let before = object::noted(note, "grace")?;
    let (place, node) = pod.entry("terminationGracePeriodSeconds")?;
    if node.text() != Some(&*GRACE.to_string()) {
        return None;
    }
    let mut splices = Splices::default();
    if before == "absent" {
        splices.take_entry(text, pod, place);
    } else {
        splices.replace(node, before);
    }
    Some(splices)
}

fn annotation(text: &str, object: &Node, stays: bool) -> Option<Splices> {
    object::before(object)?;
    entry(text, object.get("metadata")?, ("annotations", BEFORE), stays)
}

fn service(text: &str, service: &Node) -> Option<Splices> {
    let note = object::before(service).filter(|_| object::kind(service) == "Service")?;
    for port in service.at(&["spec", "ports"])?.items() {
        let (place, target) = port.entry("targetPort").unwrap_or((usize::MAX, port));
        let Some(before) = port.get("port").and_then(Node::text).and_then(|number| object::noted(note, number)) else {
            continue;
        };
        if target.text() != Some(NAME) {
            continue;
        }
        let mut splices = Splices::default();
        if before == "absent" {
            splices.take_entry(text, port, place);
        } else {
            splices.replace(target, &target_before(text, before));
        }
        return Some(splices);
    }
    let stays = object::noted(note, "empty") == Some("annotations");
    annotation(text, service, stays)
}

/// A target as it was written; in JSON, into which YAML may have been turned since, with double quotes around a name.
fn target_before(text: &str, before: &str) -> String {
    let bare = before.trim_matches(['"', '\'']);
    let is_number = before.bytes().all(|byte| byte.is_ascii_digit());
    if tree::is_json(text) && !is_number { quoted(bare) } else { before.to_owned() }
}

/// Takes the document with our policy out.
fn policy(text: &str, documents: &[YamlDocument]) -> Option<Splices> {
    let is_ours = |document: &YamlDocument| {
        let root = document.root.as_ref();
        let label = root.and_then(|root| root.at(&["metadata", "labels", OURS.0])).and_then(Node::text);
        label == Some(OURS.1) && root.is_some_and(|root| object::kind(root) == "NetworkPolicy")
    };
    let position = documents.iter().position(is_ours)?;
    let start = documents.get(position)?.start;
    let mut splices = Splices::default();
    match documents.get(position + 1) {
        Some(next) => splices.remove(start..next.start),
        // The end of line before it is its own where the text ends without one.
        None => splices.remove(start - usize::from(start > 0 && !text.ends_with('\n'))..text.len()),
    }
    Some(splices)
}
