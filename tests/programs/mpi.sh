#!/bin/bash
# Two ranks of each MPI on this node. argv 1: where the sources are. /tmp keeps the programs.
set -euo pipefail
cd /tmp
mpicc.mpich -O1 -o ranks.mpich "$1/ranks.c"
mpicc.openmpi -O1 -o ranks.openmpi "$1/ranks.c"
for mpi in mpich openmpi; do echo "$mpi $("mpirun.$mpi" -n 2 "/tmp/ranks.$mpi")"; done
