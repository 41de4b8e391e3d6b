//! What the cgroup of the process allows, in version 1 and 2: `cgroups(7)`.
//!
//! A limit of any ancestor counts. In a container the ancestors are out of sight, and the cgroup of the container is the root
//! of what is mounted, although `/proc/self/cgroup` may name a path from the host: so each path is looked up from its end
//! to the root, and what is not there is passed over.

use std::fs;
use std::path::{Path, PathBuf};

/// The limits of a cgroup; nothing where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CgroupLimits {
    /// CPUs: time per period, divided by the period.
    pub cpus: Option<f64>,
    /// Bytes of memory.
    pub memory: Option<u64>,
}

/// A limit of version 1 above this stands for none: the kernel rounds the largest number down to a page.
const NO_LIMIT: u64 = 1 << 60;

/// Reads them. `root` is `/` but for tests.
#[must_use]
pub fn read(root: &Path) -> CgroupLimits {
    let own = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mounted = root.join("sys/fs/cgroup");
    let folders = |controller: &str| -> Vec<PathBuf> {
        // Each line is `number:controllers:path`; version 2 has no controllers.
        let lines = own.lines().filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            Some((parts.next()?, parts.next()?))
        });
        let of_controller = lines.filter(|(named, _)| named.is_empty() || named.split(',').any(|it| it == controller));
        let mut folders: Vec<PathBuf> = Vec::new();
        for (named, path) in of_controller {
            let hierarchies = if named.is_empty() {
                vec![mounted.clone(), mounted.join("unified")]
            } else {
                v1(&mounted, named, controller)
            };
            for hierarchy in hierarchies {
                let ancestors = Path::new(path.trim_start_matches('/')).ancestors().map(|part| hierarchy.join(part));
                folders.extend(ancestors);
            }
        }
        folders
    };
    let least = |found: Vec<Option<f64>>| found.into_iter().flatten().reduce(f64::min);
    let cpus = folders("cpu").iter().map(|folder| cpus(folder)).collect();
    let memory = folders("memory").iter().filter_map(|folder| memory(folder)).min();
    CgroupLimits { cpus: least(cpus), memory }
}

/// Where a controller of version 1 may be mounted: by its own name, or by those of all that share its hierarchy.
fn v1(mounted: &Path, named: &str, controller: &str) -> Vec<PathBuf> {
    vec![mounted.join(controller), mounted.join(named)]
}

fn cpus(folder: &Path) -> Option<f64> {
    let number = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<f64>().ok();
    let (quota, period) = match fs::read_to_string(folder.join("cpu.max")) {
        Ok(text) => {
            let mut words = text.split_whitespace();
            (words.next()?.parse().ok()?, words.next()?.parse().ok()?)
        }
        Err(_) => (number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?),
    };
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

fn memory(folder: &Path) -> Option<u64> {
    let number = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    number("memory.max").or_else(|| number("memory.limit_in_bytes")).filter(|limit| *limit < NO_LIMIT)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A file tree, removed when it is dropped.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("countersign-cgroup-{name}-{}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(root)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn version_2_with_the_limit_of_an_ancestor() {
        let tree = Tree::new(
            "v2",
            &[
                ("proc/self/cgroup", "0::/kubepods/pod1/c1\n"),
                ("sys/fs/cgroup/kubepods/pod1/c1/cpu.max", "max 100000\n"),
                ("sys/fs/cgroup/kubepods/pod1/c1/memory.max", "67108864\n"),
                ("sys/fs/cgroup/kubepods/pod1/cpu.max", "50000 100000\n"),
                ("sys/fs/cgroup/kubepods/memory.max", "max\n"),
            ],
        );
        assert_eq!(read(&tree.0), CgroupLimits { cpus: Some(0.5), memory: Some(64 << 20) });
    }

    #[test]
    fn version_1_in_a_container_whose_path_is_out_of_sight() {
        let tree = Tree::new(
            "v1",
            &[
                ("proc/self/cgroup", "4:memory:/machine/libpod-1\n2:cpu,cpuacct:/machine/libpod-1\n0::/x\n"),
                ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "150000\n"),
                ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "134217728\n"),
            ],
        );
        assert_eq!(read(&tree.0), CgroupLimits { cpus: Some(1.5), memory: Some(128 << 20) });
    }

    #[test]
    fn no_limit_is_none() {
        let tree = Tree::new(
            "none",
            &[
                ("proc/self/cgroup", "4:memory:/\n2:cpu:/\n"),
                ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
                ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ],
        );
        assert_eq!(read(&tree.0), CgroupLimits::default());
        assert_eq!(read(Path::new("/nonexistent")), CgroupLimits::default());
    }
}
