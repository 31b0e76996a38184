//! The PBS hook (one self-contained Python file) and `udocker-pbs`, which prints its configuration. Nothing is built here yet.
