//! The Slurm SPANK plugin: registers the `--udocker-*` options, builds the request at submit and puts `udocker-launch`
//! before the argv of a task. It runs inside daemons of root and does no file work there. Nothing is built here yet.
