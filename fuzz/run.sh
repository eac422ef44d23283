#!/bin/sh
# run.sh SECONDS [TARGET…]: hostile input for so long each, where libFuzzer leads; needs cargo-fuzz and a C++ compiler.
#
# The compiler is the stable one, allowed to take the unstable options that cargo-fuzz gives it. What libFuzzer finds worth
# keeping goes to fuzz/corpus-found, what breaks a target to fuzz/artifacts.
set -eu
seconds=${1:?usage: run.sh SECONDS [TARGET…]}
shift
cd "$(dirname "$0")/.."
export RUSTC_BOOTSTRAP=1
# AddressSanitizer looks over the shoulders of the C libraries that decompress, where its runtime came with the compiler.
sanitizer=none
for runtime in "$(rustc --print sysroot)"/lib/rustlib/*/lib/librustc-*_rt.asan.a; do
  [ ! -e "$runtime" ] || sanitizer=address
done
[ $# -gt 0 ] || set -- $(cargo fuzz list)
for target; do
  found=fuzz/corpus-found/$target
  mkdir -p "$found"
  cargo fuzz run --sanitizer "$sanitizer" "$target" "$found" "fuzz/corpus/$target" -- \
    -max_total_time="$seconds" -timeout=60 -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1
done
