#!/bin/sh
# large.sh DIR: makes DIR/large, an OCI layout of an image of about 1.2 GB in two layers: DIR/debian.tar below, compilers
# and libraries above; and DIR/large-sibling, which has the same base and a small layer of its own. For `make bench`.
#
# The packages are unpacked and not installed: it is their files that count.
set -eu
umask 022
out=${1:?usage: large.sh DIR}
images=$(cd "$(dirname "$0")" && pwd)
out=$(cd "$out" && pwd)
wanted="golang-go clang default-jdk-headless libboost-dev linux-headers-$(dpkg --print-architecture) python3-sphinx perl-doc
  gfortran"
work=$(mktemp -d -p "$out")
trap 'rm -rf "$work"' EXIT

mkdir "$work/root" "$work/packages" "$work/own"
# An empty status file: all that they depend on, whatever is installed here.
packages=$(apt-get -qq --no-install-recommends -s -o Dir::State::status=/dev/null install $wanted |
  awk '/^Inst/ { print $2 }')
(cd "$work/packages" && apt-get -qq -o APT::Sandbox::User=root download $packages)
for package in "$work"/packages/*.deb; do
  dpkg-deb --extract "$package" "$work/root"
  rm "$package"
done
pack() {
  tar --sort=name --numeric-owner --owner=0 --group=0 --clamp-mtime --mtime=@1704067200 --format=posix \
    --pax-option=delete=atime,delete=ctime -C "$1" -cf "$2" .
}
pack "$work/root" "$work/upper.tar"
rm -rf "$work/root"
head -c 20000000 /dev/urandom >"$work/own/data"
pack "$work/own" "$work/own.tar"
rm -rf "$out/large" "$out/large-sibling"
"$images/oci.py" "$work/large" "$out/debian.tar" "$work/upper.tar"
"$images/oci.py" "$work/sibling" "$out/debian.tar" "$work/upper.tar" "$work/own.tar"
mv "$work/upper.tar" "$out/large.tar"
mv "$work/large" "$out/large"
mv "$work/sibling" "$out/large-sibling"
