#!/usr/bin/env python3
"""The functions that a start of udocker-launch calls, in the order of their first call: a linker that puts them side by side
saves each rank a dozen page faults.

usage: order.py BIN-DIR > launcher/udocker-launch/start.order      BIN-DIR as for start.py, its udocker-launch not stripped;
                                                                   valgrind
       order.py --symbols ORDER < output of nm                     the symbols of a program that has them, for the linker

Names are kept without rustc's hash of them, which each version of the compiler makes anew. What a program has no more is
passed over; `make dist` works with an old list, and a new one is made when the start has changed.
"""
import os, re, subprocess, sys

HASH = re.compile(r"17h[0-9a-f]{16}E$")


def symbols(order):
    places = {}
    for line in sys.stdin:
        name = line.split()[-1]
        places.setdefault(HASH.sub("", name), []).append(name)
    for name in open(order).read().split():
        print(*places.get(name, []), sep="\n", end="\n" if name in places else "")


def first_calls(trace):
    """Of a callgrind file with mangled names: `fn=(7) name` at its first mention, `fn=(7)` later; `cfn=` where it is called."""
    names = {}
    for line in open(trace):
        found = re.match(r"c?fn=\((\d+)\)(?: ([^'\s]*).*)?$", line.rstrip("\n"))
        if found and found[2]:
            names.setdefault(found[1], found[2])
            yield found[2]


def main():
    import start
    os.chdir("/")
    start.build()
    cases, leader = start.commands()
    seen = {}
    for name in [start.JOINING, "udocker-launch, read-only", "udocker-launch, overlay"]:
        trace = f"{start.W}/calls"
        argv = [*cases[name][:-1], "/nothere"]
        subprocess.run(["valgrind", "--vgdb=no", "-q", "--tool=callgrind", "--demangle=no", f"--callgrind-out-file={trace}", *argv],
                       env=start.environment(name), stderr=subprocess.DEVNULL)
        for function in first_calls(trace):
            seen.setdefault(HASH.sub("", function))
        os.remove(trace)
    leader.kill()
    print(*(name for name in seen if re.match(r"[A-Za-z_]", name)), sep="\n")


if sys.argv[1] == "--symbols":
    symbols(sys.argv[2])
else:
    sys.argv.append("1")
    main()
