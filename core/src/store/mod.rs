//! Stores: the user's, and the read-only central ones. This module reads; `udocker-transfer` writes images into them.
//!
//! ```text
//! TOPDIR
//! ├── udocker.store udocker.lock    ours: format number; held by who publishes or removes
//! ├── repos/NAME/TAG/               TAG, v2, manifest, relative links into layers/ (as udocker 1.3)
//! ├── layers/sha256:HEX             verified blobs
//! ├── records/sha256/HEX-OS-ARCH    ours: one per manifest, per index and per key of a v1 image, written last
//! ├── rootfs/FORMAT/TREEID/root     ours: one flattened, read-only tree per image
//! ├── containers/UUID/              as udocker; layered ones have upper/ and work/ instead of ROOT/
//! ├── marks/                        ours: what a central store's keepers say of its images
//! ├── tmp/ trash/ pins/ leases/     ours
//! └── bin/ lib/ doc/                as udocker
//! ```
//! A start opens two files here (`manifest`, then the record); it locks, lists and writes nothing.

mod access;
mod garbage;
mod held;
mod layout;
mod lock;
mod lookup;
mod marks;
mod node_cache;
mod pins;
mod record;
mod repos;
mod retired;
mod run_directory;
mod runners;
mod stored;
mod temporary;

pub use held::*;
pub use layout::*;
pub use lock::*;
pub use lookup::*;
pub use marks::*;
pub use pins::*;
pub use record::*;
pub use repos::*;
pub use retired::*;
pub use run_directory::*;
pub use runners::*;
pub use stored::*;
pub use temporary::*;
