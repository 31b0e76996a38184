//! Who of a cluster pulls an image: one process holds a lease file, the others wait for it or take it over.
//!
//! ```text
//! TOPDIR/leases/HEX     HEX: SHA-256 over reference and platform; made by O_EXCL, renewed by its time of change
//!   lease-HOST_NAMESPACE-BOOT-PID-START-RANDOM    the name of the holder's folder in tmp/: unique, and tells who it is
//!   HOST                                          as messages name it
//! ```
//! A lease saves work and protects nothing: what is published is content-addressed and appears by rename, whoever comes
//! first. So it needs no flock(2). Its age is the difference of two times of one file server: that of the lease, and that of
//! a file which the waiter touches at the same moment; no client's clock counts. A holder of this node that is dead loses
//! its lease at once, any other one after [`EXPIRES_AFTER`] without a renewal: by a rename into the folder of who takes it,
//! which looks then at what it took, and puts back what is not the lease that had expired.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW};
use udocker_core::digest::Digest;
use udocker_core::error::{ErrorKind, Explain};
use udocker_core::platform::Platform;
use udocker_core::reference::ImageReference;
use udocker_core::store::{Maker, Patience, Store, StoreError, Temporary};

/// Pause between two renewals.
const RENEWED_EVERY: Duration = Duration::from_secs(5);
/// Without a renewal for so long, by the file server's clock, a lease is anybody's.
pub const EXPIRES_AFTER: Duration = Duration::from_secs(30);
/// First and longest pause between two looks of a waiter.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// A lease could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// A system call failed.
    #[error("cannot {action} the lease {path}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The lease.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another process pulls the image for longer than is waited.
    #[error("{holder} pulls the same image and was waited for {seconds} s")]
    Held {
        /// Process and host.
        holder: String,
        /// The lease.
        path: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
    /// The folder in `tmp/`.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Explain for LeaseError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } => ErrorKind::from_io(source),
            Self::Held { .. } => ErrorKind::Timeout,
            Self::Store(error) => error.kind(),
        }
    }
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Held { .. })
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::Io { .. } => Vec::new(),
            Self::Held { path, .. } => vec![
                "wait for its end and try again".into(),
                format!("if it hangs, end it; or remove {}, and the next process pulls", path.display()),
            ],
            Self::Store(error) => error.hints(),
        }
    }
}

fn io_error<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> LeaseError {
    move |source| LeaseError::Io { action, path: path.to_owned(), source: source.into() }
}

/// What a lease file says; two are the same lease if they are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Holder(String);

impl Holder {
    fn of(folder: &Temporary) -> Self {
        let name = folder.path().file_name().unwrap_or_default().to_string_lossy();
        Self(format!("{name}\n{}\n", rustix::system::uname().nodename().to_string_lossy()))
    }

    /// Whether it can be asked, and is no more.
    fn is_dead(&self) -> bool {
        let maker = self.0.lines().next().and_then(Maker::parse);
        maker.and_then(|maker| maker.is_dead(&Maker::me())) == Some(true)
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut lines = self.0.lines();
        match (lines.next().and_then(Maker::parse), lines.next()) {
            (Some(maker), Some(host)) => write!(f, "process {} on {}", maker.pid(), host.escape_debug()),
            _ => f.write_str("another process"),
        }
    }
}

/// A held lease: renewed while it lives, given back when it is dropped, never taken from another holder.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    folder: Temporary,
    me: Holder,
    is_lost: Arc<AtomicBool>,
    renewal: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Lease {
    /// Takes the lease on pulls of `reference` for `platform` into `store`; `told` gets the holder's name once, after
    /// `patience.tell_after`.
    ///
    /// # Errors
    /// [`LeaseError::Held`] after `patience.limit`; I/O.
    pub fn take(
        store: &Store,
        reference: &ImageReference,
        platform: &Platform,
        patience: &Patience<'_>,
        told: &dyn Fn(&str),
    ) -> Result<Self, LeaseError> {
        let path = lease_path(store, reference, platform);
        let folder = store.temporary("lease")?;
        let me = Holder::of(&folder);
        let directory = path.parent().unwrap_or(store.path());
        fs::create_dir_all(directory).map_err(io_error("make the directory of", &path))?;
        let (since, mut pause, mut is_told) = (Instant::now(), PAUSES.0, false);
        loop {
            if let Some(file) = create(&path, &me)? {
                return Ok(Self::renewing(path, folder, me, file));
            }
            let Some((holder, renewed)) = read(&path)? else { continue };
            if holder.is_dead() || age(renewed, &folder, &path)? > EXPIRES_AFTER {
                displace(&path, &holder, &folder)?;
                continue;
            }
            let waited = since.elapsed();
            if waited >= patience.limit {
                return Err(LeaseError::Held { holder: holder.to_string(), path, seconds: waited.as_secs() });
            }
            if !is_told && waited >= patience.tell_after {
                is_told = true;
                told(&holder.to_string());
            }
            std::thread::sleep(jittered(pause).min(patience.limit - waited));
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    fn renewing(path: PathBuf, folder: Temporary, me: Holder, file: File) -> Self {
        let is_lost = Arc::new(AtomicBool::new(false));
        let (stop, stopped) = channel();
        let (lost, watched, mine) = (Arc::clone(&is_lost), path.clone(), me.clone());
        let renewal = std::thread::Builder::new().name("lease".into()).spawn(move || {
            while stopped.recv_timeout(RENEWED_EVERY) == Err(RecvTimeoutError::Timeout) {
                // Through the descriptor: whoever has taken the lease over has another file.
                if !is_held_by(&watched, &mine) || touch(&file).is_err() {
                    lost.store(true, Ordering::Relaxed);
                    return;
                }
            }
        });
        // Without a thread the lease ends by its age: others may pull the same then.
        let renewal = renewal.ok().map(|thread| (stop, thread));
        Self { path, folder, me, is_lost, renewal }
    }

    /// Whether another process has taken it over meanwhile: this one was stopped, or cut off from the file server.
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed) || !is_held_by(&self.path, &self.me)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.renewal.take() {
            drop(stop);
            // Its only way to fail is a panic, which was printed.
            let _ = thread.join();
        }
        // One that stays is that of a dead process.
        let _ = displace(&self.path, &self.me, &self.folder);
    }
}

/// Where the lease on pulls of `reference` for `platform` into `store` lies.
pub fn lease_path(store: &Store, reference: &ImageReference, platform: &Platform) -> PathBuf {
    let key = Digest::sha256_of(format!("{reference} {platform}").as_bytes());
    store.path().join("leases").join(key.hex())
}

/// Makes the lease file, if there is none.
fn create(path: &Path, me: &Holder) -> Result<Option<File>, LeaseError> {
    match File::options().write(true).create_new(true).open(path) {
        Ok(mut file) => {
            file.write_all(me.0.as_bytes()).map_err(io_error("write", path))?;
            Ok(Some(file))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(io_error("make", path)(error)),
    }
}

/// Who holds it, and when it was renewed, as the server has it: opening asks the server, which stat(2) need not.
fn read(path: &Path) -> Result<Option<(Holder, SystemTime)>, LeaseError> {
    let look = || -> io::Result<_> {
        let mut file = File::open(path)?;
        let renewed = file.metadata()?.modified()?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok((Holder(String::from_utf8_lossy(&text).into_owned()), renewed))
    };
    match look() {
        Ok(found) => Ok(Some(found)),
        // NFS answers ESTALE for a file that another client removed.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESTALE)) => Ok(None),
        Err(error) => Err(io_error("read", path)(error)),
    }
}

fn is_held_by(path: &Path, me: &Holder) -> bool {
    matches!(read(path), Ok(Some((holder, _))) if holder == *me)
}

/// How long ago `renewed` was for the file server.
fn age(renewed: SystemTime, folder: &Temporary, path: &Path) -> Result<Duration, LeaseError> {
    let now = || {
        let file = File::create(folder.path().join("now"))?;
        touch(&file)?;
        file.metadata()?.modified()
    };
    let now = now().map_err(io_error("tell the age of", path))?;
    Ok(now.duration_since(renewed).unwrap_or_default())
}

/// Sets the time of change to the server's own (NFS: SET_TO_SERVER_TIME).
fn touch(file: &File) -> io::Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    Ok(rustix::fs::futimens(file, &Timestamps { last_access: now, last_modification: now })?)
}

/// Removes the lease of `holder`, and no other one.
fn displace(path: &Path, holder: &Holder, folder: &Temporary) -> Result<(), LeaseError> {
    if !is_held_by(path, holder) {
        return Ok(());
    }
    let aside = folder.path().join("taken");
    match fs::rename(path, &aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(io_error("take over", path))?,
    }
    if !is_held_by(&aside, holder) {
        // Another one came between the look and the rename. It finds its lease lost if a third has made one since.
        match fs::hard_link(&aside, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_error("put back", path)(error));
            }
            _ => {}
        }
    }
    fs::remove_file(&aside).map_err(io_error("remove", &aside))
}

/// Between half and all of `pause`: the waiters of many nodes spread.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0; 1];
    // Without randomness they come together, which is slower and no failure.
    let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    pause / 2 + pause / 2 * u32::from(random[0]) / 255
}

#[cfg(test)]
mod tests {
    use udocker_core::settings::{StoreKind, StoreParts, StoreSettings};

    use super::*;

    fn store_in(directory: &Path) -> Store {
        let (path, parts, kind) = (directory.join("store"), StoreParts::default(), StoreKind::User);
        let settings =
            StoreSettings { name: "s".into(), path, parts, kind, readonly: false, keep_layers: true, sync: false };
        Store::create(&settings).unwrap()
    }

    fn take(store: &Store, limit: Duration) -> Result<Lease, LeaseError> {
        let patience = Patience { tell_after: Duration::MAX, told: &|| {}, limit };
        Lease::take(store, &"debian:12".parse().unwrap(), &"linux/amd64".parse().unwrap(), &patience, &|_| {})
    }

    /// Leaves the lease of `text`, renewed `ago`.
    fn leave(store: &Store, text: &str, ago: Duration) -> PathBuf {
        let path = lease_path(store, &"debian:12".parse().unwrap(), &"linux/amd64".parse().unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let then = SystemTime::now() - ago;
        File::options().write(true).open(&path).unwrap().set_modified(then).unwrap();
        path
    }

    const SHORT: Duration = Duration::from_millis(200);

    #[test]
    fn one_holds_it_and_gives_it_back() {
        let directory = tempfile::tempdir().unwrap();
        let store = store_in(directory.path());
        let first = take(&store, SHORT).unwrap();
        let error = take(&store, SHORT).unwrap_err();
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let expected = format!("process {} on {host} pulls the same image and was waited for 0 s", std::process::id());
        assert_eq!((error.to_string(), error.kind()), (expected, ErrorKind::Timeout));
        assert!(!first.is_lost());
        drop(first);
        drop(take(&store, SHORT).unwrap());
        for part in ["leases", "tmp"] {
            assert_eq!(fs::read_dir(store.path().join(part)).unwrap().count(), 0, "{part}");
        }
    }

    #[test]
    fn only_the_expired_and_the_dead_of_this_node_are_taken_over() {
        let mine = |start: u64| {
            let directory = tempfile::tempdir().unwrap();
            let folder = store_in(directory.path()).temporary("lease").unwrap();
            let name = folder.path().file_name().unwrap().to_str().unwrap().to_owned();
            let mut parts: Vec<_> = name.split('-').map(str::to_owned).collect();
            parts[4] = (parts[4].parse::<u64>().unwrap() + start).to_string();
            format!("{}\nhere\n", parts.join("-"))
        };
        let second = Duration::from_secs(1);
        let elsewhere = "lease-elsewhere_1-boot-7-9-00ff\nelsewhere\n";
        for (what, text, ago, is_taken) in [
            ("renewed elsewhere", elsewhere, EXPIRES_AFTER - 10 * second, false),
            ("expired elsewhere", elsewhere, EXPIRES_AFTER + second, true),
            ("dead here", &*mine(1), Duration::ZERO, true),
            ("alive here", &*mine(0), EXPIRES_AFTER - 10 * second, false),
            ("alive here, stopped", &*mine(0), EXPIRES_AFTER + second, true),
            ("being written", "", Duration::ZERO, false),
            ("torn", "lease-", EXPIRES_AFTER + second, true),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let store = store_in(directory.path());
            let path = leave(&store, text, ago);
            assert_eq!(take(&store, SHORT).is_ok(), is_taken, "{what}");
            assert_eq!(path.exists(), !is_taken, "{what}");
        }
    }

    #[test]
    fn a_holder_learns_that_it_lost_and_takes_nothing_from_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let store = store_in(directory.path());
        let stopped = take(&store, SHORT).unwrap();
        let ago = SystemTime::now() - EXPIRES_AFTER - Duration::from_secs(1);
        File::options().write(true).open(&stopped.path).unwrap().set_modified(ago).unwrap();
        let next = take(&store, SHORT).unwrap();
        assert_eq!((stopped.is_lost(), next.is_lost()), (true, false));
        drop(stopped);
        assert!(!next.is_lost());
    }

    #[test]
    fn of_many_that_take_over_an_expired_one_each_holds_it_alone() {
        let directory = tempfile::tempdir().unwrap();
        let store = store_in(directory.path());
        leave(&store, "lease-elsewhere_1-boot-7-9-00ff\nelsewhere\n", 2 * EXPIRES_AFTER);
        let inside = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let lease = take(&store, Duration::from_secs(60)).unwrap();
                    assert!(!inside.swap(true, Ordering::SeqCst));
                    std::thread::sleep(Duration::from_millis(5));
                    inside.store(false, Ordering::SeqCst);
                    drop(lease);
                });
            }
        });
        assert_eq!(fs::read_dir(store.path().join("leases")).unwrap().count(), 0);
    }
}
