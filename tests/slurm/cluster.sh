#!/bin/bash
# A Slurm cluster on this machine: two nodes, n1 and n2, and the host `ctl` for controller and clients. Needs root.
#
# usage: cluster.sh up     RELEASE [--state DIR] [--bind DIR]… [--conf FILE] [--etc DIR]
#        cluster.sh run    RELEASE [--state DIR] [--on HOST] [--root] [--cwd DIR] [--env NAME=VALUE]… [--] COMMAND…
#        cluster.sh status RELEASE [--state DIR]
#        cluster.sh down   RELEASE [--state DIR]
#        cluster.sh root   RELEASE
#
#   RELEASE   22.05 (this Debian 12 itself), 24.11 or 26.05 (a root of a later Debian, made on first use: minutes)
#   --state   where all that the cluster writes lies; `target/slurm/RELEASE` unless given. A cluster per directory.
#   --bind    a directory that all hosts see where it lies here. They see this checkout too, and no other files of this
#             machine: each has a /tmp and a /dev/shm of its own, and /home/tester is the same on all.
#   --conf    lines for slurm.conf, which replace those of the same key; `NodeName=DEFAULT Gres=gpu:2` works as well
#   --etc     files that are copied over the hosts' /etc: slurm/plugstack.conf, slurm/gres.conf, udocker/site.toml …
#             (while the cluster is up, change them below DIR/etc of --state: srun and slurmstepd read plugstack.conf anew)
#             `devices` lists `NAME c MAJOR MINOR`: the hosts have a /dev of their own then, with these in it
#             slurm/cgroup.conf may say CgroupPlugin=cgroup/v2 on a machine with both kinds too; only devices are held then
#   --user    run as `tester`, uid and gid 2000, in /home/tester, without any variable of the caller's: the default
#   --root    run as root
#   --on      run on n1 or n2, rather than on ctl
#
# `down` tells what was still running when the daemons had ended; nothing remains of it. See init.sh for how.
set -euo pipefail
umask 022
here=$(cd "$(dirname "$(realpath "$0")")" && pwd)
checkout=$(dirname "$(dirname "$here")")
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
say() { printf 'slurm cluster %s: %s\n' "$release" "$*"; }
fail() { say "$@" >&2; exit 1; }
usage() { sed -n '/^# usage/,/^# `down`/{s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }

[ $# -ge 2 ] || usage
action=$1 release=$2; shift 2
case $release in
  22.05) suite= ;;
  24.11) suite=trixie ;;
  26.05) suite=forky ;;
  *) echo "cluster.sh: no release $release: 22.05, 24.11 and 26.05 are there" >&2; exit 2 ;;
esac
state=$checkout/target/slurm/$release binds=() conf=/dev/null etc= on=ctl as=tester cwd= variables=()
while [ $# -gt 0 ]; do
  case $1 in
    --state) state=$(realpath -m "$2"); shift 2 ;;
    --bind) binds+=("$(realpath -e "$2")"); shift 2 ;;
    --conf) conf=$(realpath -e "$2"); shift 2 ;;
    --etc) etc=$(realpath -e "$2"); shift 2 ;;
    --on) on=$2; shift 2 ;;
    --user) as=tester; shift ;;
    --root) as=root; shift ;;
    --cwd) cwd=$2; shift 2 ;;
    --env) variables+=("$2"); shift 2 ;;
    --) shift; break ;;
    -*) usage ;;
    *) break ;;
  esac
done
case $action in run) [ $# -gt 0 ] || usage ;; up | down | status | root) [ $# = 0 ] || usage ;; *) usage ;; esac
[ "$(id -u)" = 0 ] || fail "cannot $action: mounts and namespaces need root"

# The process number of a host's first process, if it runs. It is known by its arguments, not by its number alone.
pid_of() {
  local pid
  pid=$(cat "$state/$1/pid" 2>/dev/null) && [ -n "$pid" ] || return 1
  if [ "$1" = ctl ]; then
    grep -qzxF "$state" "/proc/$pid/cmdline" 2>/dev/null || return 1
  else
    [ "/proc/$pid/ns/pid" -ef "/proc/$(pid_of ctl)/ns/pid" ] || return 1
  fi
  echo "$pid"
}

# Runs a command on a host, as whom and where the options say.
enter() {
  local pid home=/home/tester
  pid=$(pid_of "$on") || fail "cannot run $1 on $on: it is not up; \`$0 up $release\` starts the cluster"
  [ "$as" = tester ] || home=/root
  env -i PATH="$path" nsenter -t "$pid" -m -u -i -p setpriv --reuid="$as" --regid="$as" --init-groups \
    env -i -C "${cwd:-$home}" PATH="$path" HOME="$home" USER="$as" LOGNAME="$as" SHELL=/bin/bash LC_ALL=C.UTF-8 \
    SLURM_CONF=/etc/slurm/slurm.conf "${variables[@]}" "$@"
}

# The nodes that take jobs.
idle() { as=root on=ctl enter sinfo -h -N -t idle -o %N 2>/dev/null | sort -u | tr '\n' ' '; }

# Prints the root that the hosts have, which is made if it is new: once per recipe, whoever asks at the same time.
make_root() {
  [ -n "$suite" ] || { echo /; return; }
  local recipe=$here/../images/slurm.sh directory
  directory=$checkout/target/test-images/slurm-$suite-$({ cat "$recipe"; echo "$suite"; } | sha256sum | cut -c1-16)
  if [ ! -d "$directory" ]; then
    mkdir -p "${directory%/*}"
    (
      flock 8
      [ ! -d "$directory" ] || exit 0
      say "making the root $directory, which takes some minutes" >&2
      rm -rf "$directory.unfinished" && mkdir "$directory.unfinished" || exit
      bash "$recipe" "$suite" "$directory.unfinished" >"$directory.log" 2>&1 8>&- &&
        mv -T "$directory.unfinished" "$directory" && rm -f "$directory.log"
    ) 8>"$directory.lock" || {
      tail -n 20 "$directory.log" >&2
      fail "cannot make a root of Debian $suite with $recipe: see above and $directory.log"
    }
  fi
  echo "$directory/root"
}

# Removes the control groups of a cluster of which the last process has ended, or will in a moment.
remove_groups() {
  unshare --mount bash -c '
    mount -t cgroup2 groups "$1/mnt" || exit 0
    cd "$1/mnt"
    for ((waited = 0; waited < 500; waited++)); do
      [ -d "$2" ] || exit 0
      find "$2" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.01
    done
    find "$2" -depth -type d -exec rmdir {} +' groups "$state" "$(cat "$state/group")"
}

# Ends what runs in the state's directory, and removes that. Prints what outlived the daemons.
end() {
  local pid waited=0
  if pid=$(pid_of ctl); then
    kill -TERM "$pid"
    while pid_of ctl >/dev/null; do
      # The first process has no signal but this one that always works; all others of its namespace go with it.
      [ "$waited" != 1000 ] || { echo 'the daemons did not end within 10 s' >>"$state/log/left"; kill -KILL "$pid"; }
      waited=$((waited + 1)); sleep 0.01
    done
  fi
  cat "$state/log/left" 2>/dev/null || true
  [ ! -e "$state/group" ] || remove_groups
  rm -rf "$state"
}

# A port for which nobody listens, outside the range from which the kernel picks them.
free_port() {
  local port
  while port=$((10000 + SRANDOM % 20000)); do
    (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
}

write_configuration() {
  local root=$1
  mkdir -p "$state"/{log,ctld,munge,mnt,home} "$state"/{ctl,n1,n2}/{tmp,spool}
  chmod 1777 "$state"/*/tmp
  cp -a "$root/etc" "$state/etc"
  cd "$state/etc"
  mkdir -p slurm munge udocker
  printf '127.0.0.1 localhost ctl n1 n2\n' >hosts
  sed -i -E '/^tester:|^[^:]*:[^:]*:2000:/d' passwd group
  sed -i '/^tester:/d' shadow
  echo 'tester:x:2000:2000:tester:/home/tester:/bin/bash' >>passwd
  echo 'tester:x:2000:' >>group
  echo 'tester:*:19000:0:99999:7:::' >>shadow
  chown 2000:2000 "$state/home"
  rm -f munge/munge.key && (umask 077 && head -c 128 /dev/urandom >munge/munge.key)
  echo 'CgroupPlugin=cgroup/v1' >slurm/cgroup.conf
  : >slurm/plugstack.conf
  [ -z "$etc" ] || cp -a "$etc/." .
  if grep -qx 'CgroupPlugin=cgroup/v2' slurm/cgroup.conf; then
    gcc -Wall -Werror -shared -fPIC -o slurm/one_kind.so "$here/one_kind.c"
    echo "udocker-tests.$SRANDOM" >"$state/group"
  fi
  # Ours, but for the keys that the caller sets.
  awk -F= -v conf="$conf" 'FILENAME == conf { set[tolower($1)] = 1; next } !(tolower($1) in set)' "$conf" "$here/slurm.conf" \
    >slurm/slurm.conf
  {
    echo "SlurmctldPort=$(free_port)"
    cat "$conf"
    for node in n1 n2; do
      echo "NodeName=$node NodeHostname=$node NodeAddr=127.0.0.1 Port=$(free_port) CPUs=4 RealMemory=2000"
    done
    echo 'PartitionName=main Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP'
  } >>slurm/slurm.conf
  cd /
}

up() {
  local root waited=0
  if pid_of ctl >/dev/null; then
    say "is up, idle nodes: $(idle)"
    return
  fi
  end
  root=$(make_root)
  for program in munged slurmctld slurmd srun; do
    [ -x "$root/usr/sbin/$program" ] || [ -x "$root/usr/bin/$program" ] ||
      fail "cannot start: no $program below $root; tests/setup.sh installs it"
  done
  [ "$root" != / ] || [[ $(slurmctld -V) == *" $release."* ]] ||
    fail "cannot start: this machine has $(slurmctld -V); release $release is that of Debian 12"
  write_configuration "$root"
  setsid env -i PATH="$path" unshare --fork --pid --mount --uts --ipc --propagation private \
    bash "$here/init.sh" "$state" "$root" "$checkout" "${binds[@]}" </dev/null >"$state/log/init.log" 2>&1 9>&- &
  until [ "$(idle)" = 'n1 n2 ' ]; do
    if [ "$waited" = 600 ] || grep -q '^ended: ' "$state/log/init.log"; then
      tail -n 20 "$state"/log/*.log >&2
      end >&2
      fail "cannot start: the nodes do not get idle; the ends of the daemons' logs are above"
    fi
    waited=$((waited + 1)); sleep 0.05
  done
  say "is up, idle nodes: n1 n2; state in $state"
}

case $action in
  run) enter "$@" ;;
  root) make_root ;;
  status)
    pid_of ctl >/dev/null || { say "is down"; exit 1; }
    say "is up; state in $state"
    as=root enter sinfo -N -o '%N %t' ;;
  *)
    # One at a time. The lock lies beside the directory, which comes and goes.
    mkdir -p "${state%/*}"
    exec 9>"$state.lock"
    flock 9
    if [ "$action" = up ]; then up; else end; fi ;;
esac
