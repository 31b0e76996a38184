"""A shell on a terminal, by the words given, from which srun is stopped, continued and interrupted by the terminal's keys,
and told of its window's size. What it prints is the same in a container and on a node."""
import fcntl, struct, sys, termios, time

sys.dont_write_bytecode = True
from dialogue import Dialogue

shell = Dialogue([*sys.argv[1:], "bash", "--norc", "--noprofile", "--noediting", "-i"], dict(TERM="dumb", HISTFILE=""), 30)
say = shell.say


def resize(rows, columns):
    fcntl.ioctl(shell.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


resize(31, 101)
shell.type(b"PS1='REA''DY '; stty -echo; set +o history\n")
shell.until(rb"READY ")
say(b"stty size\n")
say(b"srun --overlap -n1 sh -c 'echo begun; read word; echo got $word'\n", rb"begun\r?\n")
time.sleep(0.5)
say(b"\x1a", rb"Stopped(.|\n)*READY ")
say(b"jobs -s | wc -l; jobs -r | wc -l\n")
shell.type(b"fg >/dev/null\n")
time.sleep(1)
say(b"a word\n", rb"got a word(.|\n)*READY ")
waits = b"srun -Q --overlap -n1 sh -c 'echo begun; sleep 100' 2>/dev/null; echo status $?\n"
say(waits, rb"begun\r?\n")
# Two within a second end it, and two that come at once are one.
say(b"\x03", rb"status \d+\r?\n(.|\n)*READY ", insist=b"\x03")
say(b"srun --overlap -n1 --pty bash -c 'trap \"stty size; exit 5\" WINCH; stty size; while :; do sleep 0.1; done'; echo $?\n", rb"31 101\r?\n")
resize(17, 77)
say(b"", rb"\n\d+\r?\n(.|\n)*READY ")
say(b"stty size; stty -a | grep -c isig\n")
shell.type(b"exit 8\n")
shell.end()
