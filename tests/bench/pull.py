#!/usr/bin/env python3
"""Pull and extract: ours and others', the same image, the same registry on loopback, a new file system for every run.

usage: pull.py BIN-DIR ROUNDS [IMAGE…]     root (loop mounts); docker-registry, skopeo, and what is compared if installed

A new ext4 each time, since a used one's allocator walks over deleted inodes for minutes; its image lies in memory, so that
the disk is not what is measured. Tools run in turn. Nobody's data are flushed but ours, by the setting of a store that is
to survive a power failure; the row `no sync` is ours with `sync = false` in site.toml, and is what the targets are about.
What is not installed is named.
The bytes written by ours are the sum of its write calls, by strace, in a run of its own.
"""
import json, os, re, resource, shutil, statistics, subprocess, sys, tarfile, tempfile, time

BIN, ROUNDS = os.path.abspath(sys.argv[1]), int(sys.argv[2])
HERE = os.path.dirname(os.path.abspath(__file__))
W = tempfile.mkdtemp(prefix="udocker-bench-")
MNT = f"{W}/mnt"
PORT = 5099
HOST = f"127.0.0.1:{PORT}"


def run(*argv, **more):
    return subprocess.run(argv, check=True, **more)


def layout(directory, tars):
    """An OCI layout of gzip layers: tests/images/layout.py's shape, from tars that are there."""
    import hashlib
    blobs = f"{directory}/blobs/sha256"
    os.makedirs(blobs)

    def put(data):
        digest = hashlib.sha256(data).hexdigest()
        with open(f"{blobs}/{digest}", "wb") as file:
            file.write(data)
        return f"sha256:{digest}", len(data)
    layers, ids = [], []
    for tar in tars:
        # Streams: a child's peak memory begins with that of the process that forked it.
        ids.append("sha256:" + subprocess.check_output(["sha256sum", tar], text=True).split()[0])
        packed = f"{directory}/packed"
        with open(packed, "wb") as out:
            run("gzip", "-6", "-n", "-c", tar, stdout=out)
        digest, size = "sha256:" + subprocess.check_output(["sha256sum", packed], text=True).split()[0], os.path.getsize(packed)
        os.rename(packed, f"{blobs}/{digest[7:]}")
        layers.append({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": size})
    config = put(json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": ids}}).encode())
    media = "application/vnd.oci.image.manifest.v1+json"
    manifest = put(json.dumps({"schemaVersion": 2, "mediaType": media, "layers": layers, "config": {
        "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config[0], "size": config[1]}}).encode())
    entry = {"mediaType": media, "digest": manifest[0], "size": manifest[1], "annotations": {"org.opencontainers.image.ref.name": "latest"}}
    json.dump({"schemaVersion": 2, "manifests": [entry]}, open(f"{directory}/index.json", "w"))
    json.dump({"imageLayoutVersion": "1.0.0"}, open(f"{directory}/oci-layout", "w"))


def small_files(tar):
    """100,000 files of 1 kB in 500 directories."""
    import io
    with tarfile.open(tar, "w") as out:
        for directory in range(500):
            info = tarfile.TarInfo(f"d{directory}")
            info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, 1_700_000_000
            out.addfile(info)
            for number in range(200):
                info = tarfile.TarInfo(f"d{directory}/f{number}")
                info.size, info.mtime = 1000, 1_700_000_000
                out.addfile(info, io.BytesIO((f"{directory} {number} " * 300).encode()[:1000]))


def images(wanted):
    """Serves the images and returns their names."""
    names = wanted or ["science", "science-zstd", "one-big-layer", "minbase", "many", "small-files"]
    storage = f"{W}/registry"
    config = f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {storage}}}}}\nhttp: {{addr: '{HOST}'}}\n"
    open(f"{W}/registry.yml", "w").write(config)
    server = subprocess.Popen(["docker-registry", "serve", f"{W}/registry.yml"], stderr=subprocess.DEVNULL)
    maker = os.path.join(HERE, "../../target/debug/examples/image")
    for name in names:
        if name == "small-files":
            small_files(f"{W}/small.tar")
            layout(f"{W}/{name}", [f"{W}/small.tar"])
            path = f"{W}/{name}"
        elif name == "one-big-layer":
            # The flat tree of the science stack, as our own extraction makes it.
            source = subprocess.check_output([maker, "science"], text=True).strip()
            push(source, "science")
            env = {**os.environ, "UDOCKER_DIR": f"{W}/flat"}
            run(f"{BIN}/udocker", "--allow-root", "-q", "pull", f"{HOST}/bench/science", env=env)
            root = subprocess.check_output(["find", f"{W}/flat/rootfs", "-maxdepth", "3", "-name", "root"], text=True).strip()
            run("tar", "-C", root, "--sort=name", "-cf", f"{W}/big.tar", ".")
            shutil.rmtree(f"{W}/flat")
            layout(f"{W}/{name}", [f"{W}/big.tar"])
            path = f"{W}/{name}"
        else:
            path = subprocess.check_output([maker, name], text=True).strip()
        push(path, name)
    return server, names


def push(path, name):
    for _ in range(50):
        done = subprocess.run(["skopeo", "copy", "-q", "--preserve-digests", "--dest-tls-verify=false", f"oci:{path}:latest", f"docker://{HOST}/bench/{name}:latest"], stderr=subprocess.PIPE)
        if done.returncode == 0:
            return
        time.sleep(0.1)
    raise SystemExit(done.stderr.decode())


SCRIPT = r"""
set -e
skopeo copy -q --src-tls-verify=false docker://$IMAGE dir:$D/dir
mkdir $D/root
python3 - $D <<'PY'
import json, os, shutil, subprocess, sys
d = sys.argv[1]
for layer in json.load(open(f"{d}/dir/manifest.json"))["layers"]:
    blob = f"{d}/dir/" + layer["digest"].split(":")[1]
    magic = open(blob, "rb").read(2)
    tool = {b"\x1f\x8b": "--use-compress-program=" + ("igzip" if shutil.which("igzip") else "gzip"), b"\x28\xb5": "--zstd"}.get(magic, "--no-auto-compress")
    listing = subprocess.check_output(["tar", tool, "--quoting-style=literal", "-tvf", blob], text=True, errors="replace")
    clear = lambda path: shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
    for line in listing.splitlines():
        name = line.split(None, 5)[5].split(" -> ")[0].split(" link to ")[0].rstrip("/")
        parent, base = os.path.split(name)
        path = f"{d}/root/{name}"
        if base == ".wh..wh..opq":
            for entry in os.listdir(f"{d}/root/{parent}") if os.path.isdir(f"{d}/root/{parent}") else []:
                clear(f"{d}/root/{parent}/{entry}")
        elif base.startswith(".wh."):
            path = f"{d}/root/{parent}/{base[4:]}"
            if os.path.lexists(path):
                clear(path)
        elif line[0] != "d" and os.path.isdir(path) and not os.path.islink(path):
            clear(path)
    subprocess.check_call(["tar", tool, "-C", f"{d}/root", "--exclude=.wh.*", "-xpf", blob])
PY
"""
TOOLS = {
    "udocker (ours)": f"UDOCKER_DIR=$D/store {BIN}/udocker --allow-root -q pull $IMAGE",
    "udocker (ours), no sync": f"UDOCKER_DIR=$D/store unshare -m sh -c 'mount --bind {W}/etc /etc && exec {BIN}/udocker --allow-root -q pull $IMAGE'",
    "skopeo, GNU tar, whiteout pass": SCRIPT,
    "skopeo, umoci": "skopeo copy -q --src-tls-verify=false docker://$IMAGE oci:$D/oci:t && umoci unpack --image $D/oci:t $D/bundle >/dev/null",
    "podman": "podman --root $D/root --runroot $D/run --storage-driver overlay pull -q --tls-verify=false $IMAGE >/dev/null",
    "ch-image": "CH_IMAGE_STORAGE=$D/ch USER=bench PATH=/usr/sbin:/usr/bin:/sbin:/bin ch-image --tls-no-verify pull $IMAGE >/dev/null",
    "udocker 1.3 (PyPI)": "UDOCKER_DIR=$D/py $PYUDOCKER --allow-root --insecure pull --registry=http://$REG $NAME >/dev/null && UDOCKER_DIR=$D/py $PYUDOCKER --allow-root create $NAME >/dev/null",
}
NEEDS = {"skopeo, umoci": "umoci", "podman": "podman", "ch-image": "ch-image", "skopeo, GNU tar, whiteout pass": "skopeo"}


def fresh():
    subprocess.run(["umount", "-q", MNT])
    image = f"{W}/ram/fs.img"
    if os.path.exists(image):
        os.unlink(image)
    run("truncate", "-s", "7G", image)
    run("mkfs.ext4", "-q", "-E", "lazy_itable_init=1,nodiscard", "-N", "1000000", image)
    run("mount", "-o", "loop", image, MNT)


def measure(script, name):
    fresh()
    env = {**os.environ, "D": MNT, "IMAGE": f"{HOST}/bench/{name}", "REG": HOST, "NAME": f"bench/{name}:latest"}
    start = time.perf_counter()
    # By time(1): a child's peak memory begins with that of the process that forked it, and this one is large.
    argv = ["/usr/bin/time", "-q", "-f", "%M", "-o", f"{W}/peak", "bash", "-c", script]
    child = subprocess.Popen(argv, env=env, stderr=open(f"{W}/stderr", "w"))
    _, status, used = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        lines = open(f"{W}/stderr").read().strip().splitlines() or [f"status {child.returncode}"]
        return lines[-1]
    return wall, used.ru_utime + used.ru_stime, int(open(f"{W}/peak").read().split()[-1]) / 1024


def written(script, name):
    """Bytes given to write calls by the whole tree of processes, by strace's sum."""
    fresh()
    env = {**os.environ, "D": MNT, "IMAGE": f"{HOST}/bench/{name}", "REG": HOST, "NAME": f"bench/{name}:latest"}
    trace = f"{W}/trace"
    subprocess.run(["strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=write,pwrite64,writev,pwritev,pwritev2,copy_file_range,sendfile", "-e", "signal=none", "-s", "0", "-o", trace, "bash", "-c", script], env=env)
    total = 0
    for line in open(trace, errors="replace"):
        found = re.search(r"= (\d+)$", line)
        total += int(found.group(1)) if found else 0
    return total


def main():
    for directory in (MNT, f"{W}/ram", f"{W}/registry"):
        os.makedirs(directory)
    run("mount", "-t", "tmpfs", "-o", "size=12G", "none", f"{W}/ram")
    run("cp", "-a", "/etc", f"{W}/etc")
    os.makedirs(f"{W}/etc/udocker", exist_ok=True)
    open(f"{W}/etc/udocker/site.toml", "w").write(f'[[store]]\nname = "scratch"\npath = "{MNT}/store"\nkind = "user"\nsync = false\n')
    server, names = images(sys.argv[3:])
    try:
        version = os.uname()
        print(f"# {version.sysname} {version.release} {version.machine}, {os.cpu_count()} cores, {ROUNDS} rounds in turn, ext4 in memory")
        tools = {}
        for tool, script in TOOLS.items():
            missing = shutil.which(NEEDS.get(tool, "sh")) is None or ("PYUDOCKER" in script and "PYUDOCKER" not in os.environ)
            if missing:
                print(f"{tool}: not installed" + (" (PYUDOCKER names it)" if "PYUDOCKER" in script else ""))
            else:
                tools[tool] = script
        for name in names:
            print(f"\n{name:32} {'wall s min':>10} {'median':>7} {'CPU s':>6} {'peak MB':>8} {'x ours':>7}")
            results = {tool: [] for tool in tools}
            for tool, script in tools.items():
                # The registry's and the page cache's first look is nobody's cost; a tool that fails once fails always.
                first = measure(script, name) if "no sync" in tool or ROUNDS > 2 else 0
                if isinstance(first, str):
                    results[tool] = first
            for _ in range(ROUNDS):
                for tool, script in tools.items():
                    one = results[tool] if isinstance(results[tool], str) else measure(script, name)
                    results[tool] = one if isinstance(one, str) else [*results[tool], one]
            ours = None
            for tool, list_ in sorted(results.items(), key=lambda item: "no sync" not in item[0]):
                if isinstance(list_, str):
                    print(f"  {tool:30} failed: {list_[:120]}")
                    continue
                walls = [one[0] for one in list_]
                ours = ours or min(walls)
                print(f"  {tool:30} {min(walls):10.2f} {statistics.median(walls):7.2f} {min(one[1] for one in list_):6.2f} {max(one[2] for one in list_):8.0f} {min(walls) / ours:7.2f}", flush=True)
            print(f"  written by ours: {written(tools['udocker (ours), no sync'], name) / 1e6:.0f} MB", flush=True)
    finally:
        server.terminate()
        subprocess.run(["umount", "-q", MNT])
        subprocess.run(["umount", "-q", f"{W}/ram"])
        shutil.rmtree(W, ignore_errors=True)


main()
