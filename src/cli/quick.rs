//! `countersign run --scheme NAME --secret-file F --to ADDRESS`: guards an application without a configuration file.

use std::path::{Path, PathBuf};

use crate::config::source::ConfigSource;

use super::configured::{ConfigArguments, source};
use super::guard_plan::{GuardPlan, absolute, built_in, numbered, on_this_host};

#[derive(Debug, clap::Args)]
pub(super) struct RunArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Without a file: the sender, as `countersign schemes` calls it, or "none"
    #[arg(long, value_name = "NAME", env = "COUNTERSIGN_SCHEME", hide_env_values = true, help_heading = QUICK)]
    scheme: Option<String>,
    /// The secret, as the sender shows it; a public key for schemes that have one. Repeat it for several
    #[arg(long = "secret-file", value_name = "FILE", env = "COUNTERSIGN_SECRET_FILE", hide_env_values = true,
          value_delimiter = ':', visible_alias = "public-key-file", help_heading = QUICK)]
    secret_files: Vec<PathBuf>,
    /// The application: host:port, a port of this host, or unix:/path
    #[arg(long, value_name = "ADDRESS", env = "COUNTERSIGN_TO", hide_env_values = true, help_heading = QUICK)]
    to: Option<String>,
    /// Where requests arrive: host:port, or a port of this host [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS", env = "COUNTERSIGN_LISTEN", hide_env_values = true, help_heading = QUICK)]
    listen: Option<String>,
    /// The one path that is let through [default: every path below /]
    #[arg(long, value_name = "PATH", env = "COUNTERSIGN_PATH", hide_env_values = true, help_heading = QUICK)]
    path: Option<String>,
    /// The URL as it is registered with the sender, for schemes that sign it
    #[arg(long, value_name = "URL", env = "COUNTERSIGN_PUBLIC_URL", hide_env_values = true, help_heading = QUICK)]
    public_url: Option<String>,
    /// The admin port (probes, metrics, status page): host:port, or a port of this host [default: none]
    #[arg(long, value_name = "ADDRESS", env = "COUNTERSIGN_ADMIN", hide_env_values = true, help_heading = QUICK)]
    admin: Option<String>,
}

const QUICK: &str = "Without a configuration file";

/// What messages call it.
const NAME: &str = "(options of the command)";

impl RunArguments {
    /// The configuration: a file, or what the options say.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(super) fn source(&self) -> Result<ConfigSource, String> {
        match &self.scheme {
            Some(_) if self.config.is_given() => {
                Err("--scheme and a configuration file exclude each other: the file says which schemes there are"
                    .to_owned())
            }
            Some(scheme) => self.plan(scheme),
            None if self.to.is_some() || !self.secret_files.is_empty() => {
                Err("say which sender: run --scheme github --secret-file FILE --to 127.0.0.1:9000".to_owned())
            }
            None => source(&self.config.path()),
        }
    }

    fn plan(&self, scheme: &str) -> Result<ConfigSource, String> {
        let to = self.to.as_deref().ok_or("say where the application is: --to 127.0.0.1:9000")?;
        if scheme != "none" {
            built_in(scheme)?;
            if self.secret_files.is_empty() {
                return Err(format!("say where the secret of {scheme} is: --secret-file FILE"));
            }
        }
        let files = self.secret_files.iter().map(|file| absolute(file)).collect::<Result<Vec<_>, _>>()?;
        let listen = on_this_host(self.listen.as_deref().unwrap_or("8080"));
        let admin = self.admin.as_deref().map(on_this_host);
        let plan = GuardPlan {
            scheme,
            path: self.path.as_deref().unwrap_or_default(),
            listen: &listen,
            upstream: on_this_host(to),
            keys: numbered(&files),
            public_url: self.public_url.as_deref(),
            admin: admin.as_deref(),
        };
        Ok(ConfigSource::text(NAME, Path::new(""), plan.text().into_bytes()))
    }
}
