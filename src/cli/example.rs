//! `countersign init --example`: the example configuration, and whatever it names, so that it starts as it is shipped.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};

use crate::config::presets::preset;
use crate::config::section::route::keys::KeySource;
use crate::config::{Settings, load, parse_str};

use super::output::{line, print_problems};
use super::private_files::{create, random_secret, write_configuration};

/// As it is shipped.
const EXAMPLE: &str = include_str!("../../config/example.toml");

/// The variables that the example reads keys from are set by the command that is printed, from files of this name.
const OF_VARIABLES: &str = "secrets/of-variable-";

/// Writes it to `config`, and its files beside it. Files that are there already stay. True if it would start.
///
/// # Errors
/// A sentence for the operator.
pub(super) fn write(config: &Path, force: bool) -> Result<bool, String> {
    let (settings, _) = parse_str("example.toml", EXAMPLE).map_err(|problems| problems.to_string())?;
    write_configuration(config, EXAMPLE, force)?;
    let directory = config.parent().unwrap_or(Path::new(""));
    let mut made = Made { directory, files: Vec::new() };
    let variables = made.secrets(&settings)?;
    made.certificates()?;
    for route in &settings.routes {
        if let Some(list) = &route.clients.allow_file {
            made.file(&list.path.display().to_string(), b"# One network a line.\n192.30.252.0/22\n")?;
        }
    }
    line(format!("Wrote {} and {} files that it names:", config.display(), made.files.len()));
    made.files.iter().for_each(|file| line(format!("  {file}")));
    let assigned: Vec<String> = variables.iter().map(|(name, file)| format!("{name}=$(cat {file}) ")).collect();
    line("Next:");
    for command in ["check", "run"] {
        line(format!("  {}countersign {command} -c {}", assigned.concat(), config.display()));
    }
    // Without the variables it does not hold: what is wrong beside that is said.
    match load(config) {
        Ok(_) => Ok(true),
        Err(problems) => {
            let others = problems.iter().filter(|it| !variables.iter().any(|(name, _)| it.message.contains(name)));
            let unexpected = others.filter(|it| it.severity == crate::config::Severity::Error).count();
            if unexpected > 0 {
                print_problems(&problems);
            }
            Ok(unexpected == 0)
        }
    }
}

struct Made<'d> {
    directory: &'d Path,
    files: Vec<String>,
}

impl Made<'_> {
    /// A file that only its owner may read, unless it is there.
    fn file(&mut self, name: &str, content: &[u8]) -> Result<(), String> {
        let path = self.directory.join(name);
        if !path.exists() {
            create(&path, content)?;
            self.files.push(path.display().to_string());
        }
        Ok(())
    }

    /// Every secret; the names of variables, each with the file that has its value.
    fn secrets(&mut self, settings: &Settings) -> Result<Vec<(String, String)>, String> {
        let mut variables = Vec::new();
        for verification in settings.routes.iter().filter_map(|route| route.verification.as_ref()) {
            let scheme = &verification.scheme;
            for key in &verification.keys {
                let secret = random_secret(scheme)?;
                match &key.source {
                    KeySource::File(path) | KeySource::NamedWith(path) => {
                        self.file(&path.display().to_string(), secret.as_bytes())?
                    }
                    KeySource::Env(name) => {
                        let file = format!("{OF_VARIABLES}{}", name.to_lowercase());
                        self.file(&file, secret.as_bytes())?;
                        variables.push((name.clone(), self.directory.join(file).display().to_string()));
                    }
                    KeySource::Value(_) | KeySource::Url(_) | KeySource::Named => {}
                }
            }
        }
        let text = preset("github").ok_or("a built-in scheme is missing")?;
        for token in settings.routes.iter().filter_map(|route| route.challenge.as_ref()).flat_map(|it| &it.tokens) {
            if let KeySource::File(path) = &token.source {
                self.file(&path.display().to_string(), random_secret(&text)?.as_bytes())?;
            }
        }
        if let Some(audit) = &settings.audit {
            self.file(&audit.key_file.display().to_string(), random_secret(&text)?.as_bytes())?;
        }
        // Secrets of GitHub are 64 hexadecimal digits, as these keys are.
        for key in settings.inbox.iter().flat_map(|inbox| &inbox.encryption) {
            self.file(&key.file.display().to_string(), random_secret(&text)?.as_bytes())?;
        }
        if let Some(shared) = &settings.shared {
            for file in core::iter::once(&shared.key).chain(&shared.password) {
                self.file(&file.path.display().to_string(), random_secret(&text)?.as_bytes())?;
            }
        }
        Ok(variables)
    }

    /// An authority, and three certificates that it has signed. They are for trying things out: no client trusts them
    /// unless it is given the file of the authority. Those that are there stay.
    fn certificates(&mut self) -> Result<(), String> {
        if self.directory.join("tls").exists() {
            return Ok(());
        }
        let wrong = |error: rcgen::Error| error.to_string();
        let mut params = CertificateParams::new(Vec::new()).map_err(wrong)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().map_err(wrong)?).map_err(wrong)?;
        self.file("tls/ca.crt", authority.pem().as_bytes())?;
        self.file("tls/ca.key", authority.key().serialize_pem().as_bytes())?;
        for (name, host) in [("tls", "localhost"), ("other", "other.localhost"), ("replica", "replica.localhost")] {
            let key = KeyPair::generate().map_err(wrong)?;
            let names = vec![host.to_owned(), "127.0.0.1".to_owned()];
            let certificate =
                CertificateParams::new(names).map_err(wrong)?.signed_by(&key, &authority).map_err(wrong)?;
            self.file(&format!("tls/{name}.crt"), certificate.pem().as_bytes())?;
            self.file(&format!("tls/{name}.key"), key.serialize_pem().as_bytes())?;
        }
        Ok(())
    }
}
