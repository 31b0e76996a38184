#!/bin/bash
# Job control without a terminal, traps, time limits, process groups, named pipes, substitutions.
set -m
# Bash tells of jobs by their numbers, which are others each time.
exec 2>/tmp/said
sleep 100 &
kill -STOP %1; until jobs -s | grep -q sleep; do :; done; echo stopped
kill -CONT %1; until jobs -r | grep -q sleep; do :; done; echo continued
kill %1; wait %1; echo "status $?"
(trap 'echo caught; exit 5' TERM; echo ready >/tmp/ready; while :; do sleep 0.05; done) &
until [ -e /tmp/ready ]; do :; done
kill -TERM %%; wait $!; echo "status $?"
timeout 0.3 sleep 5; echo "timeout $?"
timeout -s KILL 0.3 sh -c 'trap "" TERM; sleep 5'; echo "timeout $?"
pids=(); for n in 1 2 3 4 5 6 7 8; do (exit $n) & pids+=($!); done
sum=0; for job in "${pids[@]}"; do wait "$job"; sum=$((sum + $?)); done; echo "sum $sum"
mkfifo /tmp/pipe; (echo through a pipe >/tmp/pipe) & cat /tmp/pipe; wait
diff <(seq 1 5) <(seq 1 6); echo "diff $?"
exec 9>/tmp/lock; flock 9; flock -n /tmp/lock true; echo "locked $?"; exec 9>&-
coproc cat; echo through cat >&"${COPROC[1]}"; read -r line <&"${COPROC[0]}"; echo "$line"; kill "$COPROC_PID"; wait "$COPROC_PID" 2>/dev/null
(kill -STOP $BASHPID; echo lives again) & pid=$!
until jobs -s | grep -q lives; do :; done
# Bash may still take it for stopped, and then tells that.
kill -CONT $pid; until wait $pid; do :; done; echo over
trap 'interrupted=yes' USR1; (until [ -e /tmp/seen ]; do kill -USR1 $$; sleep 0.1; done) & pinger=$!
sleep 100 & sleeper=$!; wait $sleeper; echo "wait $(($? > 128)) $interrupted"
touch /tmp/seen; until wait $pinger; do :; done; kill $sleeper; wait $sleeper
read -r comm </proc/self/comm; echo "$comm"; tr '\0' ' ' </proc/$$/cmdline; echo
ulimit -c 0; sh -c 'kill -ABRT $$'; echo "status $?"
grep -v -E 'Killed|Terminated|Aborted' /tmp/said
exec -a other sh -c 'echo "$0"; exit 12'
