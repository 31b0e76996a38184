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

mod error;
mod file;

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use error::LeaseError;
use error::io_error;
use file::{Holder, age, create, displace, is_held_by, read, touch};
use udocker_core::digest::Digest;
use udocker_core::platform::Platform;
use udocker_core::reference::ImageReference;
use udocker_core::store::{Patience, Store, Temporary};

/// Pause between two renewals.
const RENEWED_EVERY: Duration = Duration::from_secs(5);
/// Without a renewal for so long, by the file server's clock, a lease is anybody's.
pub const EXPIRES_AFTER: Duration = Duration::from_secs(30);
/// First and longest pause between two looks of a waiter.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

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

/// Between half and all of `pause`: the waiters of many nodes spread.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0; 1];
    // Without randomness they come together, which is slower and no failure.
    let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    pause / 2 + pause / 2 * u32::from(random[0]) / 255
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::SystemTime;

    use udocker_core::error::{ErrorKind, Explain};
    use udocker_core::settings::{StoreKind, StoreParts, StoreSettings};

    use super::*;

    fn store_in(directory: &Path) -> Store {
        let (path, parts, kind) = (directory.join("store"), StoreParts::default(), StoreKind::User);
        let settings = StoreSettings {
            name: "s".into(),
            path,
            parts,
            kind,
            readonly: false,
            keep_layers: true,
            sync: false,
            access: Default::default(),
        };
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
