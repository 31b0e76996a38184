#!/usr/bin/env python3
"""MPI between two ranks of one node: bare, in udocker-launch by N1 and by P2. Best of interleaved runs.

usage: mpi.py BIN-DIR ROUNDS ROOT    BIN-DIR has udocker-launch; ROOT is a root of this Debian with MPICH and Open MPI, whose
                                     programs run on the host as well; mpirun.mpich and mpirun.openmpi, strace

8 MiB each way, checked; the program tells the best of its five exchanges, this script the best of ROUNDS runs. The ranks'
transport is seen by strace: which of them called process_vm_readv.
"""
import os, re, shutil, subprocess, sys, tempfile

BIN, ROUNDS, ROOT = os.path.abspath(sys.argv[1]), int(sys.argv[2]), os.path.abspath(sys.argv[3])
HERE = os.path.dirname(os.path.abspath(__file__))
W = tempfile.mkdtemp(prefix="udocker-bench-")
os.chmod(W, 0o755)
ENV = {"PATH": "/usr/bin:/bin", "USER": "bench", "HOME": W, "UDOCKER_DIR": f"{W}/store", "OMPI_ALLOW_RUN_AS_ROOT": "1",
       "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
LAUNCH = f"{BIN}/udocker-launch"
KINDS = {"bare": [], "N1": [LAUNCH, "--mode=N1", ROOT], "P2": [LAUNCH, "--mode=P2", ROOT]}


def run(mpi, kind, before=()):
    over = ["--oversubscribe"] if mpi == "openmpi" else []
    argv = [f"mpirun.{mpi}", *over, "-n", "2", *before, *KINDS[kind], f"{W}/ranks.{mpi}", "time"]
    output = subprocess.run(argv, env=ENV, cwd=W, capture_output=True, text=True, timeout=120)
    assert output.returncode == 0, (argv, output)
    line = re.search(r"^ranks 2 sum 3 wrong 0 cma (\w+)$", output.stdout, re.M)
    seconds = re.search(r"^seconds ([\d.]+)$", output.stdout, re.M)
    return line[1], float(seconds[1])


def calls(mpi, kind):
    """How many ranks called process_vm_readv or process_vm_writev. A tracer cannot be traced: P2 is told by the program."""
    if kind == "P2":
        return "by the program"
    traces = f"{W}/trace"
    run(mpi, kind, ["strace", "-ff", "-e", "trace=process_vm_readv,process_vm_writev", "-o", traces])
    found = [name for name in os.listdir(W) if name.startswith("trace.")]
    count = sum("process_vm_" in open(f"{W}/{name}").read() for name in found)
    for name in found:
        os.remove(f"{W}/{name}")
    return f"{count} processes"


def main():
    for mpi in ["mpich", "openmpi"]:
        source = os.path.realpath(f"{HERE}/../programs/ranks.c")
        subprocess.run([LAUNCH, f"--mount={os.path.dirname(source)}:/mnt:ro", ROOT, f"mpicc.{mpi}", "-O2", "-o",
                        f"{W}/ranks.{mpi}", "/mnt/ranks.c"], env=ENV, cwd=W, check=True)
    print(f"# {os.uname().release}, {os.cpu_count()} cores, uid {os.getuid()}, best of {ROUNDS} runs in turn, MB/s each way")
    print(f"{'':10}" + "".join(f"{kind:>9}{'/bare':>7}{'cma':>5}{'strace':>16}" for kind in KINDS))
    for mpi in ["mpich", "openmpi"]:
        results = {kind: [] for kind in KINDS}
        for _ in range(ROUNDS):
            for kind in KINDS:
                results[kind].append(run(mpi, kind))
        row, bare = f"{mpi:10}", None
        for kind, list_ in results.items():
            speed = 8 * 1.048576 / min(seconds for _, seconds in list_)
            bare = bare or speed
            cma = {cma for cma, _ in list_}
            row += f"{speed:9.0f}{speed / bare:7.2f}{'/'.join(sorted(cma)):>5}{calls(mpi, kind):>16}"
        print(row, flush=True)
    shutil.rmtree(W, ignore_errors=True)


main()
