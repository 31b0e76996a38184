#!/usr/bin/env python3
"""What the Slurm plugin costs: `srun true` in a container against a bare one, and bare with the plugin against without.

usage: slurm.py DIST [ROUNDS]      as root; DIST: what `make dist` made

A cluster of two nodes on this machine (tests/slurm/cluster.sh, 22.05), a directory as the image, warm. Commands run in turn, in
an order that changes from round to round; printed are medians, and medians of the differences within a round, in milliseconds.
With and without the plugin: in plugstack.conf of srun's host and of the nodes. Beside it one that does nothing at all, which is
what Slurm itself takes for a plugin.
"""
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHAPES = {"1 x 1": ["-N1", "-n1"], "1 x 4": ["-N1", "-n4"], "2 x 4": ["-N2", "-n8"]}
RELEASE = "22.05"
INCLUDED = "/home/tester/plugin.conf"  # by plugstack.conf, with or without the plugin
EMPTY = """#include <slurm/spank.h>
SPANK_PLUGIN(empty, 1)
int slurm_spank_task_init(spank_t spank, int count, char **words) { return 0; }
"""


def plugstack(line):
    """srun and slurmstepd read it anew for each step."""
    Path("new.conf").write_text(line)
    Path("new.conf").rename(INCLUDED)


def measure(rounds, image, plugin, empty):
    """Runs on the cluster's host `ctl`, within an allocation: a step alone, no wait for nodes."""
    load = os.getloadavg()[0]
    print(f"# {os.uname().release}, {os.cpu_count()} cores, {rounds} rounds, load {load:.1f} at the start; milliseconds")
    kinds = {"without a plugin": ("", []), "with an empty one": (empty, []), "with ours": (plugin, []),
             "contained": (plugin, [image])}
    plugstack(plugin)
    where = [subprocess.check_output(["srun", "-n1", *options, "readlink", "/proc/self/ns/mnt"]) for options in ([], [image])]
    assert where[0] != where[1], "the contained command ran on the host"
    for name, shape in SHAPES.items():
        times = {kind: [] for kind in kinds}
        for round_ in range(rounds + 2):
            for kind in random.sample(list(kinds), len(kinds)):
                line, options = kinds[kind]
                plugstack(line)
                # A step need not wait for the last one's processors, which may not be free yet.
                words = ["srun", "--overlap", *options, *shape, "true"]
                since = time.perf_counter()
                subprocess.run(words, check=True)
                if round_ > 1:  # the first ones warm up
                    times[kind].append((time.perf_counter() - since) * 1000)
        bare, empty_, idle, contained = times.values()
        print(f"{name}: " + ", ".join(f"{kind} {statistics.median(all_):.1f}" for kind, all_ in times.items()))
        # Others' load makes a run slower and never faster.
        print("  fastest: " + ", ".join(f"{kind} {min(all_):.1f}" for kind, all_ in times.items()))
        pairs = [("an empty plugin adds", empty_, bare), ("ours adds", idle, bare), ("a container adds", contained, idle)]
        for what, more, less in pairs:
            differences = sorted(a - b for a, b in zip(more, less))
            low, _, high = statistics.quantiles(differences, n=4)
            print(f"  {what} {statistics.median(differences):.2f} (quartiles {low:.2f} to {high:.2f})")
        for kind, all_ in times.items():
            print(f"  {kind}: " + " ".join(f"{one:.1f}" for one in all_))


def main(dist, rounds):
    here = Path(__file__).resolve().parent
    cluster = ["bash", str(here.parent / "slurm/cluster.sh")]
    with tempfile.TemporaryDirectory() as directory:
        state, etc = Path(directory) / "state", Path(directory) / "etc"
        (etc / "slurm").mkdir(parents=True)
        plugin = f"required {dist}/slurm-{RELEASE}/libudocker_spank.so launcher={dist}/udocker-launch\n"
        (etc / "slurm/plugstack.conf").write_text(f"include {INCLUDED}\n")
        os.chmod(directory, 0o755)
        (Path(directory) / "bin").mkdir()
        empty = f"{directory}/bin/empty.so"
        subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", "-o", empty, "-"], input=EMPTY, text=True, check=True)
        root = subprocess.run([*cluster, "root", "24.11"], check=True, capture_output=True, text=True).stdout.strip()
        options = [RELEASE, "--state", str(state)]
        binds = [word for path in (root, dist, f"{directory}/bin") for word in ("--bind", path)]
        subprocess.run([*cluster, "up", *options, *binds, "--etc", str(etc)], check=True, stdout=subprocess.DEVNULL)
        try:
            words = ["salloc", "-Q", "-N2", "-n8", "/usr/bin/python3", str(Path(__file__).resolve()), "--inside"]
            words += [str(rounds), f"--udocker-image={root}", plugin, f"required {empty}\n"]
            subprocess.run([*cluster, "run", *options, "--env", "SHELL=/bin/sh", "--", *words], check=True)
        finally:
            subprocess.run([*cluster, "down", *options], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    if sys.argv[1] == "--inside":
        measure(int(sys.argv[2]), *sys.argv[3:])
    else:
        main(str(Path(sys.argv[1]).resolve()), int(sys.argv[2]) if len(sys.argv) > 2 else 30)
