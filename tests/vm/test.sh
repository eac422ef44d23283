#!/bin/bash
# test.sh [--lib] [--test NAME]... [TEST-ARGUMENT...]: runs the tests in the virtual machine of tests/vm/vm, by this folder's
# path, with what was built here: the test programs are linked statically and need nothing there. The first two say which
# programs, as they do to Cargo.
set -euo pipefail
targets=()
while :; do
  case ${1:-} in
    --lib) targets+=("$1") && shift ;;
    --test) targets+=("$1" "$2") && shift 2 ;;
    *) break ;;
  esac
done
cd "$(dirname "$0")/../.."
repository=$PWD
payload=${CARGO_TARGET_DIR:-target}/vm
tests/vm/vm setup
tests/support/fixtures.sh target/test-images

programs=$(cargo test --locked --no-run "${targets[@]}" 2>&1 | tee /dev/stderr | sed -n 's/^ *Executable .*(\(.*\))$/\1/p')
[ -n "$programs" ] || { echo "test.sh: nothing was built" >&2; exit 1; }
mydocker=$(dirname "$(dirname "$(echo "$programs" | head -n1)")")/mydocker

rm -rf "$payload" && mkdir -p "$payload/repository"
cp --parents -r Cargo.toml docs fuzz/corpus images src tests "$payload/repository"
cp --parents -a target/test-images "$payload/repository"
for program in $programs $mydocker; do
  mkdir -p "$payload/repository/$(dirname "$program")"
  strip --strip-debug -o "$payload/repository/$program" "$program"
done
cat >"$payload/job.sh" <<END
mkdir -p '$(dirname "$repository")' && ln -s /t/repository '$repository' && cd '$repository'
# The processor is emulated.
export MYDOCKER_TEST_SLOWNESS=10 MYDOCKER_TEST_PREBUILT=1
failed=0
for program in $(echo $programs); do
  echo "== \$program"
  \$program --color never $(printf '%q ' "$@") || failed=1
done
exit \$failed
END
tests/vm/vm run "$payload" "${MYDOCKER_VM_SECONDS:-3600}"
