//! Which configuration a command reads: `-c FILE`, a positional FILE, `COUNTERSIGN_CONFIG`, or `countersign.toml`.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::config::document::MAX_TEXT;
use crate::config::source::ConfigSource;

/// What is read where nothing is said.
pub(super) const DEFAULT: &str = "countersign.toml";

/// The option of commands that have other positional arguments, or none.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct ConfigFlag {
    /// The configuration; `-` for standard input [env: COUNTERSIGN_CONFIG] [default: countersign.toml]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The option, or the file alone.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct ConfigArguments {
    /// The same as --config FILE
    #[arg(value_name = "FILE", conflicts_with = "config")]
    file: Option<PathBuf>,
    #[command(flatten)]
    flag: ConfigFlag,
}

impl ConfigFlag {
    /// The configuration.
    pub(super) fn path(&self) -> PathBuf {
        self.named().unwrap_or_else(|| PathBuf::from(DEFAULT))
    }

    /// The configuration that was named, or the default one where there is such a file: for commands that can do without.
    pub(super) fn if_any(&self) -> Option<PathBuf> {
        self.named().or_else(|| Some(PathBuf::from(DEFAULT)).filter(|path| path.exists()))
    }

    #[expect(clippy::disallowed_methods, reason = "the default of an option: a positional argument may take its place")]
    fn named(&self) -> Option<PathBuf> {
        let variable = || std::env::var_os("COUNTERSIGN_CONFIG").filter(|value| !value.is_empty()).map(PathBuf::from);
        self.config.clone().or_else(variable)
    }
}

impl ConfigArguments {
    /// The configuration.
    pub(super) fn path(&self) -> PathBuf {
        self.file.clone().unwrap_or_else(|| self.flag.path())
    }

    /// Whether one was named on the command line.
    pub(super) fn is_given(&self) -> bool {
        self.file.is_some() || self.flag.config.is_some()
    }
}

/// Where the text is. What is no file with a length, as standard input and the pipes of a shell, is read now.
///
/// # Errors
/// A sentence for the operator.
pub(super) fn source(path: &Path) -> Result<ConfigSource, String> {
    let here = Path::new("");
    if path == Path::new("-") {
        let text = whole(io::stdin().lock()).map_err(|error| format!("standard input: {error}"))?;
        return Ok(ConfigSource::text("(standard input)", here, text));
    }
    if path.metadata().is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir()) {
        let text = std::fs::File::open(path).and_then(whole);
        let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
        return Ok(ConfigSource::text(&path.display().to_string(), here, text));
    }
    Ok(ConfigSource::File(path.to_owned()))
}

/// All of it; one byte more than a configuration may have is enough to say that it is too long.
fn whole(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_TEXT as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
