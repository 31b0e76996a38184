#!/bin/bash
# Borders are crates: fails if a light process links what only heavy ones may (docs/design/0001-one-page.md).
set -euo pipefail
heavy='reqwest|rustls|tokio|rayon|regex|clap|tar|flate2|zstd|liblzma|bzip2|indicatif'
status=0
for package in udocker-core udocker-site-config udocker-launch udocker-spank udocker-pbs; do
  found=$(cargo tree --locked -p "$package" -e normal --prefix none | awk '{print $1}' | grep -xE "$heavy" | sort -u || true)
  if [ -n "$found" ]; then
    echo "$package links: $(echo $found)" >&2
    status=1
  fi
done
exit $status
