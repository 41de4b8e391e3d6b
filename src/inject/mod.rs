//! Adds the sidecar to manifests of Kubernetes, and takes it out again. Pure: text to text.
//!
//! The text is edited in place: comments, order and quotes of everything else stay as they are. What cannot be derived again
//! when the sidecar is taken out is noted in the annotation `countersign/before` of the object. Adding begins with taking
//! out, so adding twice changes nothing, and adding with other options replaces what was added.

mod add;
mod frame;
mod object;
mod policy;
mod shape;
pub mod sidecar;
mod splice;
mod take;
pub mod tree;

use core::fmt;

use frame::Frame;
use sidecar::SidecarOptions;
use splice::OddForm;
use tree::NotYaml;

/// What is to be added, and to what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InjectionOptions {
    /// The container.
    pub sidecar: SidecarOptions,
    /// The port of the application, where its containers have several or none.
    pub port: Option<u16>,
    /// The name of the workload, where there are several.
    pub workload: Option<String>,
}

/// A text with the sidecar in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injected {
    /// The text.
    pub text: String,
    /// What the operator has to do besides, in sentences.
    pub notes: Vec<String>,
}

/// What is to be done with a template.
const TO_RENDER: &str =
    "a template (Helm, for instance) has to be rendered first (helm template CHART | countersign inject)";

/// Why nothing was changed.
#[derive(Debug)]
pub enum InjectError {
    /// The text is neither YAML nor JSON.
    NotYaml(NotYaml),
    /// A part of the text cannot be edited.
    OddForm(OddForm),
    /// There is no workload in it. The kinds of the objects that are there.
    NoWorkload(Vec<String>),
    /// It cannot be read, and looks like a template.
    Template(Box<Self>),
    /// Something has to be chosen.
    Choose(String),
}

impl fmt::Display for InjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotYaml(error) => write!(f, "the input is neither YAML nor JSON: {error}"),
            Self::OddForm(OddForm(why)) => f.write_str(why),
            Self::Template(error) => write!(f, "{error}: {TO_RENDER}"),
            Self::NoWorkload(kinds) => without_workload(f, kinds),
            Self::Choose(what) => f.write_str(what),
        }
    }
}

fn without_workload(f: &mut fmt::Formatter<'_>, kinds: &[String]) -> fmt::Result {
    f.write_str("the input has no Deployment, StatefulSet or DaemonSet")?;
    if kinds.iter().any(|kind| kind == "Kustomization") {
        return f.write_str(": build it first (kubectl kustomize FOLDER | countersign inject), or use the component of config/kubernetes");
    }
    let kinds: Vec<&str> = kinds.iter().map(String::as_str).filter(|kind| !kind.is_empty()).collect();
    if kinds.is_empty() { Ok(()) } else { write!(f, ", only {}", kinds.join(", ")) }
}

impl core::error::Error for InjectError {}

impl From<NotYaml> for InjectError {
    fn from(error: NotYaml) -> Self {
        Self::NotYaml(error)
    }
}

impl From<OddForm> for InjectError {
    fn from(error: OddForm) -> Self {
        Self::OddForm(error)
    }
}

/// Adds the sidecar to a text, or replaces the one that it has.
///
/// # Errors
/// [`InjectError`]; nothing is changed then.
pub fn inject(text: &str, options: &InjectionOptions) -> Result<Injected, InjectError> {
    let (frame, text) = Frame::of(text);
    let is_template = text.contains("{{");
    let taken =
        take::take(&text).map_err(|error| if is_template { InjectError::Template(Box::new(error)) } else { error })?;
    let added = add::add(&taken, options)?;
    Ok(Injected { text: frame.around(&added.text), ..added })
}

/// Takes the sidecar out of a text; one that does not have it stays as it is.
///
/// # Errors
/// [`InjectError::NotYaml`].
pub fn remove(text: &str) -> Result<String, InjectError> {
    let (frame, text) = Frame::of(text);
    Ok(frame.around(&take::take(&text)?))
}
