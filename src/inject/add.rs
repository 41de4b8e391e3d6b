//! Adds the sidecar to a text that does not have it.

use super::object::{self, BEFORE, ContainerPort};
use super::policy;
use super::shape::{ManifestValue, quoted};
use super::sidecar::{CONFIG_VOLUME, NAME, SECRETS_VOLUME, USER};
use super::splice::{OddForm, Splices};
use super::tree::{self, Node, NodeKind};
use super::{InjectError, Injected, InjectionOptions, TO_RENDER};

/// The pod has to be given more time than drain_delay and drain_grace together have by default.
pub(super) const GRACE: u16 = 40;

/// The changes of a text, and what comes of them.
struct InjectionDraft<'t> {
    text: &'t str,
    splices: Splices,
    notes: Vec<String>,
    policies: Vec<ManifestValue>,
}

pub(super) fn add(text: &str, options: &InjectionOptions) -> Result<Injected, InjectError> {
    let documents = tree::parse(text)?;
    let objects: Vec<&Node> = object::objects(&documents).collect();
    let workloads = chosen(&objects, options)?;
    let mut draft = InjectionDraft { text, splices: Splices::default(), notes: Vec::new(), policies: Vec::new() };
    for workload in workloads {
        names_are_free(workload)?;
        let guarded = guarded_port(workload, options)?;
        draft.workload(workload, &guarded, options)?;
        let services: Vec<&Node> = objects.iter().copied().filter(|it| object::selects(it, workload)).collect();
        draft.policy(workload, policy::policy(workload, &services, &guarded, options));
        for other in policy::others(&objects, workload) {
            draft.notes.push(format!(
                "the NetworkPolicy {other} of the input concerns the same pods, and policies add up: it must not let port {} in",
                guarded.number
            ));
        }
        let mut redirected = 0;
        for service in services {
            redirected += draft.service(service, &guarded)?;
        }
        if redirected == 0 {
            draft.notes.push(format!(
                "no Service in the input leads to port {} of {}: let its targetPort be \"{NAME}\"",
                guarded.number,
                object::name(workload)
            ));
        }
    }
    let mut out = draft.splices.apply(text);
    for policy in &draft.policies {
        if tree::is_json(text) {
            let note =
                "the input is JSON, to which no NetworkPolicy was added: config/kubernetes/networkpolicy.yaml is one";
            draft.notes.push(note.to_owned());
            break;
        }
        append(&mut out, &policy.lines(0));
    }
    tree::parse(&out)?;
    Ok(Injected { text: out, notes: draft.notes })
}

/// Adds a document. Whether the text ends with an end of line stays as it is.
fn append(text: &mut String, document: &str) {
    let ends = text.ends_with('\n');
    text.push_str(if ends { "---\n" } else { "\n---\n" });
    text.push_str(document);
    if ends {
        text.push('\n');
    }
}

fn chosen<'n>(objects: &[&'n Node], options: &InjectionOptions) -> Result<Vec<&'n Node>, InjectError> {
    let all: Vec<&Node> = objects.iter().copied().filter(|it| object::is_workload(it)).collect();
    let names = || all.iter().map(|it| object::name(it)).collect::<Vec<_>>().join(", ");
    match (&options.workload, all.len()) {
        (_, 0) => Err(InjectError::NoWorkload(objects.iter().map(|it| object::kind(it).to_owned()).collect())),
        (None, 1) => Ok(all),
        (None, _) => Err(InjectError::Choose(format!("several workloads ({}): name one with --workload", names()))),
        (Some(name), _) => {
            let found: Vec<&Node> = all.iter().copied().filter(|it| object::name(it) == name).collect();
            let none = || InjectError::Choose(format!("no workload is called \"{name}\"; there are {}", names()));
            if found.is_empty() { Err(none()) } else { Ok(found) }
        }
    }
}

/// A name that the workload has already would be there twice.
fn names_are_free(workload: &Node) -> Result<(), InjectError> {
    let name = object::name(workload);
    if name.is_empty() {
        return Err(InjectError::Choose(format!("a workload has no name that can be read: {TO_RENDER}")));
    }
    let pod = object::pod(workload);
    let taken = |list: &str, wanted: &str| {
        let items = pod.and_then(|pod| pod.get(list)).map(Node::items).unwrap_or_default();
        items.iter().any(|item| item.get("name").and_then(Node::text) == Some(wanted))
    };
    let ours =
        [("initContainers", NAME), ("containers", NAME), ("volumes", CONFIG_VOLUME), ("volumes", SECRETS_VOLUME)];
    match ours.into_iter().find(|(list, wanted)| taken(list, wanted)) {
        None => Ok(()),
        Some((list, wanted)) => Err(InjectError::Choose(format!(
            "{list} of {name} have one with the name {wanted} already, which `inject` has not put there (its annotation {BEFORE} is \
             missing): remove it or give it another name"
        ))),
    }
}

/// The port of the application that the sidecar stands before.
fn guarded_port(workload: &Node, options: &InjectionOptions) -> Result<ContainerPort, InjectError> {
    let ports = object::pod(workload).map(object::ports).unwrap_or_default();
    let name = object::name(workload);
    for number in [options.sidecar.listen, options.sidecar.admin] {
        if object::pod(workload).is_some_and(|pod| object::all_ports(pod).iter().any(|port| port.number == number)) {
            let text = format!(
                "a container of {name} has port {number}, which the sidecar needs, and containers of a pod share their ports: \
                 choose others with --listen and --admin, and in the configuration"
            );
            return Err(InjectError::Choose(text));
        }
    }
    let of_tcp: Vec<&ContainerPort> = ports.iter().filter(|port| port.protocol == "TCP").collect();
    let list = || of_tcp.iter().map(|port| port.number.to_string()).collect::<Vec<_>>().join(", ");
    match (options.port, of_tcp.as_slice()) {
        (Some(number), ports) => {
            let known = ports.iter().find(|port| port.number == number);
            Ok(known.map_or_else(
                || ContainerPort { number, name: None, protocol: "TCP".to_owned() },
                |port| (*port).clone(),
            ))
        }
        (None, [port]) => Ok((*port).clone()),
        (None, []) => Err(InjectError::Choose(format!(
            "no container of {name} has a containerPort: name the port of the application with --port"
        ))),
        (None, _) => Err(InjectError::Choose(format!(
            "the containers of {name} have several ports ({}): name one with --port",
            list()
        ))),
    }
}

/// What is added to one object.
#[derive(Default)]
struct Additions {
    /// New entries of the pod.
    entries: Vec<(&'static str, ManifestValue)>,
    /// What the object was like before, for the annotation.
    note: Vec<String>,
    /// Collections that were there with nothing in them.
    empty: Vec<&'static str>,
}

impl InjectionDraft<'_> {
    fn workload(
        &mut self,
        workload: &Node,
        guarded: &ContainerPort,
        options: &InjectionOptions,
    ) -> Result<(), InjectError> {
        let pod = object::pod(workload).ok_or(InjectError::NoWorkload(Vec::new()))?;
        let mut added = Additions::default();
        let key = if options.sidecar.plain { "containers" } else { "initContainers" };
        self.extend_list(pod, key, &[options.sidecar.container()], &mut added)?;
        self.extend_list(pod, "volumes", &options.sidecar.volumes(), &mut added)?;
        self.group(pod, &mut added)?;
        self.grace(pod, &mut added);
        self.splices.add_entries(self.text, pod, &added.entries)?;
        self.annotate(workload, added)?;
        self.advise(pod, guarded);
        Ok(())
    }

    fn policy(&mut self, workload: &Node, policy: Option<ManifestValue>) {
        let name = object::name(workload);
        if object::pod(workload).and_then(|pod| pod.get("hostNetwork")).and_then(Node::text) == Some("true") {
            self.notes.push(format!(
                "the pods of {name} have the network of their node (hostNetwork), for which no NetworkPolicy counts: let the \
                 application listen on 127.0.0.1"
            ));
        }
        match policy {
            Some(policy) => self.policies.push(policy),
            None => self.notes.push(format!("{name} has no matchLabels that can be read: no NetworkPolicy was added")),
        }
    }

    /// Adds items to a list of the pod, or the list.
    fn extend_list(
        &mut self,
        pod: &Node,
        key: &'static str,
        items: &[ManifestValue],
        added: &mut Additions,
    ) -> Result<(), OddForm> {
        match pod.get(key) {
            None => added.entries.push((key, ManifestValue::List(items.to_vec()))),
            Some(list) => {
                if list.is_empty() {
                    added.empty.push(key);
                }
                self.splices.add_items(self.text, list, items)?;
            }
        }
        Ok(())
    }

    /// Volumes are given to the group of the sidecar, which can then read secrets that others cannot.
    fn group(&mut self, pod: &Node, added: &mut Additions) -> Result<(), OddForm> {
        let group =
            [("fsGroup", ManifestValue::number(USER)), ("fsGroupChangePolicy", ManifestValue::text("OnRootMismatch"))];
        match pod.get("securityContext") {
            Some(context) if context.get("fsGroup").is_some() => return Ok(()),
            Some(context) => {
                if context.is_empty() {
                    added.empty.push("securityContext");
                }
                // The second of the two may be there already.
                let missing = group.into_iter().filter(|(key, _)| context.get(key).is_none());
                let missing: Vec<(&str, ManifestValue)> = missing.collect();
                let keys: Vec<&str> = missing.iter().map(|(key, _)| *key).collect();
                added.note.push(format!("group={}", keys.join(",")));
                self.splices.add_entries(self.text, context, &missing)?;
            }
            None => {
                added.note.push("group=fsGroup,fsGroupChangePolicy".to_owned());
                added.entries.push(("securityContext", ManifestValue::map(group)));
            }
        }
        Ok(())
    }

    fn grace(&mut self, pod: &Node, added: &mut Additions) {
        const KEY: &str = "terminationGracePeriodSeconds";
        match pod.get(KEY) {
            None => {
                added.note.push("grace=absent".to_owned());
                added.entries.push((KEY, ManifestValue::number(GRACE)));
            }
            Some(node) => {
                let seconds = node.text().and_then(|text| text.parse::<u64>().ok());
                if let Some(seconds) = seconds.filter(|seconds| *seconds < u64::from(GRACE)) {
                    added.note.push(format!("grace={seconds}"));
                    self.splices.replace(node, &GRACE.to_string());
                }
            }
        }
    }

    /// Notes what the object was like before.
    fn annotate(&mut self, object: &Node, added: Additions) -> Result<(), OddForm> {
        let Additions { mut note, mut empty, .. } = added;
        let metadata = object.get("metadata").ok_or_else(|| OddForm("an object has no metadata".to_owned()))?;
        let annotations = metadata.get("annotations");
        if annotations.is_some_and(Node::is_empty) {
            empty.push("annotations");
        }
        if !empty.is_empty() {
            note.push(format!("empty={}", empty.join(",")));
        }
        let annotation = (BEFORE, ManifestValue::text(note.join(" ")));
        match annotations {
            Some(annotations) => self.splices.add_entries(self.text, annotations, &[annotation]),
            None => self.splices.add_entries(self.text, metadata, &[("annotations", ManifestValue::map([annotation]))]),
        }
    }

    /// Points the ports of a service that lead to the guarded port to the sidecar; how many these are.
    fn service(&mut self, service: &Node, guarded: &ContainerPort) -> Result<usize, OddForm> {
        let ports = service.at(&["spec", "ports"]).map(Node::items).unwrap_or_default();
        let mut note = Vec::new();
        for port in ports {
            let text = |key: &str| port.get(key).and_then(Node::text);
            let target = text("targetPort").or_else(|| text("port")).unwrap_or_default();
            let leads = target.parse() == Ok(guarded.number) || guarded.name.as_deref() == Some(target);
            let is_tcp = text("protocol").is_none_or(|protocol| protocol == "TCP");
            let Some(number) = text("port").filter(|number| leads && is_tcp && number.parse::<u16>().is_ok()) else {
                continue;
            };
            match port.get("targetPort") {
                Some(node) => {
                    note.push(format!("{number}={}", self.text.get(node.range.clone()).unwrap_or_default()));
                    let is_flow = matches!(port.kind, NodeKind::Map { is_flow: true, .. });
                    let name = if is_flow { quoted(NAME) } else { NAME.to_owned() };
                    self.splices.replace(node, &name);
                }
                None => {
                    note.push(format!("{number}=absent"));
                    self.splices.add_entries(self.text, port, &[("targetPort", ManifestValue::text(NAME))])?;
                }
            }
        }
        let count = note.len();
        if count > 0 {
            self.annotate(service, Additions { note, ..Additions::default() })?;
        }
        Ok(count)
    }

    fn advise(&mut self, pod: &Node, guarded: &ContainerPort) {
        let containers = pod.get("containers").map(Node::items).unwrap_or_default();
        for container in containers.iter().filter(|it| it.at(&["lifecycle", "preStop"]).is_none()) {
            let name = container.get("name").and_then(Node::text).unwrap_or_default();
            self.notes.push(format!(
                "container {name} has no preStop: it ends at once while deliveries still arrive, and their senders get 503. \
                 Give it lifecycle.preStop.sleep.seconds: 6 (1.30 and later), or exec: sleep 6"
            ));
        }
        self.notes.push(format!("the configuration must say [upstream] address = \"127.0.0.1:{}\"", guarded.number));
    }
}
