#!/usr/bin/env python3
"""Extracts layers by GNU tar and a whiteout pass: the tree that ours must equal.

usage: reference.py ROOT LAYER…       blobs as in the registry (gzip, zstd or plain), lowest first

Per layer: what its whiteouts and opaque marks hide goes, and what changes between directory and something else; GNU
tar then extracts the rest. At the end modes become what a store keeps, and directories get the time of their last entry,
which GNU tar loses where members are excluded.
"""
import os, shutil, stat, subprocess, sys, tarfile, tempfile

UNPACK = {b"\x1f\x8b": ["gzip", "-dc"], b"\x28\xb5": ["zstd", "-dc"]}


def remove(path):
    if os.path.islink(path) or not os.path.isdir(path):
        if os.path.lexists(path):
            os.unlink(path)
    else:
        shutil.rmtree(path)


def clear(root, members, made):
    """Applies the marks of one layer to what lies below it; notes the directories' times."""
    names = [(os.path.normpath(member.name), member, time) for member, time in members]
    for name, _, _ in names:
        parent, base = os.path.split(name)
        if base == ".wh..wh..opq":
            if os.path.isdir(os.path.join(root, parent)) and not os.path.islink(os.path.join(root, parent)):
                for entry in os.listdir(os.path.join(root, parent)):
                    remove(os.path.join(root, parent, entry))
        elif base.startswith(".wh."):
            remove(os.path.join(root, parent, base[4:]))
    for name, member, time in names:
        path = os.path.join(root, name)
        if os.path.basename(name).startswith(".wh."):
            continue
        if os.path.lexists(path) and (os.path.islink(path) or not os.path.isdir(path) or not member.isdir()):
            remove(path)
        if member.isdir():
            made[name] = time
        else:
            made.pop(name, None)


def nanoseconds(member):
    """Seconds as text → nanoseconds; a float would round them."""
    whole, _, part = member.pax_headers.get("mtime", str(int(member.mtime))).partition(".")
    return int(whole) * 10**9 + int((part + "0" * 9)[:9])


def main():
    root, layers = sys.argv[1], sys.argv[2:]
    os.umask(0o022)
    made = {}
    for layer in layers:
        with tempfile.NamedTemporaryFile(dir=os.path.dirname(os.path.abspath(root))) as plain:
            with open(layer, "rb") as blob:
                unpack = UNPACK.get(blob.read(2), ["cat"])
            with open(layer, "rb") as blob:
                subprocess.check_call(unpack, stdin=blob, stdout=plain)
            with tarfile.open(plain.name) as tar:
                members = [(member, nanoseconds(member)) for member in tar.getmembers()]
            clear(root, members, made)
            subprocess.check_call(["tar", "-C", root, "-xPpf", plain.name, "--numeric-owner", "--no-same-owner", "--xattrs",
                                   "--xattrs-include=user.*", "--delay-directory-restore", "--wildcards",
                                   "--wildcards-match-slash", "--exclude=.wh.*", "--warning=no-timestamp"])
    for base, directories, files in os.walk(root):
        for name in directories + files:
            path = os.path.join(base, name)
            mode = os.lstat(path).st_mode
            if not stat.S_ISLNK(mode):
                os.chmod(path, mode & 0o1777 | (0o700 if stat.S_ISDIR(mode) else 0o400))
    for name in sorted(made, reverse=True):
        path = os.path.join(root, name)
        if name != "." and os.path.isdir(path) and not os.path.islink(path):
            os.utime(path, ns=(made[name], made[name]))


main()
