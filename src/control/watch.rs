//! Files that may have changed: what the kernel tells about the directories on the way to them. It is only ever a hint to
//! look at what is in them.
//!
//! Owns the watches and where they must be. Where events are missed (network file systems, a limit of the
//! kernel), the files are looked at from time to time all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::trail::Trails;

/// So often the way is followed anew when it has changed while watches were set.
const ROUNDS: usize = 3;

/// What has happened on the way to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Touch {
    /// Someone writes to it, and will close it.
    Written(PathBuf),
    /// Its writer has closed it.
    Closed(PathBuf),
    /// It was created, removed, renamed or given other permissions.
    Moved(PathBuf),
    /// Events have been lost.
    Lost,
}

/// Watches on the way to files.
pub(super) struct Watch {
    watcher: RecommendedWatcher,
    /// What is worth telling; the thread of the watcher looks at it.
    names: Arc<ArcSwap<BTreeSet<PathBuf>>>,
    /// What is watched, with device and number of what was there then: a path may lead to something else later.
    watched: BTreeMap<PathBuf, (u64, u64)>,
    /// Files that someone writes to.
    writing: BTreeSet<PathBuf>,
}

impl Watch {
    /// Nothing is watched yet. `tell` is called on a thread of its own, and must return soon.
    ///
    /// # Errors
    /// Why the kernel does not let us.
    pub(super) fn new(tell: impl Fn(Touch) + Send + 'static) -> Result<Self, String> {
        let names = Arc::<ArcSwap<BTreeSet<PathBuf>>>::default();
        let wanted = Arc::clone(&names);
        let hear = move |event: notify::Result<Event>| match event {
            Ok(event) => touches(&event, &wanted.load()).into_iter().for_each(&tell),
            Err(_) => tell(Touch::Lost),
        };
        let watcher = notify::recommended_watcher(hear).map_err(|error| error.to_string())?;
        Ok(Self { watcher, names, watched: BTreeMap::new(), writing: BTreeSet::new() })
    }

    /// Watches the way to these files, as it is now, and nothing else. To be called again after every touch. Gives what
    /// could not be watched, and why.
    pub(super) fn aim<'p>(&mut self, paths: impl Iterator<Item = &'p Path> + Clone) -> Vec<String> {
        let mut failed = Vec::new();
        let mut trails = Trails::of(paths.clone());
        for _ in 0..ROUNDS {
            failed = self.aim_at(&trails);
            let again = Trails::of(paths.clone());
            if again == trails {
                break;
            }
            trails = again;
        }
        failed
    }

    fn aim_at(&mut self, trails: &Trails) -> Vec<String> {
        let Trails { directories, names, files } = trails;
        // Of a mount of a single file only the file itself is told about, and of a directory that it has gone.
        let wanted: BTreeSet<&PathBuf> = directories.union(files).collect();
        self.names.store(Arc::new(names.union(directories).cloned().collect()));
        let unwanted: Vec<PathBuf> = self.watched.keys().filter(|path| !wanted.contains(path)).cloned().collect();
        for path in unwanted {
            self.watched.remove(&path);
            let _ = self.watcher.unwatch(&path);
        }
        let mut failed = Vec::new();
        for path in wanted {
            let Ok(found) = fs::symlink_metadata(path) else { continue };
            let identity = (found.dev(), found.ino());
            if self.watched.get(path) == Some(&identity) {
                continue;
            }
            let _ = self.watcher.unwatch(path);
            match self.watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => _ = self.watched.insert(path.clone(), identity),
                Err(error) => failed.push(format!("{}: {}", path.display(), why(&error))),
            }
        }
        self.writing.retain(|path| names.contains(path));
        failed
    }

    /// Takes note of a touch.
    pub(super) fn note(&mut self, touch: Touch) {
        match touch {
            Touch::Written(path) => _ = self.writing.insert(path),
            Touch::Closed(path) => _ = self.writing.remove(&path),
            Touch::Moved(path) => {
                self.writing.remove(&path);
                // The watcher forgets what has been removed, and something else may be there already.
                self.watched.remove(&path);
            }
            Touch::Lost => {
                self.writing.clear();
                self.watched.clear();
            }
        }
    }

    /// Those that write now are not waited for any more.
    pub(super) fn forget_writers(&mut self) {
        self.writing.clear();
    }

    /// Whether someone is in the middle of writing one of the files.
    pub(super) fn is_written_to(&self) -> bool {
        !self.writing.is_empty()
    }
}

fn why(error: &notify::Error) -> String {
    match &error.kind {
        notify::ErrorKind::MaxFilesWatch => "the limit of watches is reached (fs.inotify.max_user_watches)".to_owned(),
        notify::ErrorKind::Io(error) => error.to_string(),
        _ => error.to_string(),
    }
}

/// What an event says about `names`. Reading is not worth a word: we do it ourselves.
fn touches(event: &Event, names: &BTreeSet<PathBuf>) -> Vec<Touch> {
    if event.need_rescan() {
        return vec![Touch::Lost];
    }
    let touch: fn(PathBuf) -> Touch = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Touch::Closed,
        EventKind::Access(_) => return Vec::new(),
        EventKind::Modify(ModifyKind::Data(_)) => Touch::Written,
        _ => Touch::Moved,
    };
    event.paths.iter().filter(|path| names.contains(*path)).cloned().map(touch).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use super::*;

    /// A directory that is gone when the test is over.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("countersign-watch-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path.canonicalize().unwrap())
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn watch() -> (Watch, Receiver<Touch>) {
        let (tell, told) = channel();
        (Watch::new(move |touch| drop(tell.send(touch))).unwrap(), told)
    }

    /// Whatever comes until this does.
    fn until(told: &Receiver<Touch>, last: &Touch) -> Vec<Touch> {
        let mut touches = Vec::new();
        while touches.last() != Some(last) {
            touches.push(told.recv_timeout(Duration::from_secs(10)).expect("a touch"));
        }
        touches
    }

    #[test]
    fn writing_is_told_from_having_written() {
        use std::io::Write;
        let directory = Directory::new("writing");
        let path = directory.0.join("a");
        fs::write(&path, "old").unwrap();
        fs::write(directory.0.join("other"), "").unwrap();
        let (mut watch, told) = watch();
        assert_eq!(watch.aim([path.as_path()].into_iter()), Vec::<String>::new());
        fs::write(directory.0.join("other"), "not worth a word").unwrap();
        fs::read(&path).unwrap();
        let mut file = fs::File::create(&path).unwrap();
        until(&told, &Touch::Written(path.clone())).into_iter().for_each(|touch| watch.note(touch));
        assert!(watch.is_written_to());
        file.write_all(b"new").unwrap();
        drop(file);
        let touches = until(&told, &Touch::Closed(path.clone()));
        assert!(touches.iter().all(|touch| matches!(touch, Touch::Written(_) | Touch::Closed(_))), "{touches:?}");
        touches.into_iter().for_each(|touch| watch.note(touch));
        assert!(!watch.is_written_to());
    }

    #[test]
    fn a_directory_that_is_replaced_is_watched_again() {
        let directory = Directory::new("replaced");
        let (inner, path) = (directory.0.join("d"), directory.0.join("d/a"));
        let (mut watch, told) = watch();
        for _ in 0..20 {
            watch.aim([path.as_path()].into_iter());
            fs::create_dir(&inner).unwrap();
            until(&told, &Touch::Moved(inner.clone())).into_iter().for_each(|touch| watch.note(touch));
            watch.aim([path.as_path()].into_iter());
            fs::write(&path, "x").unwrap();
            until(&told, &Touch::Closed(path.clone())).into_iter().for_each(|touch| watch.note(touch));
            watch.aim([path.as_path()].into_iter());
            fs::remove_dir_all(&inner).unwrap();
            until(&told, &Touch::Moved(inner.clone())).into_iter().for_each(|touch| watch.note(touch));
        }
    }

    #[test]
    fn lost_events_are_told() {
        let event = Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
        assert_eq!(touches(&event, &BTreeSet::new()), [Touch::Lost]);
    }
}
