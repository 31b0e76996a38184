"""Turns a stored manifest into one of Docker's schema 1, whose configuration lies in its history."""
import json
import os
import sys

path = sys.argv[1]
manifest = json.load(open(path))
with open(os.path.join(os.path.dirname(path), manifest["config"]["digest"])) as file:
    config = json.load(file)
layers = [layer["digest"] for layer in reversed(manifest["layers"])]
history = [{"id": str(number) * 64} for number, _ in enumerate(layers)]
history[0].update(config)
json.dump(
    {
        "schemaVersion": 1,
        "name": "test/bb",
        "tag": "latest",
        "architecture": config["architecture"],
        "fsLayers": [{"blobSum": digest} for digest in layers],
        "history": [{"v1Compatibility": json.dumps(entry)} for entry in history],
    },
    open(path, "w"),
)
