#!/bin/sh
# demo.sh PROGRAM: the demo as a new user has it, without a terminal, in a store of its own.
set -eu
if [ "$(id -u)" != 0 ]; then
  [ "${CI:-}" != true ] || { echo "demo.sh: the demo needs root, which CI has" >&2; exit 1; }
  echo "skipped: the demo, since it needs root" >&2
  exit 0
fi
MYDOCKER_ROOT=$(mktemp -d -p /var/tmp)
export MYDOCKER_ROOT
trap 'rm -rf "$MYDOCKER_ROOT"' EXIT
"$(dirname "$0")/../images/demo.sh" "$1" </dev/null 2>&1 | tee "$MYDOCKER_ROOT/said"
grep -q '^Hello from .*, a container of mydocker.$' "$MYDOCKER_ROOT/said"
