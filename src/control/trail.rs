//! On the way to a file: where its path leads, link by link, and which directories must be watched for that to change.
//!
//! A file that is mounted into a container is often a link to a link (`tls.crt` → `..data/tls.crt`, `..data` →
//! `..2026_11_25`), of which only the one in the middle is ever replaced.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::path::{self, Component, Path, PathBuf};

/// So many links on the way to one file are followed, as in the kernel.
const LINK_LIMIT: usize = 40;

/// Where the paths of some files lead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trails {
    /// The directories in which something on the way can be replaced. None of these paths goes through a link.
    pub(super) directories: BTreeSet<PathBuf>,
    /// What can be replaced: every link, the file at the end, and the first part of a path that is not there.
    pub(super) names: BTreeSet<PathBuf>,
    /// The files at the ends that are there.
    pub(super) files: BTreeSet<PathBuf>,
}

impl Trails {
    /// Of these files, as they are at this moment.
    pub(super) fn of<'p>(paths: impl Iterator<Item = &'p Path>) -> Self {
        let mut trails = Self::default();
        paths.for_each(|path| trails.follow(path));
        trails
    }

    fn follow(&mut self, path: &Path) {
        let Ok(absolute) = path::absolute(path) else { return };
        let mut ahead = parts(&absolute);
        let mut at = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = ahead.pop_front() {
            match part {
                PathPart::Root => at = PathBuf::from("/"),
                PathPart::Up => _ = at.pop(),
                PathPart::Name(name) => {
                    let next = at.join(name);
                    match fs::symlink_metadata(&next) {
                        Ok(found) if found.is_symlink() && links < LINK_LIMIT => {
                            links += 1;
                            let target = fs::read_link(&next).unwrap_or_default();
                            parts(&target).into_iter().rev().for_each(|part| ahead.push_front(part));
                            self.pass(&at, next);
                        }
                        Ok(found) if found.is_dir() && !ahead.is_empty() => at = next,
                        Ok(_) => {
                            self.files.insert(next.clone());
                            return self.pass(&at, next);
                        }
                        Err(_) => return self.pass(&at, next),
                    }
                }
            }
        }
    }

    fn pass(&mut self, directory: &Path, name: PathBuf) {
        self.directories.insert(directory.to_owned());
        self.names.insert(name);
    }
}

enum PathPart {
    Root,
    Up,
    Name(PathBuf),
}

fn parts(path: &Path) -> VecDeque<PathPart> {
    let part = |component| match component {
        Component::RootDir => Some(PathPart::Root),
        Component::ParentDir => Some(PathPart::Up),
        Component::Normal(name) => Some(PathPart::Name(PathBuf::from(name))),
        Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::os::unix::fs::symlink;

    use super::*;

    /// A directory that is gone when the test is over; its path goes through no link.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("countersign-trail-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path.canonicalize().unwrap())
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        /// Directories, names and files on the trail of a file here, relative to here.
        fn trail(&self, name: &str) -> [Vec<String>; 3] {
            let Trails { directories, names, files } = Trails::of([self.at(name).as_path()].into_iter());
            [directories, names, files].map(|set| {
                let relative = |path: &PathBuf| match path.strip_prefix(&self.0) {
                    Ok(rest) => rest.display().to_string(),
                    Err(_) => path.display().to_string(),
                };
                set.iter().map(relative).collect()
            })
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_plain_file() {
        let directory = Directory::new("plain");
        fs::write(directory.at("a"), "").unwrap();
        assert_eq!(directory.trail("a"), [vec![""], vec!["a"], vec!["a"]]);
    }

    #[test]
    fn a_mounted_file() {
        let directory = Directory::new("mounted");
        fs::create_dir(directory.at("..1")).unwrap();
        fs::write(directory.at("..1/a"), "").unwrap();
        symlink("..1", directory.at("..data")).unwrap();
        symlink("..data/a", directory.at("a")).unwrap();
        assert_eq!(directory.trail("a"), [vec!["", "..1"], vec!["..1/a", "..data", "a"], vec!["..1/a"]]);
        fs::remove_file(directory.at("..1/a")).unwrap();
        assert_eq!(directory.trail("a"), [vec!["", "..1"], vec!["..1/a", "..data", "a"], vec![]]);
    }

    #[test]
    fn what_is_missing_is_awaited_where_it_will_appear() {
        let directory = Directory::new("missing");
        assert_eq!(directory.trail("b/c/a"), [vec![""], vec!["b"], vec![]]);
        fs::create_dir(directory.at("b")).unwrap();
        assert_eq!(directory.trail("b/c/a"), [vec!["b"], vec!["b/c"], vec![]]);
        fs::write(directory.at("b/c"), "").unwrap();
        assert_eq!(directory.trail("b/c/a"), [vec!["b"], vec!["b/c"], vec!["b/c"]]);
    }

    #[test]
    fn links_that_go_up_and_round() {
        let directory = Directory::new("round");
        fs::create_dir_all(directory.at("b/c")).unwrap();
        fs::write(directory.at("a"), "").unwrap();
        symlink("../../a", directory.at("b/c/up")).unwrap();
        assert_eq!(directory.trail("b/c/up"), [vec!["", "b/c"], vec!["a", "b/c/up"], vec!["a"]]);
        symlink(directory.at("b"), directory.at("absolute")).unwrap();
        assert_eq!(directory.trail("absolute/c/up"), [vec!["", "b/c"], vec!["a", "absolute", "b/c/up"], vec!["a"]]);
        symlink("round", directory.at("round")).unwrap();
        assert_eq!(directory.trail("round"), [vec![""], vec!["round"], vec!["round"]]);
    }
}
