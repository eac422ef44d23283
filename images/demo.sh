#!/bin/sh
# demo.sh PROGRAM: busybox from Docker Hub, or where there is no network from this machine's own packages, and a shell
# in it; a few commands where there is no terminal.
set -eu
program=$(realpath "${1:?usage: demo.sh PROGRAM}")
cd "$(dirname "$0")/.."

sudo=
if [ "$(id -u)" != 0 ] && command -v sudo >/dev/null; then
  echo "Containers are started as root, through sudo."
  sudo=sudo
fi
mydocker() {
  $sudo "$program" "$@"
}

if ! mydocker inspect busybox >/dev/null 2>&1 && ! mydocker pull busybox; then
  echo "Docker Hub cannot be reached: making busybox out of this machine's own packages instead."
  images/busybox.sh out
  mydocker import out/busybox.tar
fi
if [ -t 0 ] && [ -t 1 ]; then
  echo "A shell in a container; exit leaves it:"
  mydocker run --rm -it busybox /bin/sh
else
  mydocker run --rm busybox /bin/sh -c 'echo "Hello from $(hostname), a container of mydocker."; id; ps; mount'
fi
