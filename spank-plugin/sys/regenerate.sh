#!/bin/bash
# Prints the bindings of a release's spank.h, as bindings/RELEASE.rs holds them. Needs bindgen 0.72 and libclang.
# usage: regenerate.sh [ROOT]      ROOT: a system with that release's libslurm-dev; / unless given
set -euo pipefail
root=${1:-/}
header=${root%/}/usr/include/slurm/spank.h
[ -f "$header" ] || { echo "regenerate.sh: no $header; it is in libslurm-dev" >&2; exit 1; }
exec bindgen --no-layout-tests --no-prepend-enum-name --no-doc-comments --disable-header-comment --sort-semantically \
  --use-core --merge-extern-blocks \
  --allowlist-function 'spank_.*|slurm_(error|info|spank_log)' \
  --allowlist-type 'spank_(option|item|context)' --allowlist-var 'SLURM_VERSION_NUMBER|ESPANK_SUCCESS' \
  --blocklist-function 'spank_prepend_task_argv' \
  --raw-line '// Made by regenerate.sh from spank.h; do not edit.' \
  "$header" -- -I"${root%/}/usr/include"
