#!/usr/bin/env python3
"""Writes what changed in a root file system since the last call as one image layer, deterministically.

usage: layer.py ROOT STATE.json OUT.tar      STATE.json: what the last call saw (absent: everything is new); rewritten

Whiteouts for what is gone, `.wh..wh..opq` for a directory that was removed and made again, hard links within the
layer, the parents of every change. Times are cut to SOURCE_DATE_EPOCH, so that two builds give the same bytes.
"""
import json, os, stat, sys, tarfile

EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", "1700000000"))
# Kernel file systems and what differs from run to run: the directory itself is kept, its contents are not.
HOLLOW = {"proc", "sys", "dev", "run", "tmp", "var/log", "var/lib/apt/lists", "var/cache/apt", "var/cache/debconf",
          "var/cache/ldconfig", "var/cache/man", "var/lib/dpkg/info/.cache", "var/tmp"}
SKIPPED = {"etc/machine-id", "etc/hostname", "etc/resolv.conf", "etc/hosts", "var/lib/dpkg/lock", "var/lib/dpkg/lock-frontend",
           "var/lib/dpkg/status-old", "var/lib/dpkg/diversions-old", "var/lib/dpkg/statoverride-old", "var/lib/dpkg/triggers/Lock"}


def scan(root):
    """Path → [mode, uid, gid, size, mtime, inode, links, link target]; a directory's size and time do not count."""
    seen = {}

    def visit(below):
        for name in sorted(os.listdir(os.path.join(root, below))):
            path = f"{below}/{name}" if below else name
            if path in SKIPPED or path.startswith("etc/apt/") and "mmdebstrap" in name:
                continue
            s = os.lstat(os.path.join(root, path))
            directory = stat.S_ISDIR(s.st_mode)
            target = os.readlink(os.path.join(root, path)) if stat.S_ISLNK(s.st_mode) else ""
            time = min(int(s.st_mtime), EPOCH)
            seen[path] = [s.st_mode, s.st_uid, s.st_gid, 0 if directory else s.st_size, 0 if directory else time,
                          s.st_ino, s.st_nlink, target]
            if directory and path not in HOLLOW:
                visit(path)

    visit("")
    return seen


def write(root, old, new, out):
    is_dir = lambda entry: entry is not None and stat.S_ISDIR(entry[0])
    # A new inode under an old name is a directory that was removed and made again.
    remade = {p for p, e in new.items() if is_dir(e) and is_dir(old.get(p)) and old[p][5] != e[5]}
    changed = {p for p, e in new.items()
               if p not in old or p in remade or (e[:3] != old[p][:3] if is_dir(e) else e[:5] + e[7:] != old[p][:5] + old[p][7:])}
    gone = {}
    for path in old:
        parent, name = os.path.split(path)
        if path not in new and (parent == "" or is_dir(new.get(parent))) and parent not in remade:
            gone.setdefault(parent, []).append(name)
    wanted = set(changed)
    for path in list(changed) + [f"{parent}/x" for parent in gone]:
        while path := os.path.dirname(path):
            wanted.add(path)
    first = {}
    with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as tar:
        def entry(name, mode=0o644, uid=0, gid=0):
            info = tarfile.TarInfo(name)
            info.mode, info.uid, info.gid, info.mtime = stat.S_IMODE(mode), uid, gid, EPOCH
            return info

        for name in gone.get("", []):
            tar.addfile(entry(f".wh.{name}"))
        for path in sorted(wanted):
            mode, uid, gid, size, time, inode, links, target = new[path]
            info = entry(path, mode, uid, gid)
            if stat.S_ISDIR(mode):
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
                hidden = [".wh..opq"] if path in remade else sorted(gone.get(path, []))
                for name in hidden:
                    tar.addfile(entry(f"{path}/.wh.{name}"))
                continue
            info.mtime = time
            if stat.S_ISLNK(mode):
                info.type, info.linkname = tarfile.SYMTYPE, target
                tar.addfile(info)
            elif stat.S_ISREG(mode) and links > 1 and inode in first:
                info.type, info.linkname = tarfile.LNKTYPE, first[inode]
                tar.addfile(info)
            elif stat.S_ISREG(mode):
                first[inode] = path
                info.size = size
                with open(os.path.join(root, path), "rb") as file:
                    tar.addfile(info, file)


def main():
    root, state, out = sys.argv[1:]
    old = json.load(open(state)) if os.path.exists(state) else {}
    new = scan(root)
    write(root, old, new, out)
    json.dump(new, open(state, "w"))


main()
