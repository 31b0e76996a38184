#!/bin/bash
# What a user does with udocker, command by command, each judged by its status and by what it prints.
#
# usage: user_session.sh UDOCKER REGISTRY LOGIN_REGISTRY ROOT_TAR
#   UDOCKER          the program
#   REGISTRY         host:port of a registry that has test/busybox:latest and test/multi:latest
#   LOGIN_REGISTRY   host:port of one that knows the user alice with the password secret
#   ROOT_TAR         a tar of a root file system with busybox
# Works in the current directory, and leaves in HOME what every user has there; run it again and it says the same.
# On a terminal all commands have one, else none.
set -u
udocker=$1 registry=$2 login=$3 root=$4
image=$registry/test/busybox:latest
passed=0 failed=0
work=$(mktemp -d -p .) && cd "$work" || exit 1
work=$PWD
terminal=; [ ! -t 0 ] || terminal=1

# Runs a command; its output, both streams, is in $out.
do_it() {
  if [ -n "$terminal" ]; then
    out=$(script -qec "$(printf '%q ' "$@")" /dev/null | tr -d '\r'; exit "${PIPESTATUS[0]}")
  else
    out=$("$@" </dev/null 2>&1)
  fi
}

# t STATUS PATTERN WORDS…: `udocker WORDS…` must end with STATUS and print something that PATTERN (grep -E) matches.
t() {
  local status=$1 pattern=$2 ended; shift 2
  do_it "$udocker" "$@"; ended=$?
  judge "$status" "$pattern" "$ended" "udocker $*"
}

# p STATUS PATTERN SCRIPT: the same for a line of shell, in which $U is the program.
p() {
  local ended
  do_it env U="$udocker" sh -c "$3"; ended=$?
  judge "$1" "$2" "$ended" "$3"
}

judge() {
  if [ "$1" = "$3" ] && grep -qE -- "$2" <<<"$out"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'FAILED: %s\n  status %s, expected %s and /%s/ in:\n%s\n' "$4" "$3" "$1" "$2" "$out"
  fi
}

section() { printf '== %s\n' "$*"; }

section what it is
t 0 'Usage: udocker' help
t 0 'Usage: udocker' --help
t 0 'Usage: udocker run' run --help
t 0 'Usage: udocker pull' help pull
t 0 '^version: ' version
t 0 '^tarball_release: ' -V
t 1 'Error: invalid command: nothing' nothing
t 1 'Error: syntax error at: --nope' images --nope
t 0 'topdir *= ' showconf
t 0 '"topdir"' showconf --format=json
t 0 '' install
t 0 '' install --force
p 0 . '"${UDOCKER_DIR:-$HOME/.udocker}/bin/proot-x86_64" --help'
t 0 '' mkrepo other
t 1 'localrepo directory already exists' mkrepo other
t 0 '' --repo="$work/other" images
t 1 'Error: invalid udocker repository' --repo="$work/nothere" images

section images
t 0 '' pull "$image"
t 0 '' pull --platform=linux/arm64 "$registry/test/multi:latest"
t 1 'Error: .*nothere' pull "$registry/test/nothere:1"
t 1 'must specify image:tag' pull A:b:c
t 0 'test/busybox' search -a "$registry/busybox"
t 0 '^latest' search --list-tags "$registry/test/busybox"
t 0 '"layers"' manifest inspect "$image"
t 0 '"manifests"' manifest inspect "$registry/test/multi:latest"
t 1 'Error: ' manifest inspect "$registry/test/nothere:1"
t 0 "$image +\\." images
t 0 "linux/arm64 +\\. $registry/test/multi:latest" images -p
t 0 '\([0-9]+ MB\)' images -l
t 0 '"name"' images --format=json
t 0 '"Cmd"' inspect "$image"
t 0 'image Ok' verify "$image"
t 1 'Error: ' verify nothere:1

section a registry that asks who one is
t 1 'Error: ' login --registry="http://$login" --username=alice --password=wrong
p 0 '' "printf 'secret\n' | \$U login --registry=http://$login --username=alice --password-stdin"
t 1 'Error: .*' pull "$login/test/nothere:1"
t 0 '' logout --registry="http://$login"
t 1 'Error: ' logout --registry="http://$login"

section containers
t 0 '^[0-9a-f]{8}-' create --name=one "$image"
t 1 'container name already exists' create --name=one "$image"
t 1 'invalid container name' create --name=a.b "$image"
t 0 '^[0-9a-f]{8}-' create --force --name=one "$image"
t 0 "\\['one'\\]" ps
t 0 ' N1 |MOD' ps -m -s -p
t 0 '"names"' ps --format=json
t 0 '' name one two
t 0 "'one', 'two'" ps
t 1 'Error: ' name one two
t 0 '' rename two three
t 1 'Error: container does not exist' rename two four
t 0 'container name: three removed' rmname three
t 1 'Error: ' rmname three
t 0 '"Cmd"' inspect one
t 0 'execmode: ' setup one
t 0 '' setup --execmode=N1 one
t 0 'execmode: N1' setup one
t 1 'invalid execmode' setup --execmode=X9 one
t 0 '' setup --purge one
t 0 '' setup --fixperm one

section runs
t 0 '^hello$' run one echo hello
t 0 '^hello$' run --nobanner "$image" echo hello
t 7 '' run one sh -c 'exit 7'
t 143 '' run one sh -c 'kill -TERM $$'
t 125 'image or container not available' run --pull=never nothere:1 true
t 125 'must specify image:tag' run A:b:c true
t 1 'must specify container_id or image:tag' run
t 127 'command not found or has no execute bit set' run one nothere
t 126 'command not found or has no execute bit set' run one /etc/passwd
t 0 '^in data$' run -v "$work" one sh -c "echo in data >'$work/file' && cat '$work/file'"
t 0 '^in data$' run --volume="$work:/data" one cat /data/file
t 0 '^refused$' run -v "$work:/data:ro" one sh -c 'touch /data/no 2>/dev/null || echo refused'
t 0 '^in data$' run --mount "type=bind,src=$work,dst=/data,ro" one cat /data/file
t 125 'invalid host volume path' run -v /nothere:/data one true
t 125 'invalid container volume path' run -v /tmp:/ one true
t 0 '^1$' run --novol=/proc one sh -c 'ls -d /proc/1 2>/dev/null || echo 1'
t 0 '^1$' run --nosysdirs one sh -c 'ls -d /proc/1 2>/dev/null || echo 1'
t 0 '^x=y z$' run -e 'A=x=y z' one sh -c 'echo "$A"'
printf '# a comment\nA=file\nB=file\n' >env
t 0 '^option file$' run -e A=option --env-file=env one sh -c 'echo $A $B'
t 125 'nothere' run --env-file=nothere one true
t 0 '^uid=0\(root\)' run --user=root one id
t 0 '^uid=33.* gid=44' run -u 33:44 one id
t 0 '^new new' run --user=new one sh -c 'echo $USER $LOGNAME'
t 125 'invalid syntax for user' run --user=a.b one true
t 125 'user not found' run --hostauth --user=nothere one true
p 0 . 'test "$($U run --hostauth one cat /etc/passwd)" = "$(cat /etc/passwd)" && echo same'
t 125 'user not found' run --containerauth --user=nothere one true
t 0 '^/etc$' run -w /etc one pwd
t 125 'invalid working directory' run --workdir=/nothere one true
t 0 '^word$' run --entrypoint=/bin/echo one word
t 0 '^word$' run --entrypoint= one echo word
t 0 '/root|/' run --nometa one pwd
t 0 "^$HOME\$" run --bindhome one sh -c 'cd && pwd'
p 0 '^host$' 'MINE=host $U run --hostenv one sh -c "echo \$MINE"'
p 0 '^\[\]$' 'MINE=host $U run one sh -c "echo [\$MINE]"'
t 0 '^one N1 ' run one sh -c 'echo $container_names $container_execmode $container_uuid'
t 0 '^1$' run --cpuset-cpus=0 one nproc
t 0 '' run --dri one true
t 0 '' run --device=/dev/null one sh -c 'echo x >/dev/null'
t 0 'has no effect' run --publish=8080:80 --netcoop one true
t 125 'kernel' run --kernel=4.4 one true
t 0 '^P1$' run --mode=P1 one sh -c 'echo $container_execmode'
t 125 'F1' run --mode=F1 one true
t 0 '^hello$' run -it --rm --net=host "$image" echo hello
t 0 'privileged has no effect' run -d --privileged one true
t 0 '^made$' run --name=four --pull=reuse "$image" sh -c 'echo made >/made; cat /made'
t 0 '^made$' run --name=four --pull=reuse "$image" cat /made
t 125 'container name already exists' run --name=four "$image" true
t 0 '' run --rm four true
t 125 'not available' run --pull=never four true
t 0 '' run --keep "$image" true
t 0 '"argv"' run --platform=linux/arm64 --dry-run "$registry/test/multi:latest" true
t 0 '^hello$' run --pull=always "$image" echo hello
mkdir tree && tar -C tree -xf "$root"
t 0 '^hello$' run --location="$work/tree" name echo hello

section copies
t 0 '^[0-9a-f]{8}-' clone --name=copy one
t 1 'container name already exists' clone --name=copy one
t 0 '' run copy sh -c 'echo copied >/copied'
t 0 '^copied$' run copy cat /copied
t 0 'exporting to file' export -o copy.tar copy
p 0 copied 'tar tf copy.tar'
p 0 copied '$U export - copy | tar tf -'
t 0 'added layer|^$' import copy.tar mine/copy:1
t 0 '^copied$' run mine/copy:1 cat /copied
p 0 '' '$U import - mine/stdin:1 <copy.tar'
t 0 '^[0-9a-f]{8}-' import --tocontainer --name=five copy.tar
t 0 '^copied$' run five cat /copied
t 0 '' export --clone -o clone.tar copy
t 0 '^[0-9a-f]{8}-' import --clone --name=six clone.tar
t 0 '^copied$' run six cat /copied
t 0 '' save -o saved.tar "$image" mine/copy:1
t 1 'output file already exists' save -o saved.tar "$image"
p 0 manifest.json '$U save -o - mine/copy:1 | tar tf -'
t 0 'deleting image' rmi mine/copy:1
t 1 'Error: ' rmi mine/copy:1
p 0 '' '$U save mine/stdin:1 >one.tar'
t 0 'mine/loaded' load -i one.tar mine/loaded
p 0 'mine/again' '$U load - mine/again <one.tar'
t 1 'Error: ' load -i one.tar mine/loaded
t 1 'Error: ' load -i nothere.tar

section protection and the end
p 0 . '$U images -q | grep mine/'
t 0 '' tag "$image" mine/other:1
t 1 'Error: ' tag "$image" mine/other:1
t 0 '' protect mine/other:1
t 0 'mine/other:1 +P' images
t 1 'image repository is protected' rmi mine/other:1
t 0 '' unprotect mine/other:1
t 0 '' rmi mine/other:1
t 0 '' protect one
t 0 ' P W ' ps
t 1 'container is protected' rm one
t 0 '' unprotect one
t 1 'invalid container id' rm nothere one
t 0 '' rm copy five
t 0 '' rm -f six
for id in $("$udocker" ps -q); do t 0 'deleting container' rm "$id"; done
for name in $("$udocker" images -q); do t 0 'deleting image' rmi "$name"; done
p 0 '^2$' '{ $U ps; $U images; } 2>/dev/null | wc -l'
cd .. && rm -rf "$work"
printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
