#!/bin/sh
# Installs what the tests use, on Debian and Ubuntu, as root or through sudo. Elsewhere it says what is missing, and the
# tests that need it say that they are skipped.
set -eu
# A compiler for the crates with C in them; registries, peers and tools to compare with; what fills and packs images; engines.
packages="gcc libc6-dev binutils curl docker-registry podman skopeo umoci apache2-utils openssl python3 busybox-static
  debootstrap attr e2fsprogs uidmap libcap2-bin util-linux gzip bzip2 xz-utils zstd libseccomp-dev procps conmon containerd docker.io
  runc crun iptables iproute2 netavark aardvark-dns catatonit containernetworking-plugins python3-grpcio strace"

missing=
for package in $packages; do
  dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q ' installed$' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
  echo "skipped: there is no apt-get here to install:$missing" >&2
  exit 0
fi
sudo=
if [ "$(id -u)" != 0 ]; then
  if ! sudo -n true 2>/dev/null; then
    echo "skipped: not root, and sudo asks for a password: not installing:$missing" >&2
    exit 0
  fi
  sudo=sudo
fi
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
# Word splitting is what turns the list into arguments.
$sudo apt-get install -qq --no-install-recommends $missing
# The tests start daemons of their own. Those that came with these packages are of no use; any other is somebody's.
[ -d /run/systemd/system ] || exit 0
for package in $missing; do
  case $package in
    docker-registry | containerd) $sudo systemctl disable --quiet --now "$package" 2>/dev/null || true ;;
    docker.io) $sudo systemctl disable --quiet --now docker.socket docker 2>/dev/null || true ;;
  esac
done
