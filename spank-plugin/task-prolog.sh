#!/bin/sh
# For a site's TaskProlog: a task that should be in a container does not run on a node that lacks the plugin. The plugin writes
# the job's number into the request; a request without one has met no plugin here. In Slurm 22.05, 24.11 and 26.05 a TaskProlog
# that fails ends the task, and the node stays up.
case ${SLURM_UDOCKER_REQUEST-} in
  *',"job":null}')
    node=${SLURMD_NODENAME:-this node}
    [ "${SLURM_LOCALID:-0}" != 0 ] ||
      echo "print udocker: [$node task ${SLURM_PROCID:-0}] cannot start the task in its container: $node lacks Slurm's plugin"
    exit 125
    ;;
esac
