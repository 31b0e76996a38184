#!/bin/bash
# Makes the root of a later Debian with its Slurm, both MPIs and a compiler: OUTDIR/root. Needs root, mmdebstrap, and the
# mirror that this machine installs from.
# usage: slurm.sh SUITE OUTDIR
set -euo pipefail
suite=$1 out=$2
mirror=$(awk '/^URIs:/ { print $2; exit } /^deb / { for (i = 2; i <= NF; i++) if ($i ~ /^[a-z+]+:\/\//) { print $i; exit } }' \
  /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null || true)
[ -n "$mirror" ] || { echo 'slurm.sh: neither /etc/apt/sources.list nor debian.sources names a mirror' >&2; exit 1; }
packages=slurmctld,slurmd,slurm-client,slurm-wlm-basic-plugins,munge,libslurm-dev,gcc,libc6-dev,mount,bsdutils
packages+=,mpich,libmpich-dev,openmpi-bin,libopenmpi-dev
export SOURCE_DATE_EPOCH=1700000000 DEBIAN_FRONTEND=noninteractive TMPDIR=$out
mmdebstrap --quiet --variant=apt --aptopt='Acquire::Check-Valid-Until "false"' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' --include="$packages" --components=main "$suite" "$out/root" "$mirror"
rm -rf "$out"/root/var/cache/apt/archives "$out"/root/var/lib/apt/lists
