#!/bin/bash
# Unpacks PRoot 5.4 of a later Debian, with its libraries.
# usage: proot.sh OUTDIR      needs mmdebstrap and the packages' mirror, which may be a copy of some weeks ago
set -euo pipefail
mmdebstrap --quiet --variant=extract --include=proot --aptopt='Acquire::Check-Valid-Until "false"' forky "$1/root"
