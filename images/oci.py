#!/usr/bin/env python3
"""Writes OCI image layouts (image-spec, image-layout.md) out of layer tars, the same bytes for the same input.

As a program:
    oci.py LAYOUT [--ref NAME] [--cmd WORD]... [--entrypoint WORD]... [--env NAME=VALUE]... [--user USER]
           [--workdir DIR] [--stop-signal NAME] TAR...
makes an image of these layers, base first, gzip-compressed, and calls it NAME (latest).
"""

import argparse
import gzip
import hashlib
import json
import os
import platform
import zlib

OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."
INDEX = {"oci": OCI + "index.v1+json", "docker": DOCKER + "distribution.manifest.list.v2+json"}
MANIFEST = {"oci": OCI + "manifest.v1+json", "docker": DOCKER + "distribution.manifest.v2+json"}
CONFIG = {"oci": OCI + "config.v1+json", "docker": DOCKER + "container.image.v1+json"}
LAYER = {"oci": OCI + "layer.v1.tar", "docker": DOCKER + "image.rootfs.diff.tar"}
GZIP = {"oci": "+gzip", "docker": ".gzip"}
CREATED = "2024-01-01T00:00:00Z"


def host_architecture():
    """This machine's architecture in Go's words, which the image-spec uses."""
    names = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
    return names.get(platform.machine(), platform.machine())


class Layout:
    """An OCI image layout that is being written."""

    def __init__(self, path):
        self.path = path
        self.refs = []
        os.makedirs(os.path.join(path, "blobs", "sha256"), exist_ok=True)

    def blob(self, data, media_type, **extra):
        """Stores a small blob and returns its descriptor."""
        digest = hashlib.sha256(data).hexdigest()
        with open(os.path.join(self.path, "blobs", "sha256", digest), "wb") as file:
            file.write(data)
        return {"mediaType": media_type, "digest": "sha256:" + digest, "size": len(data), **extra}

    def document(self, value, media_type, **extra):
        """Stores a JSON document and returns its descriptor."""
        return self.blob(json.dumps(value, sort_keys=True).encode(), media_type, **extra)

    def layer(self, tar, compression="gzip", kind="oci"):
        """Stores a layer from a tar file and returns its descriptor and DiffID."""
        packed, diff_id, size = hashlib.sha256(), hashlib.sha256(), 0
        # A gzip stream without name and time: 31 asks zlib for the gzip format, whose header it leaves empty.
        deflate = zlib.compressobj(6, zlib.DEFLATED, 31)
        temporary = os.path.join(self.path, "blobs", "sha256", "new")
        with open(tar, "rb") as source, open(temporary, "wb") as target:
            def put(data):
                nonlocal size
                packed.update(data)
                size += target.write(data)
            while chunk := source.read(1 << 20):
                diff_id.update(chunk)
                if compression == "gzip":
                    put(deflate.compress(chunk))
                elif compression == "gzip-members":
                    put(gzip.compress(chunk, mtime=0))
                else:
                    put(chunk)
            if compression == "gzip":
                put(deflate.flush())
        os.rename(temporary, os.path.join(self.path, "blobs", "sha256", packed.hexdigest()))
        media_type = LAYER[kind] + ("" if compression == "none" else GZIP[kind])
        descriptor = {"mediaType": media_type, "digest": "sha256:" + packed.hexdigest(), "size": size}
        return descriptor, "sha256:" + diff_id.hexdigest()

    def image(self, layers, config=None, architecture=None, variant=None, kind="oci", **extra):
        """Stores configuration and manifest of an image of `layers`, as Layout.layer returns them."""
        where = {"architecture": architecture or host_architecture(), "os": "linux"}
        if variant:
            where["variant"] = variant
        document = {
            **where,
            "created": CREATED,
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST[kind],
            "config": self.document(document, CONFIG[kind]),
            "layers": [descriptor for descriptor, _ in layers],
        }
        return self.document(manifest, MANIFEST[kind], platform=where, **extra)

    def index(self, manifests, kind="oci", **extra):
        """Stores an index of `manifests`."""
        document = {"schemaVersion": 2, "mediaType": INDEX[kind], "manifests": manifests}
        return self.document(document, INDEX[kind], **extra)

    def name(self, descriptor, ref):
        """Gives a manifest or index a name in this layout."""
        annotations = {"org.opencontainers.image.ref.name": ref}
        self.refs.append({**descriptor, "annotations": annotations})

    def close(self):
        """Writes what makes the folder a layout."""
        index = {"schemaVersion": 2, "mediaType": INDEX["oci"], "manifests": self.refs}
        with open(os.path.join(self.path, "index.json"), "w", encoding="ascii") as file:
            json.dump(index, file)
        with open(os.path.join(self.path, "oci-layout"), "w", encoding="ascii") as file:
            json.dump({"imageLayoutVersion": "1.0.0"}, file)


def main():
    """Makes one image of whole layer tars."""
    parser = argparse.ArgumentParser(description="Writes an OCI image layout out of layer tars.")
    parser.add_argument("layout")
    parser.add_argument("tar", nargs="+")
    parser.add_argument("--ref", default="latest")
    parser.add_argument("--cmd", action="append", default=[])
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("--entrypoint", action="append")
    parser.add_argument("--user")
    parser.add_argument("--workdir")
    parser.add_argument("--stop-signal")
    args = parser.parse_args()
    layout = Layout(args.layout)
    config = {"Env": args.env, "Cmd": args.cmd}
    more = {"Entrypoint": args.entrypoint, "User": args.user, "WorkingDir": args.workdir, "StopSignal": args.stop_signal}
    config.update((name, value) for name, value in more.items() if value)
    layout.name(layout.image([layout.layer(tar) for tar in args.tar], config), args.ref)
    layout.close()


if __name__ == "__main__":
    main()
