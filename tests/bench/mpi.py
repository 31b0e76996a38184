#!/usr/bin/env python3
"""MPI between two ranks of one node: bare, in udocker-launch by N1 and by P2; and between four ranks of two nodes, bare and by
Slurm's plugin. Best of interleaved runs.

usage: mpi.py BIN-DIR ROUNDS ROOT [STARTER…]    BIN-DIR has udocker-launch and slurm-RELEASE/libudocker_spank.so; STARTER: mpirun,
                                     `srun RELEASE`, `plugin RELEASE`, all of them by default; ROOT is a root of this Debian with MPICH and Open MPI, whose
                                     programs run on the host as well; mpirun.mpich and mpirun.openmpi, strace; as root also
                                     srun, on the cluster of tests/slurm

8 MiB each way, checked; the program tells the best of its five exchanges, this script the best of ROUNDS runs. The ranks'
transport is seen by strace: which of them called process_vm_readv.
"""
import os, re, shutil, subprocess, sys, tempfile

BIN, ROUNDS, ROOT = os.path.abspath(sys.argv[1]), int(sys.argv[2]), os.path.abspath(sys.argv[3])
HERE = os.path.dirname(os.path.abspath(__file__))
SOURCES = os.path.realpath(f"{HERE}/../programs")
CLUSTER = os.path.realpath(f"{HERE}/../slurm/cluster.sh")
LAUNCH = f"{BIN}/udocker-launch"
STRACE = ["strace", "-ff", "-e", "trace=process_vm_readv,process_vm_writev", "-o", "trace"]


def kinds(root):
    return {"bare": [], "N1": [LAUNCH, "--mode=N1", root], "P2": [LAUNCH, "--mode=P2", root]}


class Mpirun:
    """Each library's own launcher, on this machine."""

    name, mpis, root = "mpirun", ("mpich", "openmpi"), ROOT
    kinds, result = staticmethod(kinds), "ranks 2 sum 3"

    def __init__(self, directory):
        self.home = directory
        self.environment = {"PATH": "/usr/bin:/bin", "USER": "bench", "HOME": directory, "UDOCKER_DIR": f"{directory}/store",
                            "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}

    def alone(self, words):
        return self.execute(words)

    def ranks(self, mpi, words):
        over = ["--oversubscribe"] if mpi == "openmpi" else []
        return self.execute([f"mpirun.{mpi}", *over, "-n", "2", *words])

    def execute(self, argv):
        return subprocess.run(argv, env=self.environment, cwd=self.home, capture_output=True, text=True, timeout=120)

    def end(self):
        pass


class Srun:
    """A cluster of two nodes; the ranks are on one of them."""

    mpis, kinds, result, shape = ("mpich", "openmpi"), staticmethod(kinds), "ranks 2 sum 3", ["-N1", "-n2"]
    mpich = []

    def __init__(self, directory, release, etc=()):
        self.release = release
        self.state, self.home = f"{directory}/state", f"{directory}/state/home"
        own = subprocess.run(["bash", CLUSTER, "root", release], check=True, capture_output=True, text=True).stdout.strip()
        self.root = ROOT if own == "/" else own
        subprocess.run(["bash", CLUSTER, "up", release, "--state", self.state, "--bind", BIN, "--bind", self.root, *etc],
                       check=True, stdout=subprocess.DEVNULL)

    def alone(self, words):
        return self.execute([], ["srun", "-n1", *words])

    def ranks(self, mpi, words):
        pmi, variables = ("pmi2", self.mpich) if mpi == "mpich" else ("pmix", ["OMPI_MCA_btl_tcp_if_include=lo"])
        return self.execute([word for variable in variables for word in ("--env", variable)], ["srun", f"--mpi={pmi}", *self.shape, *words])

    def execute(self, variables, words):
        argv = ["bash", CLUSTER, "run", self.release, "--state", self.state, *variables, "--", *words]
        return subprocess.run(argv, capture_output=True, text=True, timeout=120)

    def end(self):
        subprocess.run(["bash", CLUSTER, "down", self.release, "--state", self.state], stdout=subprocess.DEVNULL)


class Plugin(Srun):
    """Four ranks, two on each node, in the node's one container by `--udocker-image`."""

    result, shape = "ranks 4 sum 10", ["-N2", "-n4", "--ntasks-per-node=2"]

    def __init__(self, directory, release):
        os.makedirs(f"{directory}/etc/slurm")
        with open(f"{directory}/etc/slurm/plugstack.conf", "w") as file:
            file.write(f"required {BIN}/slurm-{release}/libudocker_spank.so launcher={LAUNCH}\n")
        if release == "22.05":
            # Its UCX takes two nodes of one kernel for one, and hangs, bare as well.
            self.mpich = ["UCX_TLS=tcp,self", "UCX_NET_DEVICES=lo"]
        super().__init__(directory, release, ("--etc", f"{directory}/etc"))

    @staticmethod
    def kinds(root):
        # Options of srun, which come right before the program.
        return {"bare": [], "plugin": [f"--udocker-image={root}"]}


def run(starter, mpi, kind, before=()):
    done = starter.ranks(mpi, [*before, *starter.kinds(starter.root)[kind], f"./ranks.{mpi}", "time"])
    assert done.returncode == 0, (starter.name, mpi, kind, done)
    line = re.search(rf"^{starter.result} wrong 0 cma (\w+)$", done.stdout, re.M)
    seconds = re.search(r"^seconds ([\d.]+)$", done.stdout, re.M)
    return line[1], float(seconds[1])


def calls(starter, mpi, kind):
    """How many ranks called process_vm_readv or process_vm_writev. A tracer cannot be traced: P2 is told by the program."""
    if kind in ("P2", "plugin") or starter.alone(["strace", "-V"]).returncode != 0:
        return "by the program"
    run(starter, mpi, kind, STRACE)
    found = [name for name in os.listdir(starter.home) if name.startswith("trace.")]
    count = sum("process_vm_" in open(f"{starter.home}/{name}").read() for name in found)
    for name in found:
        os.remove(f"{starter.home}/{name}")
    return f"{count} processes"


def measure(starter):
    for mpi in starter.mpis:
        built = starter.alone([LAUNCH, f"--mount={SOURCES}:/mnt:ro", starter.root, f"mpicc.{mpi}", "-O2", "-o", f"ranks.{mpi}",
                               "/mnt/ranks.c"])
        assert built.returncode == 0, built
    for mpi in starter.mpis:
        results = {kind: [] for kind in starter.kinds("")}
        for _ in range(ROUNDS):
            for kind in results:
                results[kind].append(run(starter, mpi, kind))
        row, bare = f"{starter.name:13}{mpi:9}", None
        for kind, list_ in results.items():
            speed = 8 * 1.048576 / min(seconds for _, seconds in list_)
            bare = bare or speed
            cma = {cma for cma, _ in list_}
            row += f"{speed:9.0f}{speed / bare:7.2f}{'/'.join(sorted(cma)):>5}{calls(starter, mpi, kind):>16}"
        print(row, flush=True)


def main():
    print(f"# {os.uname().release}, {os.cpu_count()} cores, uid {os.getuid()}, best of {ROUNDS} runs in turn, MB/s each way")
    starters = {"mpirun": Mpirun}
    if os.geteuid() == 0:
        for release in "22.05", "24.11":
            starters[f"srun {release}"] = lambda directory, release=release: Srun(directory, release)
            starters[f"plugin {release}"] = lambda directory, release=release: Plugin(directory, release)
    told = None
    for name in sys.argv[4:] or starters:
        with tempfile.TemporaryDirectory(prefix="udocker-bench-", ignore_cleanup_errors=True) as directory:
            os.chmod(directory, 0o755)
            starter = starters[name](directory)
            starter.name = name
            head = f"{'':22}" + "".join(f"{kind:>9}{'/bare':>7}{'cma':>5}{'strace':>16}" for kind in starter.kinds(""))
            if head != told:
                print(head, flush=True)
                told = head
            try:
                measure(starter)
            finally:
                starter.end()


main()
