//! The objects of a cluster in a text, and what of them is asked for.

use super::tree::{Node, YamlDocument};

/// Kinds with a template of a pod that listens for deliveries.
const WORKLOADS: [&str; 3] = ["Deployment", "StatefulSet", "DaemonSet"];

/// Below this key an object says what it was like before.
pub(super) const BEFORE: &str = "countersign/before";

/// All objects: each document, or the items of a list.
pub(super) fn objects(documents: &[YamlDocument]) -> impl Iterator<Item = &Node> {
    documents.iter().filter_map(|document| document.root.as_ref()).flat_map(|root| {
        let is_list = root.get("kind").and_then(Node::text).is_some_and(|kind| kind.ends_with("List"));
        if is_list { root.get("items").map(Node::items).unwrap_or_default() } else { core::slice::from_ref(root) }
    })
}

/// The kind of an object.
#[must_use]
pub(super) fn kind(object: &Node) -> &str {
    object.get("kind").and_then(Node::text).unwrap_or_default()
}

/// The name of an object.
#[must_use]
pub(super) fn name(object: &Node) -> &str {
    object.at(&["metadata", "name"]).and_then(Node::text).unwrap_or_default()
}

/// Whether it makes pods that the sidecar can be in.
#[must_use]
pub(super) fn is_workload(object: &Node) -> bool {
    WORKLOADS.contains(&kind(object)) && pod(object).is_some()
}

/// The template's specification of a pod.
#[must_use]
pub(super) fn pod(workload: &Node) -> Option<&Node> {
    workload.at(&["spec", "template", "spec"])
}

/// What the object was like before, as it was noted.
#[must_use]
pub(super) fn before(object: &Node) -> Option<&str> {
    object.at(&["metadata", "annotations", BEFORE]).and_then(Node::text)
}

/// A value of such a note, which is a list of `key=value` with blanks between.
#[must_use]
pub(super) fn noted<'a>(note: &'a str, key: &str) -> Option<&'a str> {
    note.split(' ').find_map(|part| part.strip_prefix(key)?.strip_prefix('='))
}

/// A port that a container has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ContainerPort {
    /// Its number.
    pub(super) number: u16,
    /// Its name, if it has one.
    pub(super) name: Option<String>,
    /// TCP, UDP or SCTP.
    pub(super) protocol: String,
}

/// The ports of all containers that are not init containers.
#[must_use]
pub(super) fn ports(pod: &Node) -> Vec<ContainerPort> {
    let containers = pod.get("containers").map(Node::items).unwrap_or_default();
    let of = |port: &Node| {
        Some(ContainerPort {
            number: port.get("containerPort")?.text()?.parse().ok()?,
            name: port.get("name").and_then(Node::text).map(str::to_owned),
            protocol: port.get("protocol").and_then(Node::text).unwrap_or("TCP").to_owned(),
        })
    };
    let ports = containers.iter().flat_map(|container| container.get("ports").map(Node::items).unwrap_or_default());
    ports.filter_map(of).collect()
}

/// Whether this is a service for the pods of that workload.
#[must_use]
pub(super) fn selects(service: &Node, workload: &Node) -> bool {
    let Some(selector) = service.at(&["spec", "selector"]) else { return false };
    let Some(labels) = workload.at(&["spec", "template", "metadata", "labels"]) else { return false };
    let space = |object: &Node| object.at(&["metadata", "namespace"]).and_then(Node::text).map(str::to_owned);
    let mut wanted = selector.pairs().peekable();
    kind(service) == "Service"
        && space(service) == space(workload)
        && wanted.peek().is_some()
        && wanted.all(|pair| labels.pairs().any(|label| label == pair))
}
