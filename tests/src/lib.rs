//! Helpers of the end-to-end tests: a fresh home and store, images made on the spot, a registry on loopback.
