#!/usr/bin/env python3
"""layered.py DIR: makes DIR/layered, an OCI layout of one image whose ten layers hold all that layers can hold.

Whiteouts, opaque directories, hard links within and across layers, extended attributes, file capabilities, names that
are long or not UTF-8, sparse files, odd modes, device nodes, FIFOs, changes of type between layers,
times with nanoseconds; one layer is not compressed and one is a gzip stream of many members.
"""

import io
import os
import sys
import tarfile
import tempfile

import oci

MTIME = 1700000000
# struct vfs_cap_data (linux/capability.h), revision 2, effective bit set, with CAP_NET_BIND_SERVICE permitted.
CAPABILITY = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
LONG = "long-" + "n" * 200
DEEP = "/".join(["deep-" + letter * 60 for letter in "abcdef"])


class Layer:
    """A layer tar that is being written."""

    def __init__(self, path, tar_format=tarfile.PAX_FORMAT):
        self.tar = tarfile.open(path, "w", format=tar_format, encoding="utf-8", errors="surrogateescape")

    def add(self, name, kind, data=b"", pax=None, **fields):
        """Adds an entry; `fields` are those of tarfile.TarInfo."""
        info = tarfile.TarInfo(name)
        info.type, info.size, info.mtime = kind, len(data), MTIME
        info.mode = {tarfile.DIRTYPE: 0o755, tarfile.SYMTYPE: 0o777}.get(kind, 0o644)
        info.pax_headers = pax or {}
        for field, value in fields.items():
            setattr(info, field, value)
        self.tar.addfile(info, io.BytesIO(data))

    def dir(self, *names, **fields):
        """Adds directories."""
        for name in names:
            self.add(name, tarfile.DIRTYPE, **fields)

    def file(self, name, data=b"", **fields):
        """Adds a regular file."""
        self.add(name, tarfile.REGTYPE, data.encode() if isinstance(data, str) else data, **fields)

    def link(self, name, target):
        """Adds a hard link."""
        self.add(name, tarfile.LNKTYPE, linkname=target)

    def symlink(self, name, target, **fields):
        """Adds a symbolic link."""
        self.add(name, tarfile.SYMTYPE, linkname=target, **fields)

    def whiteout(self, *names):
        """Removes names of lower layers."""
        for name in names:
            folder, base = os.path.split(name)
            self.file(os.path.join(folder, ".wh." + base))

    def opaque(self, folder):
        """Hides what lower layers have in `folder`."""
        self.file(folder + "/.wh..wh..opq")

    def sparse_pax(self, name, segments, size):
        """Adds a sparse file in PAX format 1.0: the map precedes the data."""
        numbers = [len(segments)] + [n for offset, chunk in segments for n in (offset, len(chunk))]
        table = "".join(f"{number}\n" for number in numbers).encode()
        table += b"\0" * (-len(table) % tarfile.BLOCKSIZE)
        pax = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": name,
            "GNU.sparse.realsize": str(size),
        }
        self.file("GNUSparseFile.0/" + name, table + b"".join(chunk for _, chunk in segments), pax=pax)

    def close(self):
        """Ends the archive."""
        self.tar.close()


def base(layer):
    """A plain tree for the other layers to change."""
    layer.dir(".", "bin", "etc", "usr", "usr/lib", "var", "tree", "tree/one", "tree/two", "opaque", "opaque/sub", "types")
    layer.dir("tmp", mode=0o1777)
    layer.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
    layer.file("etc/changed", "the first version\n")
    layer.file("etc/removed", "gone later\n")
    layer.symlink("lib", "usr/lib")
    layer.file("usr/lib/libone.so", b"\x7fELF" + bytes(range(256)) * 40)
    for name in ("tree/one/a", "tree/one/b", "tree/two/c", "opaque/low", "opaque/sub/low"):
        layer.file(name, name + "\n")
    for name in ("to-dir", "to-symlink", "to-fifo"):
        layer.file("types/" + name, "a file\n")
    layer.dir("types/dir-to-file", "types/dir-to-symlink", "types/dir-to-file/inner")
    layer.file("types/dir-to-file/inner/file", "deep\n")
    layer.file("types/dir-to-symlink/file", "inside\n")
    layer.symlink("types/symlink-to-dir", "../etc")
    layer.symlink("types/symlink-to-file", "../etc/passwd")


def metadata(layer):
    """Modes, owners, times and extended attributes."""
    layer.dir("meta")
    for mode in (0o000, 0o001, 0o444, 0o777, 0o1755, 0o2755, 0o4755, 0o6711, 0o7777):
        layer.file(f"meta/mode-{mode:04o}", f"{mode:04o}\n", mode=mode)
        layer.dir(f"meta/dir-{mode:04o}", mode=mode)
    for uid, gid in ((0, 0), (1, 2), (1000, 1000), (65534, 65534), (65535, 3)):
        layer.file(f"meta/owner-{uid}-{gid}", "owned\n", uid=uid, gid=gid)
    layer.file("meta/owner-setuid", "owned\n", uid=1000, gid=1000, mode=0o6755)
    layer.dir("meta/owner-dir", uid=1000, gid=1000, mode=0o750)
    layer.symlink("meta/owner-symlink", "nowhere", uid=1000, gid=1000)
    layer.file("meta/time-ns", "now\n", pax={"mtime": "1500000000.123456789"})
    layer.file("meta/time-tenth", "now\n", pax={"mtime": "1500000000.1"})
    layer.file("meta/time-zero", "then\n", mtime=0)
    layer.dir("meta/time-dir", pax={"mtime": "1400000000.987654321"})
    layer.file("meta/time-dir/child", "made after its folder\n")
    layer.symlink("meta/time-symlink", "nowhere", pax={"mtime": "1300000000.5"})
    layer.file("meta/xattr", "attributes\n", pax={
        "SCHILY.xattr.user.mydocker": "a value",
        "SCHILY.xattr.user.unicode": "h\u00e4\u00df",
    })
    layer.dir("meta/xattr-dir", pax={"SCHILY.xattr.user.mydocker": "of a folder"})
    layer.file("meta/capable", "#!/bin/sh\n", mode=0o755, pax={"SCHILY.xattr.security.capability": CAPABILITY})


def names(layer):
    """Long names and links."""
    layer.dir("names", "names/" + LONG)
    layer.file(f"names/{LONG}/{LONG}", "long\n")
    path = "names"
    for part in DEEP.split("/"):
        path += "/" + part
        layer.dir(path)
    layer.file(path + "/file", "deep\n")
    layer.link(path + "/hard", path + "/file")
    layer.symlink("names/long-target", DEEP + "/file")
    layer.file("names/" + "m" * 255, "as long as a name can be\n")
    for name in ("with space", "with\nnewline", "with\\backslash", "h\u00e4\u00df\u20ac", "-dash", "star*", "q'uo\"te"):
        layer.file("names/" + name, name + "\n")


def bytes_in_names(layer):
    """Names that are not UTF-8, which the GNU format takes as they are."""
    layer.dir("bytes")
    layer.file("bytes/latin-\udce4", "latin\n")
    layer.file("bytes/" + "\udcff" * 150, "long latin\n")
    layer.symlink("bytes/link-\udce4", "latin-\udce4")


def special(layer):
    """What is neither file, directory nor symbolic link; and sparse files."""
    layer.dir("special", "links")
    layer.add("special/fifo", tarfile.FIFOTYPE, mode=0o600)
    layer.add("special/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
    layer.add("special/sda", tarfile.BLKTYPE, devmajor=8, devminor=0, mode=0o660, gid=6)
    layer.file("links/first", "shared\n")
    layer.link("links/second", "links/first")
    layer.link("links/third", "links/second")
    layer.add("links/fifo-first", tarfile.FIFOTYPE)
    layer.link("links/fifo-second", "links/fifo-first")
    layer.sparse_pax("special/sparse", [(4096, b"x" * 1024), (1 << 20, b"y"), (3 << 20, b"")], 3 << 20)
    layer.file("special/big", bytes(range(251)) * 8000)
    layer.file("special/empty", "")


def removals(layer):
    """Whiteouts of files and folders, opaque folders, links to what lower layers have."""
    layer.whiteout("etc/removed", "tree/one")
    layer.dir("opaque")
    layer.opaque("opaque")
    layer.file("opaque/high", "seen\n")
    layer.link("links/across", "links/first")
    layer.link("usr/lib/libtwo.so", "usr/lib/libone.so")
    # There is no entry for `lib`, which is a symbolic link below: this must end in usr/lib.
    layer.file("lib/through-link", "in usr/lib\n")


def types(layer):
    """Each name becomes something else."""
    layer.dir("types/to-dir")
    layer.file("types/to-dir/file", "inside\n")
    layer.symlink("types/to-symlink", "../etc/passwd")
    layer.add("types/to-fifo", tarfile.FIFOTYPE)
    layer.file("types/dir-to-file", "a file now\n")
    layer.symlink("types/dir-to-symlink", "../tree")
    layer.dir("types/symlink-to-dir")
    layer.file("types/symlink-to-dir/file", "inside\n")
    layer.file("types/symlink-to-file", "a file now\n")


def changes(layer):
    """New versions of files, new metadata of folders, and names that come back."""
    layer.file("etc/changed", "the second version, which is longer\n", mode=0o600, mtime=MTIME + 60)
    layer.dir("tree", mode=0o700, uid=7, gid=8, mtime=MTIME + 120)
    layer.dir("tree/one", mtime=MTIME + 180)
    layer.file("tree/one/back", "again\n")
    layer.file("links/first", "no longer shared\n")


def opaque_again(layer):
    """An opaque marker behind the entries of its own layer, and whiteouts of what is not there."""
    layer.dir("opaque/sub")
    layer.file("opaque/sub/new", "seen\n")
    layer.opaque("opaque/sub")
    layer.whiteout("etc/never-was", "tree/two/c")


def last(layer):
    """A small layer on top, as images usually have."""
    layer.file("etc/last", "last\n")


def main():
    """Makes the image."""
    out = os.path.join(sys.argv[1], "layered")
    layout = oci.Layout(out)
    recipe = [
        (base, "gzip", tarfile.PAX_FORMAT),
        (metadata, "gzip", tarfile.PAX_FORMAT),
        (names, "gzip", tarfile.PAX_FORMAT),
        (bytes_in_names, "gzip", tarfile.GNU_FORMAT),
        (special, "gzip-members", tarfile.PAX_FORMAT),
        (removals, "gzip", tarfile.USTAR_FORMAT),
        (types, "none", tarfile.GNU_FORMAT),
        (changes, "gzip", tarfile.PAX_FORMAT),
        (opaque_again, "gzip", tarfile.PAX_FORMAT),
        (last, "gzip", tarfile.USTAR_FORMAT),
    ]
    layers = []
    with tempfile.TemporaryDirectory() as work:
        for fill, compression, tar_format in recipe:
            path = os.path.join(work, fill.__name__)
            layer = Layer(path, tar_format)
            fill(layer)
            layer.close()
            layers.append(layout.layer(path, compression))
    config = {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]}
    layout.name(layout.image(layers, config), "latest")
    layout.close()


if __name__ == "__main__":
    main()
