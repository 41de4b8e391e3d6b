//! The NetworkPolicy beside the sidecar.

use super::InjectionOptions;
use super::object::{self, ContainerPort};
use super::shape::ManifestValue;
use super::tree::Node;

/// The label by which a policy of ours is known.
pub(super) const OURS: (&str, &str) = ("app.kubernetes.io/managed-by", "countersign-inject");

/// Lets in what comes to the sidecar, and to ports of the pod that it does not guard: those of its containers, and those that a
/// Service names by number. Kubernetes asks no container to declare its ports.
pub(super) fn policy(
    workload: &Node,
    services: &[&Node],
    guarded: &ContainerPort,
    options: &InjectionOptions,
) -> Option<ManifestValue> {
    let labels: Vec<(String, ManifestValue)> = workload
        .at(&["spec", "selector", "matchLabels"])?
        .pairs()
        .map(|(key, value)| (key.to_owned(), ManifestValue::text(value)))
        .collect();
    if labels.is_empty() {
        return None;
    }
    let open = |protocol: &str, number: u16| {
        ManifestValue::map([("protocol", ManifestValue::text(protocol)), ("port", ManifestValue::number(number))])
    };
    let mut ports = vec![open("TCP", options.sidecar.listen), open("TCP", options.sidecar.admin)];
    let declared = object::pod(workload).map(object::listening_ports).unwrap_or_default();
    let others = declared.into_iter().chain(services.iter().flat_map(|service| targets(service)));
    for port in others.filter(|port| port.number != guarded.number) {
        let opened = open(&port.protocol, port.number);
        if !ports.contains(&opened) {
            ports.push(opened);
        }
    }
    let mut metadata =
        vec![("name".to_owned(), ManifestValue::text(format!("{}-countersign", object::name(workload))))];
    if let Some(space) = workload.at(&["metadata", "namespace"]).and_then(Node::text) {
        metadata.push(("namespace".to_owned(), ManifestValue::text(space)));
    }
    metadata.push(("labels".to_owned(), ManifestValue::map([(OURS.0, ManifestValue::text(OURS.1))])));
    let spec = ManifestValue::map([
        ("podSelector", ManifestValue::map([("matchLabels", ManifestValue::Map(labels))])),
        ("policyTypes", ManifestValue::texts(&["Ingress"])),
        ("ingress", ManifestValue::List(vec![ManifestValue::map([("ports", ManifestValue::List(ports))])])),
    ]);
    Some(ManifestValue::map([
        ("apiVersion", ManifestValue::text("networking.k8s.io/v1")),
        ("kind", ManifestValue::text("NetworkPolicy")),
        ("metadata", ManifestValue::Map(metadata)),
        ("spec", spec),
    ]))
}

/// The ports of pods that a Service leads to by their number.
fn targets(service: &Node) -> Vec<ContainerPort> {
    let of = |port: &Node| {
        let text = |key: &str| port.get(key).and_then(Node::text);
        let number = text("targetPort").or_else(|| text("port"))?.parse().ok()?;
        Some(ContainerPort { number, name: None, protocol: text("protocol").unwrap_or("TCP").to_owned() })
    };
    service.at(&["spec", "ports"]).map(Node::items).unwrap_or_default().iter().filter_map(of).collect()
}

/// The policies of the input that concern these pods, too. Policies add up: what one of them lets in stays open.
pub(super) fn others<'n>(objects: &[&'n Node], workload: &Node) -> Vec<&'n str> {
    let concerns = |object: &&&Node| {
        object::kind(object) == "NetworkPolicy"
            && object::space(object) == object::space(workload)
            && object.at(&["spec", "podSelector"]).is_some_and(|selector| {
                selector.get("matchExpressions").is_none()
                    && selector.get("matchLabels").is_none_or(|labels| object::has_labels(workload, labels))
            })
    };
    objects.iter().filter(concerns).map(|object| object::name(object)).collect()
}
