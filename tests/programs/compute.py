"""Python with compiled modules, threads, processes of each start method, and programs that it starts. Prints the same
lines each time."""
import asyncio, concurrent.futures, hashlib, multiprocessing, os, signal, socket, sqlite3, subprocess, sys, tempfile, threading
import numpy, scipy.linalg, scipy.optimize


def square(n):
    os.stat("/etc/passwd")
    return n * n


def look(_):
    """What each thread does 300 times: one file that is there, one that is not."""
    seen = 0
    for n in range(300):
        with open("/etc/debian_version") as file:
            seen += file.read().startswith("12")
        try:
            os.stat(f"/no/such/{n}")
        except FileNotFoundError:
            seen += 1
    return seen


async def many():
    async def one(n):
        child = await asyncio.create_subprocess_exec("/bin/echo", str(n), stdout=subprocess.PIPE)
        return int((await child.communicate())[0])
    return sum(await asyncio.gather(*(one(n) for n in range(20))))


def timer():
    """A timer of 1 kHz beside system calls and programs."""
    ticks = 0

    def tick(_number, _frame):
        nonlocal ticks
        ticks += 1
        os.stat("/usr")
    signal.signal(signal.SIGALRM, tick)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    texts = {subprocess.run(["/bin/sh", "-c", "cat /etc/debian_version | wc -l"], capture_output=True).stdout for _ in range(10)}
    while ticks < 20:
        os.stat("/etc")
    signal.setitimer(signal.ITIMER_REAL, 0)
    return texts


def sockets():
    """A socket with a name in the file system, from one process to another."""
    path = tempfile.mktemp(dir="/tmp")
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    if os.fork() == 0:
        client = socket.socket(socket.AF_UNIX)
        client.connect(path)
        client.sendall(b"through a socket")
        os._exit(0)
    connection = server.accept()[0]
    text = connection.recv(100)
    os.wait()
    os.unlink(path)
    return text


def main():
    matrix = numpy.arange(64.0).reshape(8, 8) + 20 * numpy.eye(8)
    print("determinant", round(float(scipy.linalg.det(matrix) / 1e11), 6))
    print("minimum", scipy.optimize.minimize_scalar(lambda x: (x - 2) ** 2 + 1).x > 1.999)
    print("product", int((numpy.ones((400, 400)) @ numpy.ones((400, 400))).sum()))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        print("threads", sum(pool.map(look, range(8))))
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(3) as pool:
            print(method, sum(pool.map(square, range(50))))
    print("asyncio", asyncio.run(many()))
    print("timer", timer())
    print("socket", sockets())
    with tempfile.TemporaryDirectory() as directory:
        database = sqlite3.connect(directory + "/data")
        database.execute("create table t (n)")
        database.executemany("insert into t values (?)", ((n,) for n in range(1000)))
        database.commit()
        print("sqlite", database.execute("select sum(n) from t").fetchone())
    big = ["x" * 100_000 for _ in range(11)]
    child = subprocess.run([sys.executable, "-c", "import sys; print(sum(map(len, sys.argv)))", *big], capture_output=True, text=True)
    print("arguments", child.stdout.strip())
    program = os.open("/bin/echo", os.O_RDONLY)
    if os.fork() == 0:
        sys.stdout.flush()
        os.execve(program, ["echo", "by descriptor"], os.environ)
    os.wait()
    print("died", subprocess.run(["/bin/sh", "-c", "kill -SEGV $$"]).returncode)
    print("listing", hashlib.sha256("".join(sorted(os.listdir("/usr/bin"))).encode()).hexdigest())
    print("executable", sys.executable, os.path.realpath("/proc/self/exe"), os.getcwd())
    print("done")


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    main()
