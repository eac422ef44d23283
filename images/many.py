#!/usr/bin/env python3
"""many.py DIR: makes, out of DIR/busybox.tar, two OCI layouts of images that belong together.

DIR/platforms: `oci`, an index in which an attestation comes first and the images lie in a second, nested index, and
`docker`, a manifest list. Both offer this machine's architecture, arm/v6, arm/v7 and s390x; the file /platform in each
image names its own.

DIR/variants: `v1` to `v8`, which share the layer of busybox and have one of 2 MiB each of their own.
"""

import io
import os
import random
import sys
import tarfile
import tempfile

import oci

PLATFORMS = [("arm", "v6"), ("s390x", None), (oci.host_architecture(), None), ("arm", "v7")]
CONFIG = {"Cmd": ["sh"], "Env": ["PATH=/bin"]}


def single_file(work, name, data):
    """A layer tar that holds one file."""
    path = os.path.join(work, name)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        info = tarfile.TarInfo(name)
        info.size, info.mtime = len(data), 1700000000
        tar.addfile(info, io.BytesIO(data))
    return path


def platforms(layout, busybox, work):
    """Images for several platforms, once in OCI's and once in Docker's form."""
    for kind in ("oci", "docker"):
        shared = layout.layer(busybox, kind=kind)
        images = []
        for architecture, variant in PLATFORMS:
            name = "/".join(filter(None, ["linux", architecture, variant]))
            own = layout.layer(single_file(work, "platform", f"{name}\n".encode()), kind=kind)
            images.append(layout.image([shared, own], CONFIG, architecture, variant, kind))
        if kind == "oci":
            annotations = {
                "vnd.docker.reference.type": "attestation-manifest",
                "vnd.docker.reference.digest": images[0]["digest"],
            }
            attestation = layout.image([layout.layer(single_file(work, "attestation", b"{}"))], annotations=annotations)
            attestation["platform"] = {"architecture": "unknown", "os": "unknown"}
            nested = layout.index(images)
            layout.name(layout.index([attestation, nested]), "oci")
        else:
            layout.name(layout.index(images, kind), "docker")


def variants(layout, busybox, work):
    """Images that share their first layer."""
    shared = layout.layer(busybox)
    for number in range(1, 9):
        # It must not compress, and must be the same each time.
        data = random.Random(number).randbytes(2 << 20)
        own = layout.layer(single_file(work, "variant", data))
        layout.name(layout.image([shared, own], CONFIG), f"v{number}")


def main():
    """Makes both layouts."""
    out = sys.argv[1]
    busybox = os.path.join(out, "busybox.tar")
    with tempfile.TemporaryDirectory() as work:
        for fill in (platforms, variants):
            layout = oci.Layout(os.path.join(out, fill.__name__))
            fill(layout, busybox, work)
            layout.close()


if __name__ == "__main__":
    main()
