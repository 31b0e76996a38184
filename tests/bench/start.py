#!/usr/bin/env python3
"""Start-up: what `true` in a container costs, ours and others', against a floor program with the same mounts.

usage: start.py BIN-DIR ROUNDS        BIN-DIR has udocker, udocker-launch and enter (an example of core); gcc, strace

All commands run in turn, ROUNDS times, those that join a container so many times in a row as a node has ranks that come
together (16); CPU is user + system of the process and its children. Ratios within one run count,
milliseconds do not. The mounts of the floor are read from our own plans; strace counts both. What is not installed is
named. As root and as an ordinary user the figures differ little; both are kept in results/.
"""
import json, os, re, resource, shutil, statistics, subprocess, sys, tempfile, time

BIN, ROUNDS = os.path.abspath(sys.argv[1]), int(sys.argv[2])
HERE = os.path.dirname(os.path.abspath(__file__))
W = tempfile.mkdtemp(prefix="udocker-bench-")
os.chmod(W, 0o755)
ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "USER": "bench", "HOME": f"{W}/home", "UDOCKER_DIR": f"{W}/store"}
TRUE = "/bin/true"


def build():
    """The floor, a static `true`, a root with every mount point, and that root as an image of a fresh store."""
    os.makedirs(f"{W}/home")
    true = "int main(void) { return 0; }"
    subprocess.run(["gcc", "-O2", "-static", "-x", "c", "-o", f"{W}/true", "-"], input=true, text=True, check=True)
    pause = "#include <unistd.h>\nint main(void) { return pause(); }"
    subprocess.run(["gcc", "-O2", "-static", "-x", "c", "-o", f"{W}/pause", "-"], input=pause, text=True, check=True)
    for name in ["floor", "join"]:
        subprocess.check_call(["gcc", "-O2", "-static", "-o", f"{W}/{name}", f"{HERE}/{name}.c"])
    root = f"{W}/root"
    for name in ["bin", "dev", "proc", "sys", "tmp", "run", "mnt", "etc", "var/tmp", f"{W}/home".lstrip("/"),
                 *(f"m{i}" for i in range(10))]:
        os.makedirs(f"{root}/{name}")
    for name in ["resolv.conf", "host.conf", "hosts", "passwd", "group", "nsswitch.conf", "localtime"]:
        open(f"{root}/etc/{name}", "w").close()
    shutil.copy(f"{W}/true", f"{root}{TRUE}")
    shutil.copy(f"{W}/pause", f"{root}/bin/pause")
    subprocess.check_call(["tar", "-C", root, "-cf", f"{W}/root.tar", "."])
    subprocess.run([f"{BIN}/udocker", "--allow-root", "-q", "import", f"{W}/root.tar", "bench:1"], env=ENV, check=True)
    subprocess.run(RUN["udocker-launch, read-only"], env=ENV, check=True, cwd="/")


TOGETHER = 16
# A rank of the step whose first rank stays for as long as this runs.
RANK = {"PMIX_NAMESPACE": f"bench-{os.getpid()}", "PMIX_RANK": "1"}
JOINING = "udocker-launch, joining"
LAUNCH = [f"{BIN}/udocker-launch", "--workdir=/"]
RUN = {
    "udocker-launch, read-only": [*LAUNCH, "bench:1", TRUE],
    "udocker-launch, overlay": [*LAUNCH, "--write=tmpfs", "bench:1", TRUE],
    "udocker run, overlay": [f"{BIN}/udocker", "--allow-root", "run", "bench:1", TRUE],
    "udocker run, read-only": [f"{BIN}/udocker", "--allow-root", "run", "--write=none", "bench:1", TRUE],
}


def plan(argv):
    """Our plan for a command, as arguments of the floor (and of bwrap)."""
    dry = [*argv]
    if argv[0].endswith("udocker-launch"):
        dry.insert(1, "--dry-run")
    else:
        dry[dry.index("run") + 1:dry.index("run") + 1] = ["--dry-run"]
    plan = json.loads(subprocess.check_output(dry, env=ENV, cwd="/"))
    mounts = []
    for mount in plan["mounts"]:
        source, target = mount["source"], mount["target"]
        if "tmpfs" in source:
            mounts.append(f"t:{target}")
        elif os.path.exists(source["bind"]["path"]) and os.path.lexists(f"{W}/root{target}"):
            mounts.append(f"b:{source['bind']['path']}:{target}")
    for file in plan["files"]:
        mounts.append(f"f:{file['target']}:{file['content']}")
    return mounts


def commands():
    tree = json.loads(subprocess.check_output([LAUNCH[0], "--dry-run", *LAUNCH[1:], "bench:1", TRUE], env=ENV))["root"]["tree"]
    cases = {}
    binds = ["b:/dev:/dev", *(f"b:/usr/share:/m{i}" for i in range(9))]
    enter = ["--bind=/dev:/dev", *(f"--bind=/usr/share:/m{i}" for i in range(9))]
    for shape, name in [("ro", "read-only"), ("overlay", "tmpfs=67108864")]:
        cases[f"floor, {shape}, 10 binds"] = [f"{W}/floor", tree, shape, *binds, "--", TRUE]
        cases[f"N1 engine, {shape}, 10 binds"] = [f"{BIN}/enter", tree, name, *enter, "--", TRUE]
    for name, argv in RUN.items():
        shape = "ro" if "read-only" in name else "overlay"
        cases[f"floor of {name}"] = [f"{W}/floor", tree, shape, *plan(argv), "--", TRUE]
        cases[name] = argv
    leader = subprocess.Popen([*LAUNCH, "bench:1", "/bin/pause"], env={**ENV, **RANK, "PMIX_RANK": "0"}, cwd="/")
    while not os.readlink(f"/proc/{leader.pid}/exe").endswith("pause"):
        time.sleep(0.01)
    cases["floor of joining"] = [f"{W}/join", str(leader.pid), TRUE]
    cases[JOINING] = [*LAUNCH, "bench:1", TRUE]
    peer_binds = [m[2:].split(":") for m in plan(RUN["udocker run, read-only"]) if m[0] == "b"]
    cases["bwrap"] = ["bwrap", "--unshare-user", "--ro-bind", tree, "/",
                      *(word for source, target in peer_binds for word in ("--dev-bind", source, target)), TRUE]
    cases["ch-run"] = ["ch-run", tree, "--", TRUE]
    for runtime in ["crun", "runc"]:
        if shutil.which(runtime, path=ENV["PATH"]):
            bundle = f"{W}/{runtime}"
            os.makedirs(bundle)
            subprocess.check_call([runtime, "spec", "--rootless"], cwd=bundle)
            spec = json.load(open(f"{bundle}/config.json"))
            spec["root"] = {"path": tree, "readonly": True}
            spec["process"].update(args=[TRUE], terminal=False, cwd="/")
            spec["mounts"] = [m for m in spec["mounts"] if m["destination"] in ("/proc", "/dev", "/sys")]
            spec["mounts"] += [{"destination": t, "type": "none", "source": s, "options": ["rbind"]}
                               for s, t in peer_binds if t not in ("/proc", "/dev", "/sys")]
            json.dump(spec, open(f"{bundle}/config.json", "w"))
            state = f"{W}/{runtime}-state"
            cases[runtime] = [runtime, f"--root={state}", "run", f"--bundle={bundle}", f"bench-{os.getpid()}"]
        else:
            cases[runtime] = [runtime]
    return cases, leader


def environment(name):
    return {**ENV, **RANK} if name == JOINING else ENV


def run(name, argv):
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    pid = os.posix_spawnp(argv[0], argv, environment(name))
    status = os.waitpid(pid, 0)[1]
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return status, wall * 1e3, cpu * 1e3


def calls(name, argv):
    """How often the mount calls and all calls are made until the payload runs."""
    trace = f"{W}/trace"
    subprocess.run(["strace", "-f", "-qq", "-o", trace, *argv], env=environment(name), check=True, cwd="/")
    text = open(trace).read()
    names = re.findall(r"^\d+ +(\w+)\(", text, re.M)
    attached = sum(names.count(name) for name in ("mount", "move_mount"))
    return attached, len(names)


def instructions(argv):
    """User-space instructions up to an exec that fails (callgrind tells nothing of a process that execs)."""
    if not shutil.which("valgrind", path=ENV["PATH"]):
        return "valgrind is not installed"
    argv = [*argv[:-1], "/nothere"]
    out = subprocess.run(["valgrind", "--vgdb=no", "--tool=callgrind", "--callgrind-out-file=/dev/null", *argv], env=ENV,
                         stderr=subprocess.PIPE, text=True, cwd="/")
    found = re.findall(r"Collected : (\d+)", out.stderr)
    return f"{int(found[0]):,}" if found else f"valgrind failed: {out.stderr[-200:]}"


def main():
    os.chdir("/")
    build()
    cases, leader = commands()
    missing = []
    for name, argv in list(cases.items()):
        if not shutil.which(argv[0], path=ENV["PATH"]):
            missing.append(f"{name}: not installed")
            del cases[name]
            continue
        status = run(name, argv)[0]
        if status:
            missing.append(f"{name}: failed with wait status {status}")
            del cases[name]
    results = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, argv in cases.items():
            for _ in range(TOGETHER if "joining" in name else 1):
                status, wall, cpu = run(name, argv)
                assert status == 0, (name, status)
                results[name].append((wall, cpu))
    version = os.uname()
    print(f"# {version.sysname} {version.release} {version.machine}, {os.cpu_count()} cores, uid {os.getuid()}, {ROUNDS} rounds in turn")
    print(f"{'command':42} {'CPU ms':>8} {'x floor':>8} {'wall ms median':>15} {'min':>7} {'mounts':>7} {'calls':>6}")
    floor = None
    for name, list_ in results.items():
        cpu = statistics.mean(cpu for _, cpu in list_)
        if name.startswith("floor"):
            floor = cpu
        walls = [wall for wall, _ in list_]
        mounts, all_ = calls(name, cases[name])
        print(f"{name:42} {cpu:8.3f} {cpu / floor:8.2f} {statistics.median(walls):15.3f} {min(walls):7.3f} {mounts:7} {all_:6}")
    for line in missing:
        print(line)
    print("instructions (callgrind, user space, up to an exec that fails, with its message):")
    for name, argv in cases.items():
        if argv[0].startswith((BIN, W)) and "joining" not in name:
            print(f"  {name:40} {instructions(argv)}")
    leader.kill()
    if not os.environ.get('KEEP'): shutil.rmtree(W, ignore_errors=True)


if __name__ == "__main__":
    main()
