//! The only unsafe code: one small file per kernel facility. File descriptors are owned, errors name the call.
