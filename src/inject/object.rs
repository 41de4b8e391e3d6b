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

/// The namespace of an object, if it has one.
#[must_use]
pub(super) fn space(object: &Node) -> Option<&str> {
    object.at(&["metadata", "namespace"]).and_then(Node::text)
}

/// The ports of all containers that are not init containers.
#[must_use]
pub(super) fn ports(pod: &Node) -> Vec<ContainerPort> {
    containers(pod, "containers").flat_map(ports_of).collect()
}

/// The ports of the containers that run as long as the application does.
#[must_use]
pub(super) fn listening_ports(pod: &Node) -> Vec<ContainerPort> {
    let is_sidecar = |it: &&Node| it.get("restartPolicy").and_then(Node::text) == Some("Always");
    containers(pod, "containers")
        .chain(containers(pod, "initContainers").filter(is_sidecar))
        .flat_map(ports_of)
        .collect()
}

/// The ports of all containers: init containers run beside the sidecar, which is the first of them.
#[must_use]
pub(super) fn all_ports(pod: &Node) -> Vec<ContainerPort> {
    containers(pod, "containers").chain(containers(pod, "initContainers")).flat_map(ports_of).collect()
}

fn containers<'n>(pod: &'n Node, key: &str) -> impl Iterator<Item = &'n Node> {
    pod.get(key).map(Node::items).unwrap_or_default().iter()
}

fn ports_of(container: &Node) -> Vec<ContainerPort> {
    let of = |port: &Node| {
        Some(ContainerPort {
            number: port.get("containerPort")?.text()?.parse().ok()?,
            name: port.get("name").and_then(Node::text).map(str::to_owned),
            protocol: port.get("protocol").and_then(Node::text).unwrap_or("TCP").to_owned(),
        })
    };
    container.get("ports").map(Node::items).unwrap_or_default().iter().filter_map(of).collect()
}

/// Whether this is a service for the pods of that workload.
#[must_use]
pub(super) fn selects(service: &Node, workload: &Node) -> bool {
    let Some(selector) = service.at(&["spec", "selector"]) else { return false };
    kind(service) == "Service"
        && space(service) == space(workload)
        && selector.pairs().next().is_some()
        && has_labels(workload, selector)
}

/// Whether the pods of that workload have all of these labels.
#[must_use]
pub(super) fn has_labels(workload: &Node, wanted: &Node) -> bool {
    let labels = workload.at(&["spec", "template", "metadata", "labels"]);
    wanted.pairs().all(|pair| labels.is_some_and(|labels| labels.pairs().any(|label| label == pair)))
}
