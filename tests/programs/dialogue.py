"""A program on a terminal of its own: keys are typed, and what comes is waited for."""
import os, pty, re, select, sys, time


class Dialogue:
    def __init__(self, words, env, limit):
        self.limit, self.pending = limit, b""
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.environ.update(env)
            os.execvp(words[0], words)

    def until(self, pattern, insist=b""):
        """Waits for the pattern and returns what came before and with it; types `insist` now and then."""
        since = time.monotonic()
        while not (found := re.search(pattern, self.pending)):
            if time.monotonic() - since > self.limit:
                sys.exit(f"{pattern} did not come after {self.pending}")
            if select.select([self.terminal], [], [], 0.4)[0]:
                self.pending += os.read(self.terminal, 4096)
            elif insist:
                self.type(insist)
        text, self.pending = self.pending[:found.end()], self.pending[found.end():]
        return text

    def type(self, keys):
        os.write(self.terminal, keys)

    def say(self, keys, pattern=rb"READY ", insist=b""):
        """Types keys, waits for the pattern, and prints what came, without numbers that are not the same each time."""
        self.type(keys)
        text = self.until(pattern, insist).decode().replace("\r", "")
        print(repr(re.sub(" {2,}", " ", re.sub(r"\b\d{2,}(\.\d+)?\b", "NUMBER", text))), flush=True)

    def end(self):
        print("ended", os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]))
