#!/bin/bash
# All benchmarks, each into a file of results/ that is named after machine and user.
# usage: run.sh BIN-DIR [ROUNDS]       as root, so that it can show an ordinary user's figures as well
set -euo pipefail
bin=$(realpath "$1") rounds=${2:-100} here=$(cd "$(dirname "$0")" && pwd)
results=$here/results; mkdir -p "$results"
python3 "$here/start.py" "$bin" "$rounds" | tee "$results/start-root.txt"
if [ "$(id -u)" = 0 ]; then
  # Where everybody can go: the checkout may lie below a private directory.
  copy=$(mktemp -d); trap 'rm -rf "$copy"' EXIT
  chmod 755 "$copy"; cp -r "$bin" "$copy/bin"; cp "$here"/{start.py,floor.c,join.c} "$copy/"
  setpriv --reuid=65533 --regid=65533 --clear-groups /usr/bin/python3 "$copy/start.py" "$copy/bin" "$rounds" \
    | tee "$results/start-user.txt"
fi
made() { cargo run --locked -q -p udocker-tests --example image "$1"; }
python3 "$here/engines.py" "$bin" 9 "$(made programs)" "$(made proot)" | tee "$results/engines.txt"
python3 "$here/mpi.py" "$bin" 10 "$(made programs)/root" | tee "$results/mpi.txt"
python3 "$here/pull.py" "$bin" 3 | tee "$results/pull.txt"
# Who is root can trace a program that makes namespaces.
[ "$(id -u)" != 0 ] || python3 "$here/metadata.py" "$bin/udocker-launch" "$bin/udocker" ${PYUDOCKER:+"$PYUDOCKER"} | tee "$results/metadata.txt"
# A cluster needs root.
[ "$(id -u)" != 0 ] || python3 "$here/slurm.py" "$bin" 60 | tee "$results/slurm.txt"
