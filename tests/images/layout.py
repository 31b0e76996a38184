"""An OCI layout of two layers, tag `t`: argv = LAYOUT BASE_TAR. The second hides a file, empties a directory, adds."""
import gzip, hashlib, io, json, os, sys, tarfile

layout, base = sys.argv[1:]
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
tars = [
    open(base, "rb").read(),
    tar([("opq", DIRECTORY, ""), ("opq/before", FILE, "b"), ("link", FILE, "a file")]),
    tar([("opq/.wh..wh..opq", FILE, ""), ("opq/after", FILE, "a"), ("etc/.wh.group", FILE, ""), ("etc/new", FILE, "new\n"), ("link", LINK, "target")]),
]
layers = [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", **put(gzip.compress(t, 1, mtime=0))} for t in tars]
config = put(json.dumps({"architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
                         "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(t).hexdigest() for t in tars]}}).encode())
manifest = put(json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                           "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config}, "layers": layers}).encode())
index = {"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", **manifest,
                                            "annotations": {"org.opencontainers.image.ref.name": "t"}}]}
json.dump(index, open(f"{layout}/index.json", "w"))
open(f"{layout}/oci-layout", "w").write('{"imageLayoutVersion":"1.0.0"}')
