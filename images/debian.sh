#!/bin/sh
# debian.sh DIR [SUITE]: makes DIR/debian.tar, a minimal Debian (or Ubuntu) root filesystem, with debootstrap, as root.
#
# Suite and mirror are those that this machine's apt uses, unless DEBIAN_MIRROR names another mirror.
set -eu
umask 022
out=${1:?usage: debian.sh DIR [SUITE]}
suite=${2:-$(. /etc/os-release && echo "$VERSION_CODENAME")}
[ "$(id -u)" = 0 ] || { echo "debian.sh: debootstrap needs root" >&2; exit 1; }
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
  awk -v suite="$suite" '$1 == suite && $2 == "main" { print $3; exit }')}
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d -p "$out")
trap 'rm -rf "$work"' EXIT
root=$work/root

debootstrap --variant=minbase "$suite" "$root" $mirror >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
# What differs from one run to the next, and what only takes space.
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* "$root"/tmp/* \
  "$root"/var/cache/ldconfig/aux-cache "$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old
: >"$root/etc/machine-id"
rm -f "$root/etc/resolv.conf" "$root/etc/hostname"
tar --sort=name --numeric-owner --xattrs --xattrs-include='*' --clamp-mtime --mtime=@1704067200 \
  --format=posix --pax-option=delete=atime,delete=ctime -C "$root" -cf "$work/debian.tar" .
mv "$work/debian.tar" "$out/debian.tar"
