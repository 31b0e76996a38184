"""An interactive bash on a terminal: jobs are stopped, continued, brought back and ended by the keys of the terminal."""
import os, sys, time

sys.dont_write_bytecode = True
from dialogue import Dialogue

LIMIT = 60
shell = Dialogue(["bash", "--norc", "--noprofile", "--noediting", "-i"], dict(PS1="READY ", PS2="", TERM="dumb", HISTFILE=""), LIMIT)
say = shell.say


def foreground(name):
    """Waits until a program of this name has the terminal."""
    since = time.monotonic()
    while True:
        try:
            if open(f"/proc/{os.tcgetpgrp(shell.terminal)}/comm").read().strip() == name:
                return
        except FileNotFoundError:
            pass
        if time.monotonic() - since > LIMIT:
            sys.exit(f"{name} does not get the terminal")
        time.sleep(0.01)


shell.until(rb"READY ")
say(b"stty -echo; set +o history\n")
say(b"echo begun\n")
shell.type(b"cat\n")
foreground("cat")
say(b"\x1a", rb"Stopped.*\n(.|\n)*READY ")
say(b"jobs -r | wc -l; jobs -s | wc -l\n")
shell.type(b"fg >/dev/null\n")
foreground("cat")
say(b"through cat\n", rb"through cat\r?\n")
say(b"\x04")
say(b"sleep 100 &\n", rb"\[1\](.|\n)*READY ")
say(b"kill -STOP %1; until jobs -s | grep -q sleep; do :; done; echo stopped\n", rb"stopped\r?\n(.|\n)*READY ")
say(b"bg %1 >/dev/null; until jobs -r | grep -q sleep; do :; done; echo runs\n", rb"runs\r?\n(.|\n)*READY ")
say(b"kill %1; wait %1; echo status $?\n", rb"status \d+\r?\n(.|\n)*READY ")
say(b"sh -c 'trap \"echo caught; exit 4\" INT; echo set; while :; do sleep 0.05; done'; echo status $?\n", rb"set\r?\n")
say(b"\x03", rb"status \d+\r?\n(.|\n)*READY ")
say(b"(sleep 0.2; exit 6) & wait $!; echo status $?\n", rb"status \d+\r?\n(.|\n)*READY ")
say(b"seq 3 | head -n 2 | tail -n 1; echo ${PIPESTATUS[*]:1}\n")
shell.type(b"exit 8\n")
shell.end()
