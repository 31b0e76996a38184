#!/usr/bin/env python3
"""What starting a program asks of the file system that holds the image, told by strace: metadata.py UDOCKER_LAUNCH UDOCKER [PEER]

UDOCKER_LAUNCH and UDOCKER are our programs, PEER is PyPI's udocker (1.3). ch-run is Debian's, on the same root as a directory. All run
Debian's busybox as `cat /data` from an image in /var/tmp. Counted are system calls on paths or descriptors of the store, but for those that
move data (read, write, mmap, …) or only change a descriptor. `before`: up to chroot(2), pivot_root(2) or setns(2); `inside`: from there
to the execve of the program, where paths of the new root count as well: its working directory and the program are looked up;
`program`: from there on, which is what the program itself does.
"""
import os, re, shutil, subprocess, sys, tempfile, time

DATA = {"read", "write", "close", "fcntl", "lseek", "mmap", "pread64", "pwrite64", "dup", "dup2", "ioctl", "getdents_end"}
OPTIONS = ["strace", "-f", "-y", "-s", "512", "-e", "trace=%file,%desc,setns", "-o"]
launch, udocker = (os.path.abspath(path) for path in sys.argv[1:3])
peer = os.path.abspath(sys.argv[3]) if len(sys.argv) > 3 else None
place = tempfile.mkdtemp(prefix="metadata-", dir="/var/tmp")
home, store, root = (os.path.join(place, name) for name in ("home", "store", "root"))
os.mkdir(home)
env = {"USER": "root", "HOME": home, "UDOCKER_DIR": store, "PATH": os.environ["PATH"]}
program = ["/bin/busybox", "cat", "/data"]


def run(*words, **more):
    subprocess.run(words, check=True, env={**env, **more}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def counted(log):
    """Calls on the image or the store: before its root is entered, inside before the program's execve, and after it."""
    calls = [line.split(None, 1)[1] for line in open(log, errors="replace") if not line.split(None, 1)[1].startswith(("+++", "---"))]
    is_program = lambda call: call.startswith('execve("') and '"/bin/busybox"' in call and "= 0" in call
    last = max((at for at, call in enumerate(calls) if is_program(call)), default=len(calls))
    inside, covered, counts = False, False, [0, 0, 0]
    for at, call in enumerate(calls):
        name = call.split("(", 1)[0]
        # Where an image lacks a mount's target, our root is a tmpfs with the tree below it: that one is asked from here on.
        covered = covered or name == "mkdirat" and bool(re.search(r'/rootfs/1/[0-9a-f]+/root>, "root"', call))
        shown = [text for text in re.findall(r'[<"](/[^">]*)[">]', call) if place in text]
        if covered and shown and all(re.search(r"/rootfs/1/[0-9a-f]+/root(/cover.*)?$", text) for text in shown):
            continue
        inside = inside or name in ("chroot", "pivot_root", "setns")
        path = re.search(r'"(/[^"]*)"', call)
        is_image = path and inside and not path[1].startswith(("/proc", "/sys", "/dev"))
        if name.isidentifier() and name not in DATA and (place in call and home not in call or is_image):
            counts[2 if at > last else 1 if inside else 0] += 1
    return counts


def traced(name, *words, **more):
    log = os.path.join(place, name + ".log")
    subprocess.run([*OPTIONS, log, *words], check=True, env={**env, **more}, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return counted(log)


def rows():
    yield "udocker-launch, a node's first rank", traced("first", launch, "bb:1", *program, PMIX_NAMESPACE="b", PMIX_RANK="0")
    holder = subprocess.Popen([launch, "bb:1", "/bin/busybox", "sleep", "30"], env={**env, "PMIX_NAMESPACE": "c", "PMIX_RANK": "0"})
    time.sleep(1)
    yield "udocker-launch, each further rank", traced("further", launch, "bb:1", *program, PMIX_NAMESPACE="c", PMIX_RANK="1")
    holder.kill()
    holder.wait()
    yield "udocker run IMAGE (ours)", traced("ours", udocker, "--allow-root", "run", "bb:1", *program)
    if peer:
        engine = {"UDOCKER_USE_PROOT_EXECUTABLE": "/bin/true"}
        run(udocker, "--allow-root", "install")
        run(peer, "--allow-root", "create", "--name=work", "bb:1", **engine)
        # PRoot cannot trace what is traced, so what it asks for each path of the program is not in the count.
        yield "udocker 1.3 run CONTAINER, up to PRoot", traced("peer", peer, "--allow-root", "run", "work", *program, **engine)
        yield "udocker 1.3 run IMAGE, up to PRoot", traced("image", peer, "--allow-root", "run", "bb:1", *program, **engine)
    if shutil.which("ch-run"):
        yield "ch-run DIRECTORY", traced("chrun", "ch-run", root, "--", *program)


try:
    for name in ("bin", "dev", "proc", "sys", "tmp", "etc", "home", "root", "usr/bin", "var/tmp"):
        os.makedirs(os.path.join(root, name))
    shutil.copy("/bin/busybox", os.path.join(root, "bin"))
    open(os.path.join(root, "data"), "w").close()
    for name in ("passwd", "group", "hosts", "resolv.conf", "machine-id"):
        open(os.path.join(root, "etc", name), "w").close()
    run("tar", "-C", root, "-cf", os.path.join(place, "root.tar"), ".")
    run(udocker, "--allow-root", "import", os.path.join(place, "root.tar"), "bb:1")
    told = "not installed"
    if shutil.which("ch-run"):
        told = subprocess.run(["ch-run", "--version"], capture_output=True, text=True, env=env)
        told = (told.stdout + told.stderr).split()[-1]
    print(f"metadata operations on the image's file system; ch-run: {told}; udocker 1.3: {peer and 'yes' or 'not given'}")
    print(f"{'':42}{'before':>8}{'inside':>8}{'program':>9}")
    for what, (before, within, after) in rows():
        print(f"{what:42}{before:>8}{within:>8}{after:>9}")
finally:
    shutil.rmtree(place, ignore_errors=True)
