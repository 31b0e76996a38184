"""An interactive bash on a terminal: jobs are stopped, continued, brought back and ended by the keys of the terminal."""
import os, pty, re, select, sys, time

LIMIT = 60
pid, terminal = pty.fork()
if pid == 0:
    os.environ.update(PS1="READY ", PS2="", TERM="dumb", HISTFILE="")
    os.execv("/bin/bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"])
pending = b""


def until(pattern):
    """Waits for the pattern and returns what came before and with it."""
    global pending
    since = time.monotonic()
    while not (found := re.search(pattern, pending)):
        if time.monotonic() - since > LIMIT:
            sys.exit(f"{pattern} did not come after {pending}")
        if select.select([terminal], [], [], 1)[0]:
            pending += os.read(terminal, 4096)
    text, pending = pending[:found.end()], pending[found.end():]
    return text


def say(keys, pattern=rb"READY "):
    os.write(terminal, keys)
    text = until(pattern).decode().replace("\r", "")
    # Numbers of processes are not the same each time.
    print(repr(re.sub(r"\b\d{2,}\b", "PID", text)))


def foreground(name):
    """Waits until a program of this name has the terminal."""
    since = time.monotonic()
    while True:
        try:
            if open(f"/proc/{os.tcgetpgrp(terminal)}/comm").read().strip() == name:
                return
        except FileNotFoundError:
            pass
        if time.monotonic() - since > LIMIT:
            sys.exit(f"{name} does not get the terminal")
        time.sleep(0.01)


until(rb"READY ")
say(b"stty -echo; set +o history\n")
say(b"echo begun\n")
os.write(terminal, b"cat\n")
foreground("cat")
say(b"\x1a", rb"Stopped.*\n(.|\n)*READY ")
say(b"jobs -r | wc -l; jobs -s | wc -l\n")
os.write(terminal, b"fg >/dev/null\n")
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
os.write(terminal, b"exit 8\n")
print("ended", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
