//! Adds the sidecar to manifests of Kubernetes, and takes it out again. Pure: text to text.
//!
//! The text is edited in place: comments, order and quotes of everything else stay as they are. What cannot be derived again
//! when the sidecar is taken out is noted in the annotation `countersign/before` of the object. Adding begins with taking
//! out, so adding twice changes nothing, and adding with other options replaces what was added.

mod add;
mod object;
mod shape;
pub mod sidecar;
mod splice;
mod take;
pub mod tree;

use core::fmt;

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

/// Why nothing was changed.
#[derive(Debug)]
pub enum InjectError {
    /// The text is neither YAML nor JSON.
    NotYaml(NotYaml),
    /// A part of the text cannot be edited.
    OddForm(OddForm),
    /// There is no workload in it.
    NoWorkload,
    /// Something has to be chosen.
    Choose(String),
}

impl fmt::Display for InjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotYaml(error) => write!(f, "the input is neither YAML nor JSON: {error}"),
            Self::OddForm(OddForm(why)) => f.write_str(why),
            Self::NoWorkload => f.write_str("the input has no Deployment, StatefulSet or DaemonSet"),
            Self::Choose(what) => f.write_str(what),
        }
    }
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
    add::add(&take::take(text)?, options)
}

/// Takes the sidecar out of a text; one that does not have it stays as it is.
///
/// # Errors
/// [`InjectError::NotYaml`].
pub fn remove(text: &str) -> Result<String, InjectError> {
    take::take(text)
}
