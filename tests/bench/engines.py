#!/usr/bin/env python3
"""Programs under the engines of the P modes: CPU against the native engine's, and against PRoot's.

usage: engines.py BIN-DIR ROUNDS ROOT [PROOT-ROOT]
       BIN-DIR has enter and ptrace (examples of core); ROOT is that of tests/images/programs.sh, PROOT-ROOT that of
       tests/images/proot.sh; /usr/bin/proot is Debian's

All commands run in turn, ROUNDS times. CPU is user + system of the engine and everything it ran. A ratio is the median of
those within the rounds; milliseconds are medians, and say nothing by themselves on a shared machine. What an engine printed is
compared with what the native one did. As root, everything runs as an ordinary user.
"""
import hashlib, os, resource, shutil, statistics, subprocess, sys, tempfile

BIN, ROUNDS, ROOT = os.path.abspath(sys.argv[1]), int(sys.argv[2]), os.path.abspath(sys.argv[3])
PROOT = os.path.abspath(sys.argv[4]) if len(sys.argv) > 4 else None
USER = 1234
W = tempfile.mkdtemp(prefix="udocker-bench-")
TMP, PROGRAMS = f"{W}/tmp", f"{W}/programs"
BUDGETS = {"find": 12, "ls": 12, "stat": 12}

WORKLOADS = {
    "start": ["/bin/true"],
    "find": ["find", "/usr/lib", "-newer", "/etc/hostname", "-name", "none"],
    "ls": ["ls", "-lnR", "/usr/share"],
    "stat": ["python3", "-c", "import os\nfor n in range(20000): os.stat('/usr/lib/python3/dist-packages')"],
    "gcc": ["sh", "-c", "for n in 1 2 3; do gcc -O1 -o /tmp/out -x c /tmp/hello.c; done"],
    "import": ["python3", "-c", "import numpy"],
    "sh": ["sh", "-c", "n=0; while [ $n -lt 60 ]; do /bin/true; n=$((n + 1)); done"],
}


def binds(option):
    return [word for pair in (("/dev", "/dev"), ("/proc", "/proc"), ("/sys", "/sys"), (TMP, "/tmp")) for word in option(*pair)]


def engines():
    ours = binds(lambda source, target: [f"--bind={source}:{target}"])
    theirs = binds(lambda source, target: ["-b", f"{source}:{target}"])
    yield "native (N1)", {}, [f"{PROGRAMS}/enter", ROOT, "read-only", f"--id={uid()}:{uid()}", *ours, "--env=HOME=/tmp", "--"]
    yield "ptrace (P2)", {}, [f"{PROGRAMS}/ptrace", ROOT, "--ro", *ours, "--env=HOME=/tmp", "--"]
    # 5.4 is built without the filter and does not know it.
    if os.path.exists("/usr/bin/proot"):
        yield "PRoot of Debian 12", {}, ["/usr/bin/proot", "-r", ROOT, "-w", "/", *theirs]
    if PROOT:
        libraries = f"{PROOT}/usr/lib/x86_64-linux-gnu"
        program = [f"{libraries}/ld-linux-x86-64.so.2", "--library-path", libraries, f"{PROOT}/usr/bin/proot"]
        yield "PRoot 5.4 of Debian", {"PROOT_NO_SECCOMP": "1"}, [*program, "--kill-on-exit", "-r", ROOT, "-w", "/", *theirs]


def uid():
    return USER if os.geteuid() == 0 else os.geteuid()


def run(environment, argv):
    """Milliseconds of CPU, status and a digest of what it printed."""
    who = {"user": USER, "group": USER, "extra_groups": []} if os.geteuid() == 0 else {}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(argv, env={"PATH": "/bin:/usr/bin", "HOME": "/tmp", **environment}, cwd="/", stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=300, **who)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu * 1000, done.returncode, hashlib.sha256(done.stdout).hexdigest()


def main():
    os.chmod(W, 0o755)
    os.mkdir(PROGRAMS)
    os.mkdir(TMP)
    os.chmod(TMP, 0o1777)
    for name in ("enter", "ptrace"):
        shutil.copy(f"{BIN}/{name}", PROGRAMS)
    with open(f"{TMP}/hello.c", "w") as file:
        file.write('#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n')
    known = list(engines())
    print(f"{ROUNDS} rounds as uid {uid()}, kernel {os.uname().release}, {os.cpu_count()} cores; engines:")
    for name, environment, _ in known:
        print("  " + " ".join([f"{variable}={value}" for variable, value in environment.items()] + [name]))
    results = {}
    for round in range(ROUNDS + 1):
        for workload, words in WORKLOADS.items():
            for name, environment, argv in known:
                result = run(environment, [*argv, *words])
                # The first fills caches.
                if round:
                    results.setdefault((workload, name), []).append(result)
    native = known[0][0]
    print(f"\n{'':8}{'native ms':>10}" + "".join(f"{name:>22}" for name, _, _ in known[1:]))
    for workload in WORKLOADS:
        reference = results[workload, native]
        line = f"{workload:8}{statistics.median(cpu for cpu, _, _ in reference):10.1f}"
        for name, _, _ in known[1:]:
            own = results[workload, name]
            ratios = [cpu / base for (cpu, _, _), (base, _, _) in zip(own, reference)]
            wrong = "" if own[0][1:] == reference[0][1:] else f" exit {own[0][1]}" if own[0][1] else " differs"
            line += f"{statistics.median(ratios):11.2f}×{wrong:>10}"
        print(line)
    print("\nP2 of each PRoot (budget 0.7 of Debian 12's), and of native (budget 12 on metadata):")
    for workload in WORKLOADS:
        ours = results[workload, known[1][0]]
        line = f"{workload:8}"
        for name, _, _ in known[2:]:
            ratios = [cpu / base for (cpu, _, _), (base, _, _) in zip(ours, results[workload, name])]
            line += f"{name}: {statistics.median(ratios):.2f}   "
        ratio = statistics.median(cpu / base for (cpu, _, _), (base, _, _) in zip(ours, results[workload, native]))
        budget = BUDGETS.get(workload)
        print(line + f"native: {ratio:.2f}" + ("" if budget is None else f" ({'within' if ratio <= budget else 'beyond'} {budget})"))
    print("\nraw milliseconds, round by round:")
    for (workload, name), rows in results.items():
        print(f"{workload:8}{name:22}" + " ".join(f"{cpu:.1f}" for cpu, _, _ in rows))
    shutil.rmtree(W)


main()
