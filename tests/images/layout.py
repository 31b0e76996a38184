"""An OCI layout of three layers, tag `t`: argv = LAYOUT BASE_TAR [CODEC [TEXT]].

The third layer hides a file, empties a directory, adds. CODEC: gzip, zstd, plain. With TEXT the file /etc/new holds it,
and the configuration claims the diff IDs of the image that was made without.
"""
import gzip, hashlib, io, json, os, subprocess, sys, tarfile

layout, base = sys.argv[1:3]
codec = sys.argv[3] if len(sys.argv) > 3 else "gzip"
text = sys.argv[4] + "\n" if len(sys.argv) > 4 else "new\n"
PACK = {
    "gzip": ("tar+gzip", lambda data: gzip.compress(data, 1, mtime=0)),
    "zstd": ("tar+zstd", lambda data: subprocess.run(["zstd", "-qc"], input=data, stdout=subprocess.PIPE, check=True).stdout),
    "plain": ("tar", lambda data: data),
}
suffix, pack = PACK[codec]
os.makedirs(f"{layout}/blobs/sha256")


def put(data):
    digest = hashlib.sha256(data).hexdigest()
    with open(f"{layout}/blobs/sha256/{digest}", "wb") as out:
        out.write(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}


def tar(entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind, content in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mtime, info.mode = kind, 1700000000, 0o755 if kind == tarfile.DIRTYPE else 0o644
            if kind == tarfile.SYMTYPE:
                info.linkname = content
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content.encode()) if kind == tarfile.REGTYPE else None)
    return out.getvalue()


FILE, DIRECTORY, LINK = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE


def three(new):
    return [
        open(base, "rb").read(),
        tar([("opq", DIRECTORY, ""), ("opq/before", FILE, "b"), ("link", FILE, "a file")]),
        tar([("opq/.wh..wh..opq", FILE, ""), ("opq/after", FILE, "a"), ("etc/.wh.group", FILE, ""),
             ("etc/new", FILE, new), ("link", LINK, "target")]),
    ]


layers = [{"mediaType": f"application/vnd.oci.image.layer.v1.{suffix}", **put(pack(t))} for t in three(text)]
config = put(json.dumps({"architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
                         "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(t).hexdigest() for t in three("new\n")]}}).encode())
manifest = put(json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                           "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config}, "layers": layers}).encode())
index = {"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", **manifest,
                                            "annotations": {"org.opencontainers.image.ref.name": "t"}}]}
json.dump(index, open(f"{layout}/index.json", "w"))
open(f"{layout}/oci-layout", "w").write('{"imageLayoutVersion":"1.0.0"}')
