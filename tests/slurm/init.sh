#!/bin/bash
# The first process of a cluster, in process, mount, UTS and IPC namespaces of its own, started by cluster.sh.
#
# usage: init.sh STATE ROOT BIND…
#        init.sh --node NAME STATE ROOT BIND…
#
# It becomes the host `ctl`, with munged, slurmctld and the clients that enter it, and starts a process for each node, which
# becomes that node in namespaces of its own. When it ends the kernel kills all processes of the cluster, whatever they did
# to escape, and with them go all mounts: so nothing is left of a cluster that is down.
set -euo pipefail
node=ctl
[ "$1" != --node ] || { node=$2; shift 2; }
state=$1 root=$2; shift 2
# Here /proc is still that of the machine, and so is our number: it is what clients enter by.
read -r pid _ </proc/self/stat
echo "$pid" >"$state/$node/pid"

# Of a cluster with cgroup/v2 all is in a group of its own, which is the top for it and looks as systemd leaves it.
if [ -e "$state/group" ] && [ "$node" = ctl ]; then
  group=$state/mnt/$(cat "$state/group")
  if [ ! -e "$group" ]; then
    mount -t cgroup2 groups "$state/mnt"
    mkdir -p "$group"/{init.scope,system.slice}
    echo 0 >"$group/cgroup.procs"
    exec unshare --cgroup bash "$0" "$state" "$root" "$@"
  fi
  echo 0 >"$group/init.scope/cgroup.procs"
  umount "$state/mnt"
fi

# Starts a daemon in the background.
declare -A daemons
daemon() {
  local name=$1; shift
  "$@" &
  daemons[$!]=$name
}

# The machine's devices; or, if /etc/devices lists some (`NAME c MAJOR MINOR`), the common ones and those.
put_devices() {
  local name kind major minor
  if [ ! -e "$state/etc/devices" ]; then
    put /dev /dev --rbind
    return
  fi
  mkdir "$new/dev" && mount -t tmpfs -o mode=0755 devices "$new/dev"
  cp -a /dev/{null,zero,full,random,urandom,tty} "$new/dev/"
  mkdir "$new/dev/shm"
  put /dev/pts /dev/pts
  ln -s pts/ptmx "$new/dev/ptmx"
  ln -s /proc/self/fd "$new/dev/fd"
  while read -r name kind major minor; do
    mknod -m 0666 "$new/dev/$name" "$kind" "$major" "$minor"
  done <"$state/etc/devices"
}

# Makes this mount namespace that of a host: a tmpfs with the system of ROOT, which nobody can write to, the devices, and
# binds from STATE and of BIND….
become() {
  local new=$state/mnt directory
  hostname "$node"
  mount -t tmpfs -o mode=0755 "$node" "$new"
  put() { mkdir -p "$new$2" && mount "${3:---bind}" "$1" "$new$2"; }
  for directory in bin sbin lib lib32 lib64 libx32 opt usr; do
    if [ -L "$root/$directory" ]; then
      cp -P "$root/$directory" "$new/"
    elif [ -d "$root/$directory" ]; then
      put "$root/$directory" "/$directory" --rbind
      mount -o remount,bind,ro "$new/$directory"
    fi
  done
  put "$state/etc" /etc
  put "$state/log" /var/log/slurm
  put "$state/munge" /run/munge
  put "$state/$node/tmp" /tmp
  put "$state/$node/spool" /var/spool/slurmd
  put "$state/home" /home/tester
  [ "$node" != ctl ] || put "$state/ctld" /var/lib/slurm
  mkdir -p -m 0700 "$new/root"
  mkdir -p -m 1777 "$new/var/tmp" "$new/run/lock"
  ln -s ../run "$new/var/run"
  put /sys /sys --rbind
  [ ! -e "$state/group" ] || mount -t cgroup2 groups "$new/sys/fs/cgroup"
  put_devices
  mount -t tmpfs -o mode=1777 shm "$new/dev/shm"
  for directory in "$@"; do put "$directory" "$directory"; done
  mkdir "$new/proc"
  mount -t proc proc "$new/proc"
  # Not chroot, in which the kernel refuses user namespaces.
  cd "$new"
  pivot_root . .
  umount -l .
  cd /
}

if [ "$node" != ctl ]; then
  become "$@"
  until [ -S /run/munge/munge.socket.2 ]; do sleep 0.02; done
  export SLURM_CONF=/etc/slurm/slurm.conf
  if [ -e /etc/slurm/one_kind.so ]; then
    # As systemd has it: of later releases slurmd moves all processes of its own group, which must not be those of init.scope.
    group=/sys/fs/cgroup/system.slice/slurmd-$node.service
    mkdir "$group"
    echo 0 >"$group/cgroup.procs"
    export LD_PRELOAD=/etc/slurm/one_kind.so
  fi
  exec slurmd -D -N "$node"
fi

for node in n1 n2; do
  daemon "slurmd of $node" unshare --mount --uts --ipc bash "$0" --node "$node" "$state" "$root" "$@"
  # It must have its own mounts before ours change.
  until [ -s "$state/$node/pid" ]; do sleep 0.01; done
done
node=ctl
become "$@"
chown munge: /etc/munge /etc/munge/munge.key /run/munge
chown slurm: /var/lib/slurm /var/log/slurm
daemon munged setpriv --reuid=munge --regid=munge --clear-groups munged --foreground \
  --pid-file=/run/munge/pid --log-file=/run/munge/log --seed-file=/run/munge/seed
until [ -S /run/munge/munge.socket.2 ]; do sleep 0.02; done
export SLURM_CONF=/etc/slurm/slurm.conf
daemon slurmctld setpriv --reuid=slurm --regid=slurm --clear-groups slurmctld -D

# Ends the daemons, nodes first, and lists what is still there, by built-in commands alone.
stop() {
  trap '' TERM
  for kind in slurmd slurmctld munged; do
    for pid in "${!daemons[@]}"; do [[ ${daemons[$pid]} != "$kind"* ]] || kill -TERM "$pid" || true; done
    for pid in "${!daemons[@]}"; do [[ ${daemons[$pid]} != "$kind"* ]] || wait "$pid" || true; done
  done
  for directory in /proc/[0-9]*; do
    mapfile -d '' words <"$directory/cmdline" || continue
    # A process that has ended and nobody waited for has none.
    [ "$directory" = /proc/1 ] || [ ${#words[@]} = 0 ] || echo "${directory#/proc/}: ${words[*]}"
  done >/var/log/slurm/left 2>/dev/null
  exit 0
}
trap stop TERM
while [ ${#daemons[@]} -gt 0 ]; do
  status=0
  wait -n -p pid "${!daemons[@]}" || status=$?
  echo "ended: ${daemons[$pid]}, status $status"
  unset "daemons[$pid]"
done
# Stay for the clients: a daemon that ended may be started anew by hand.
while :; do sleep 3600 & wait $! || true; done
