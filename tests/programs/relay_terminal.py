"""A shell on a terminal, by the words given, from which srun is stopped, continued and interrupted by the terminal's keys,
and told of its window's size. What it prints is the same in a container and on a node."""
import fcntl, os, pty, re, select, struct, sys, termios, time

LIMIT = 30
pid, terminal = pty.fork()
if pid == 0:
    os.environ.update(TERM="dumb", HISTFILE="")
    os.execvp(sys.argv[1], [*sys.argv[1:], "bash", "--norc", "--noprofile", "--noediting", "-i"])
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
    # Numbers of processes and steps are not the same each time, and shells of several releases have columns of their own.
    print(repr(re.sub(" {2,}", " ", re.sub(r"\b\d{2,}(\.\d+)?\b", "N", text))), flush=True)


def resize(rows, columns):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


resize(31, 101)
os.write(terminal, b"PS1='REA''DY '; stty -echo; set +o history\n")
until(rb"READY ")
say(b"stty size\n")
say(b"srun --overlap -n1 sh -c 'echo begun; read word; echo got $word'\n", rb"begun\r?\n")
time.sleep(0.5)
say(b"\x1a", rb"Stopped(.|\n)*READY ")
say(b"jobs -s | wc -l; jobs -r | wc -l\n")
os.write(terminal, b"fg >/dev/null\n")
time.sleep(1)
say(b"a word\n", rb"got a word(.|\n)*READY ")
waits = b"srun -Q --overlap -n1 sh -c 'echo begun; sleep 100' 2>/dev/null; echo status $?\n"
say(waits, rb"begun\r?\n")
time.sleep(0.5)
os.write(terminal, b"\x03")
time.sleep(0.3)
say(b"\x03", rb"status \d+\r?\n(.|\n)*READY ")
say(b"srun --overlap -n1 --pty bash -c 'trap \"stty size; exit 5\" WINCH; stty size; while :; do sleep 0.1; done'; echo $?\n", rb"31 101\r?\n")
resize(17, 77)
say(b"", rb"\n\d+\r?\n(.|\n)*READY ")
say(b"stty size; stty -a | grep -c isig\n")
os.write(terminal, b"exit 8\n")
print("ended", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
