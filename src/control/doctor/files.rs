//! The files that the configuration depends on: whether changes of them can be seen, and who may read the secrets.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::finding::{Finding, Grade};

/// A line of `/proc/self/mountinfo`: `proc_pid_mountinfo(5)`.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// What of the file system is mounted.
    root: String,
    /// Where.
    point: PathBuf,
}

fn mounts(text: &str) -> Vec<Mount> {
    let of = |line: &str| {
        let mut fields = line.split(' ').skip(3);
        Some(Mount { root: unescaped(fields.next()?), point: PathBuf::from(unescaped(fields.next()?)) })
    };
    text.lines().filter_map(of).collect()
}

/// Blanks, tabs, line ends and backslashes are written as three octal digits.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// Where the kubelet keeps what a `subPath` is bound from.
const SUB_PATHS: &str = "/volume-subpaths/";

/// Files whose changes cannot be seen, because the file itself is mounted: a `subPath` of a volume, or a single file that a
/// container runtime has bound. The mount keeps the old file when a new one is renamed into its place.
pub(super) fn mounted<'a>(root: &Path, files: impl Iterator<Item = &'a Path>) -> Vec<Finding> {
    let text = fs::read_to_string(root.join("proc/self/mountinfo")).unwrap_or_default();
    let mounts = mounts(&text);
    let mut findings: Vec<Finding> = files.filter_map(|file| judge_mount(file, &mounts)).collect();
    if findings.is_empty() {
        findings.push(Finding::good("mounts", "changes of every file can be seen"));
    }
    findings
}

fn judge_mount(file: &Path, mounts: &[Mount]) -> Option<Finding> {
    let real = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let fixed =
        |mount: &&Mount| mount.point == real || (mount.root.contains(SUB_PATHS) && real.starts_with(&mount.point));
    mounts.iter().find(fixed)?;
    Some(Finding::bad(
        "mounts",
        Grade::Warning,
        format!(
            "{} is mounted as a single file or with subPath: it never changes while the container runs",
            file.display()
        ),
        "mount the whole volume (without subPath) and name the file inside it; otherwise a new secret or certificate needs a restart",
    ))
}

/// Secrets that other users may read. A group may: that is how Kubernetes gives secrets to a process that is not root.
pub(super) fn permissions<'a>(secrets: impl Iterator<Item = &'a Path>) -> Vec<Finding> {
    let (mut findings, mut count) = (Vec::new(), 0);
    for path in secrets {
        count += 1;
        let Ok(metadata) = path.metadata() else { continue };
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o007 != 0 {
            findings.push(Finding::bad(
                "permissions",
                Grade::Warning,
                format!("every user may read the secret {} (mode {mode:04o})", path.display()),
                "chmod 600; in Kubernetes: defaultMode: 0440 on the volume and fsGroup in the pod's securityContext",
            ));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::good("permissions", format!("none of {count} secret files can be read by every user")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_paths_and_single_files_are_noticed() {
        let text = "\
30 20 0:1 / / rw - overlay overlay rw
31 30 0:5 /var/lib/kubelet/pods/u/volume-subpaths/s/c/0 /etc/countersign/sub rw - tmpfs tmpfs rw
32 30 8:1 /home/a\\040b/github /etc/one\\040file rw - ext4 /dev/sda rw
33 30 0:6 / /etc/countersign/secrets ro - tmpfs tmpfs rw
";
        let mounts = mounts(text);
        assert_eq!(mounts.len(), 4);
        let verdict = |path: &str| judge_mount(Path::new(path), &mounts).map(|finding| finding.verdict);
        assert_eq!(verdict("/etc/countersign/sub/github"), Some(Grade::Warning));
        assert_eq!(verdict("/etc/one file"), Some(Grade::Warning));
        assert_eq!(verdict("/etc/countersign/secrets/github"), None);
        assert_eq!(verdict("/etc/countersign.toml"), None);
    }
}
