#!/usr/bin/env python3
"""Runs udocker for a golden test, and prints what it printed with all that differs between machines replaced.

GOLDEN_DIRECTORY is the test's, GOLDEN_REGISTRY a registry; in the words and in the output they are $DIR and $REGISTRY.
GOLDEN_UID runs it; with GOLDEN_TERMINAL all three streams are a terminal of 100 columns, on which ^D is typed.
"""
import fcntl, os, pty, re, signal, struct, subprocess, sys, termios

directory, registry = os.environ["GOLDEN_DIRECTORY"], os.environ["GOLDEN_REGISTRY"]
uid = os.environ.get("GOLDEN_UID")
words = [word.replace("$DIR", directory).replace("$REGISTRY", registry) for word in sys.argv[1:]]
options = {"env": {"HOME": directory + "/home", "UDOCKER_DIR": directory + "/store", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                   "TERM": "dumb", "USER": "tester"}, "cwd": directory + "/work"}
if uid:
    options |= {"user": int(uid), "group": int(uid), "extra_groups": []}
command = [os.environ["GOLDEN_PROGRAM"], "--allow-root", *words]
if os.environ.get("GOLDEN_TERMINAL"):
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    own = lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    child = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
                             preexec_fn=own, **options)
    os.close(terminal)
    os.write(master, b"\x04")
    output = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        output += part
    output = output.replace(b"\r\n", b"\n")
else:
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    output = child.stdout.read()
status = child.wait()
text = output.decode(errors="replace")
for pattern, replacement in [
    (re.escape(directory), "$DIR"),
    (re.escape(registry), "$REGISTRY"),
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "00000000-0000-4000-8000-000000000000"),
    (r"\bsha256:[0-9a-f]{64}\b", "sha256:DIGEST"),
    (r"\b[0-9a-f]{32,64}\b", "HEX"),
    (r"\b\d+\.\d+ (s|[KMGT]iB)\b", r"N \1"),
    (r"\b\d{4}-\d\d-\d\dT[0-9:.]+Z", "TIME"),
    (r"\b\d+ entries", "N entries"),
    (r"\(\d+ MB\)", "(N MB)"),
    (r'"(bytes|size)": \d+', r'"\1": N'),
    (rf"(?<=[-/]){uid or os.getuid()}\b", "$UID"),
    (r"^version: .*", "version: VERSION"),
]:
    text = re.sub(pattern, replacement, text, flags=re.M)
sys.stdout.write(text)
sys.exit(status if status >= 0 else 128 - status)
