#!/bin/sh
# For Slurm's Prolog, or its last lines: the image of a job is made ready on its node before its tasks start, where `[stage] when` of
# site.toml is "prolog". It runs as root and reads nothing of the user's: setpriv makes the process his before it does, with no
# descriptor of slurmd's. What it says goes to syslog. Whatever becomes of it, it ends with 0: a Prolog that fails drains its node,
# and the job's first task gets what is missing, or says why not.
udocker=/usr/bin/udocker
config=                                 # as `config=` of the plugin's line, if it has one
limit=900                               # seconds

[ -n "${SPANK_UDOCKER_REQUEST-}" ] || exit 0
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
IFS=: read -r USER _ _ group _ HOME _ <<ACCOUNT
$(timeout 10 getent passwd "$SLURM_JOB_UID")
ACCOUNT
[ -n "$HOME" ] || exit 0
UDOCKER_REQUEST=$SPANK_UDOCKER_REQUEST
[ -z "${SPANK_UDOCKER_DIR-}" ] || export UDOCKER_DIR="$SPANK_UDOCKER_DIR"
[ -z "$config" ] || export SLURM_UDOCKER_CONFIG="$config"
export PATH USER HOME UDOCKER_REQUEST
exec </dev/null 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-
cd / && timeout --kill-after=5 "$limit" setpriv --reuid="$SLURM_JOB_UID" --regid="$group" --init-groups \
  "$udocker" --allow-root stage --when=prolog 2>&1 | timeout "$((limit + 10))" logger -t udocker-prolog
exit 0
