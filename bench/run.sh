#!/bin/bash
# run.sh PROGRAM [NAME...]: measures PROGRAM beside its peers on this machine, as root, and prints tables with ratios.
#
#   pull    Debian from a registry on loopback: peers, and curl, gzip and tar of the same layer as the floor
#   large   the same with an image of about 1.5 GB in two layers, and one that has both of them and a small one of its own
#   import  a root filesystem tar of about 1.4 GB: tar -x of it as the floor
#   run     start and finish `true`: peers with a prepared bundle or image
#   memory  the largest size of a pull in memory
#   many    200 detached containers: started one by one and 16 at a time, listed, their monitors' memory, removed
#   oci     the commands that engines give: create, start and delete; run; exec; and the memory that they take
#
# The commands take turns within one run, so what else the machine does meets them all alike. Every pull goes to a
# freshly made ext4, since ext4 does not use again what was deleted a moment ago. Numbers are medians. A peer that is
# missing is left out, and named.
set -euo pipefail
program=$(realpath "${1:?usage: run.sh PROGRAM [pull|large|import|run|many|memory|oci]...}")
shift
self=$(realpath "$0")
cd "$(dirname "$self")/.."
[ "$(id -u)" = 0 ] || { echo "run.sh: this needs root: mounts, and containers without a user namespace" >&2; exit 1; }
if [ -z "${MYDOCKER_BENCH_INNER:-}" ]; then
  # A mount namespace of its own, which takes every mount away when it ends.
  MYDOCKER_BENCH_INNER=1 exec unshare --mount --propagation private "$self" "$program" "$@"
fi
# Older crun takes a host with both cgroup versions for broken; what is not mounted does not disturb it.
! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified
fixtures=$PWD/target/test-images
tests/support/fixtures.sh "$fixtures"
work=$(mktemp -d /var/tmp/mydocker-bench.XXXXXX)
cleanup() {
  [ -z "${registry:-}" ] || kill "$registry" 2>/dev/null || true
  umount -q "$work/disk" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
mkdir "$work/disk"
export LC_ALL=C
declare -A times left_out
order=()

has() {
  command -v "$1" >/dev/null
}

# lap NAME COMMAND...: runs it and notes its microseconds under NAME. One that fails is left out from then on.
lap() {
  local name=$1 before after
  shift
  [ -z "${left_out[$name]:-}" ] || return 0
  before=${EPOCHREALTIME/./}
  if "$@" >"$work/log" 2>&1 </dev/null; then
    after=${EPOCHREALTIME/./}
    [ -n "${times[$name]:-}" ] || order+=("$name")
    times[$name]+="$((after - before)) "
  else
    left_out[$name]="it failed: $(tail -n 1 "$work/log")"
  fi
}

# peer NAME PROGRAM COMMAND...: a lap of a program that may be missing.
peer() {
  local name=$1 needed=$2
  shift 2
  if has "$needed"; then
    lap "$name" "$@"
  else
    left_out[$name]="$needed is not installed"
  fi
}

median() {
  tr ' ' '\n' | grep . | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

# table TITLE NAME: prints all times, and how long each takes in units of the one called NAME.
table() {
  local title=$1 unit name middle
  unit=$(median <<<"${times[$2]}")
  printf '\n%s\n%-44s %10s %8s\n' "$title" "" "median ms" "× $2"
  for name in "${order[@]}"; do
    middle=$(median <<<"${times[$name]}")
    awk -v name="$name" -v middle="$middle" -v unit="$unit" \
      'BEGIN { printf "%-44s %10.1f %8.2f\n", name, middle / 1000, middle / unit }'
  done
  for name in "${!left_out[@]}"; do
    printf '%-44s left out: %s\n' "$name" "${left_out[$name]}"
  done
  times=() order=() left_out=()
}

fresh_disk() {
  umount -q "$work/disk" 2>/dev/null || true
  # It has all its blocks, as a real disk: those of a sparse file have to be found when they are first written.
  [ -e "$work/image" ] || dd if=/dev/zero of="$work/image" bs=4M count=2048 oflag=direct status=none
  # As a disk of its own: otherwise all that is written to it is copied once more, into the page cache of the file.
  device=$(losetup --find --show --direct-io=on "$work/image")
  mke2fs -q -F -t ext4 -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 "$device"
  mount "$device" "$work/disk"
  # It goes when it is unmounted.
  losetup --detach "$device"
  # What the last one left to be written is not for the next one to wait for.
  sync
}

start_registry() {
  port=$(tests/support/free-port.py)
  cat >"$work/registry.yml" <<END
version: 0.1
log: { level: error, accesslog: { disabled: true } }
storage: { filesystem: { rootdirectory: ${1:-$fixtures/registry} }, maintenance: { readonly: { enabled: ${2:-true} } } }
http: { addr: 127.0.0.1:$port, headers: { X-Content-Type-Options: [nosniff] } }
END
  docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
  registry=$!
  for _ in $(seq 100); do curl -fs "http://127.0.0.1:$port/v2/" >/dev/null && return; sleep 0.1; done
  cat "$work/registry.log" >&2
  exit 1
}

stop_registry() {
  kill "$registry" && wait "$registry" 2>/dev/null || true
  registry=
}

# layer LAYOUT NUMBER: the digest of a layer, counted from 0 at the base.
layer() {
  python3 - "$@" <<'END'
import json, os, sys
blob = lambda d: json.load(open(os.path.join(sys.argv[1], "blobs", *d["digest"].split(":"))))
print(blob(json.load(open(sys.argv[1] + "/index.json"))["manifests"][0])["layers"][int(sys.argv[2])]["digest"])
END
}

bench_pull() {
  [ -d "$fixtures/debian" ] || { echo "left out: pull: there is no Debian image" >&2; return; }
  start_registry
  local image=127.0.0.1:$port/debian layer url
  layer=$(layer "$fixtures/debian" 0)
  url=http://127.0.0.1:$port/v2/debian/blobs/$layer
  for _ in 1 2 3 4 5; do
    fresh_disk
    lap 'curl | gzip -d | tar -x' sh -c "mkdir '$work/disk/r' && curl -fsS '$url' | gzip -d | tar -x -C '$work/disk/r'"
    fresh_disk
    lap 'mydocker pull --no-sync' "$program" --no-sync --root "$work/disk/s" pull --quiet "$image"
    fresh_disk
    lap 'mydocker pull' "$program" --root "$work/disk/s" pull --quiet "$image"
    fresh_disk
    peer 'skopeo copy + umoci unpack' umoci sh -c "skopeo --insecure-policy copy --quiet --src-tls-verify=false \
      docker://$image oci:$work/disk/l:x && umoci unpack --image $work/disk/l:x $work/disk/b"
    fresh_disk
    peer 'podman pull' podman podman --root "$work/disk/p" --runroot "$work/disk/run" --storage-driver overlay \
      pull --quiet --tls-verify=false "$image"
    umount -q "$work/disk/p/overlay" || true
  done
  stop_registry
  table "pull of Debian from loopback, fresh ext4 each time, 5 rounds" 'curl | gzip -d | tar -x'
}

# The large images in a registry's storage, made once.
large_registry() {
  [ -e "$fixtures/large-registry/made" ] && return
  [ -e "$fixtures/debian.tar" ] || { echo "left out: large: there is no Debian image" >&2; return 1; }
  images/large.sh "$fixtures" || { echo "left out: large: its packages cannot be had" >&2; return 1; }
  rm -rf "$fixtures/large-registry"
  mkdir "$fixtures/large-registry"
  start_registry "$fixtures/large-registry" false
  for name in large large-sibling; do
    skopeo copy --quiet --dest-tls-verify=false --insecure-policy --preserve-digests \
      "oci:$fixtures/$name:latest" "docker://127.0.0.1:$port/$name:latest"
  done
  stop_registry
  touch "$fixtures/large-registry/made"
}

bench_large() {
  local url floor lower upper own trees
  large_registry || return 0
  start_registry "$fixtures/large-registry"
  url=http://127.0.0.1:$port/v2/large-sibling/blobs
  lower=$(layer "$fixtures/large-sibling" 0)
  upper=$(layer "$fixtures/large-sibling" 1)
  own=$(layer "$fixtures/large-sibling" 2)
  floor="for layer in $lower $upper; do curl -fsS $url/\$layer | gzip -d | tar -x -C '$work/disk/r'; done"
  for _ in 1 2 3 4 5; do
    fresh_disk
    lap 'curl | gzip -d | tar -x' sh -c "mkdir '$work/disk/r' && $floor"
    fresh_disk
    lap 'mydocker pull --no-sync' "$program" --no-sync --root "$work/disk/s" pull --quiet "127.0.0.1:$port/large"
    lap 'a second image with the same layers' \
      "$program" --no-sync --root "$work/disk/s" pull --quiet "127.0.0.1:$port/large-sibling"
    trees=("$work"/disk/s/trees/*/)
    lap 'its links alone, by one thread: cp -al' cp -al "${trees[0]}" "$work/disk/linked"
    mkdir "$work/disk/own"
    lap "its own layer: curl | gzip -d | tar -x" sh -c "curl -fsS $url/$own | gzip -d | tar -x -C '$work/disk/own'"
    fresh_disk
    lap 'mydocker pull' "$program" --root "$work/disk/s" pull --quiet "127.0.0.1:$port/large"
    fresh_disk
    peer 'podman pull' podman podman --root "$work/disk/p" --runroot "$work/disk/run" --storage-driver overlay \
      pull --quiet --tls-verify=false "127.0.0.1:$port/large"
    umount -q "$work/disk/p/overlay" || true
  done
  stop_registry
  table "pull of 1.5 GB in two layers from loopback, fresh ext4 each time, 5 rounds" 'curl | gzip -d | tar -x'
}

bench_import() {
  large_registry || return 0
  cat "$fixtures/large.tar" >/dev/null
  for _ in 1 2 3 4 5; do
    fresh_disk
    lap 'tar -x' sh -c "mkdir '$work/disk/r' && tar -xf '$fixtures/large.tar' -C '$work/disk/r'"
    fresh_disk
    lap 'mydocker import --no-sync' "$program" --no-sync --root "$work/disk/s" import --quiet "$fixtures/large.tar"
    fresh_disk
    lap 'mydocker import' "$program" --root "$work/disk/s" import --quiet "$fixtures/large.tar"
  done
  table "import of an uncompressed root filesystem of 1.4 GB, fresh ext4 each time, 5 rounds" 'tar -x'
}

bench_run() {
  local root=$work/run rounds=${MYDOCKER_BENCH_ROUNDS:-40} n unit
  local podman=(--root "$root/podman" --runroot "$root/podman-run" --storage-driver overlay)
  mkdir -p "$root/bundle/rootfs"
  "$program" --root "$root/store" import --quiet "$fixtures/busybox.tar" >/dev/null
  tar -xf "$fixtures/busybox.tar" -C "$root/bundle/rootfs"
  cp bench/config.json "$root/bundle/"
  if has podman; then
    podman "${podman[@]}" import --quiet "$fixtures/busybox.tar" localhost/busybox >/dev/null 2>&1
  fi
  for n in $(seq "$rounds"); do
    lap 'mydocker run --rm' "$program" --root "$root/store" run --rm busybox true
    peer 'crun run' crun crun run --bundle "$root/bundle" "bench-$n"
    peer 'crun run, without cgroups' crun crun --cgroup-manager disabled run --bundle "$root/bundle" "bench-$n"
    peer 'runc run' runc runc run --bundle "$root/bundle" "bench-$n"
    peer 'bwrap, no overlay, cgroup or seccomp' bwrap \
      bwrap --unshare-all --bind "$root/bundle/rootfs" / --proc /proc --dev /dev true
    [ $((n % 8)) != 0 ] ||
      peer 'podman run --rm --network none' podman podman "${podman[@]}" run --rm --network none --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 localhost/busybox true
  done
  unit='crun run'
  [ -n "${times[$unit]:-}" ] || unit='crun run, without cgroups'
  [ -n "${times[$unit]:-}" ] || unit='mydocker run --rm'
  table "start and finish \`true\`, $rounds rounds; crun, runc and bwrap have an unpacked bundle" "$unit"
  umount -q "$root/podman/overlay" || true
}

# start COUNT: starts so many containers that wait, and prints their ids.
start() {
  local n
  for ((n = 0; n < $1; n++)); do "$program" --root "$root" run -d busybox sleep 3600; done
}

# once NAME COMMAND...: runs it once and prints its milliseconds.
once() {
  local name=$1 before
  shift
  before=${EPOCHREALTIME/./}
  "$@" >"$work/log"
  awk -v name="$name" -v us="$((${EPOCHREALTIME/./} - before))" 'BEGIN { printf "%-44s %10.1f\n", name, us / 1000 }'
}

sixteen_at_a_time() {
  local n
  for n in $(seq 16); do start $((200 / 16 + (n <= 200 % 16))) & done
  wait
}

bench_many() {
  local root=$work/many n
  "$program" --root "$root" import --quiet "$fixtures/busybox.tar" >/dev/null
  printf '\n%-44s %10s\n' "200 detached containers" "ms"
  once 'start them, one by one' start 200
  xargs "$program" --root "$root" rm -f <"$work/log" >/dev/null
  once 'start them, 16 at a time' sixteen_at_a_time
  cp "$work/log" "$work/ids"
  for n in $(seq 20); do
    lap 'ps' "$program" --root "$root" ps
    lap 'ps -a -q' "$program" --root "$root" ps -a -q
    lap 'inspect of one' "$program" --root "$root" inspect "$(head -n 1 "$work/ids")"
  done
  # Each monitor is the one whose command line names this store.
  for n in $(grep -lszx -- "$root" /proc/[0-9]*/cmdline 2>/dev/null | cut -d / -f 3); do
    awk '/^Private/ { kb += $2 } END { print kb }' "/proc/$n/smaps_rollup" 2>/dev/null || true
  done | sort -n | awk '{ v[NR] = $1 } END { printf "%-44s %10d\n", "private memory of the largest monitor, kB", v[NR] }'
  once 'rm -f of all' xargs "$program" --root "$root" rm -f <"$work/ids"
  table "looking at 200 containers, 20 rounds" ps
}

# peak IMAGE: pulls it from the registry and says how large the program became.
peak() {
  python3 - "$program" "$work/memory-$1" "127.0.0.1:$port/$1" <<'END'
import resource, shutil, subprocess, sys
program, root, image = sys.argv[1:]
subprocess.run([program, "--no-sync", "--root", root, "pull", "--quiet", image], check=True, stdout=subprocess.DEVNULL)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(f"{image.split('/')[1]:<44} {peak:10.1f} MiB")
shutil.rmtree(root)
END
}

bench_memory() {
  local image
  printf '\nlargest resident size of a pull\n'
  start_registry
  for image in busybox layered debian; do
    [ ! -d "$fixtures/$image" ] || peak "$image"
  done
  stop_registry
  large_registry || return 0
  start_registry "$fixtures/large-registry"
  peak large
  stop_registry
}

# cycle RUNTIME NAME: what an engine does for one container, to its end. Its streams are files, as pipes would be waited for.
cycle() {
  "$1" create --bundle "$bundle" "$2" </dev/null >"$work/streams" 2>&1
  "$1" start "$2"
  while ! "$1" state "$2" | grep -q '"status": "stopped"'; do :; done
  "$1" delete "$2"
}

# resident COMMAND...: the largest resident size of a command, in units that depend on busybox's version. What starts it must
# be small, as the size before it is executed counts as well.
resident() {
  busybox time -f %M -o "$work/resident" "$@" </dev/null >"$work/streams" 2>&1
  cat "$work/resident"
}

bench_oci() {
  local bundle=$work/oci/bundle rounds=${MYDOCKER_BENCH_ROUNDS:-40} n runtime memory unit
  local oci=$work/oci/mydocker-oci
  mkdir -p "$bundle/rootfs"
  ln -s "$program" "$oci"
  tar -xf "$fixtures/busybox.tar" -C "$bundle/rootfs"
  cp bench/config.json "$bundle/"
  for n in $(seq "$rounds"); do
    lap 'mydocker-oci' cycle "$oci" "bench-$n"
    peer 'crun' crun cycle crun "bench-$n"
    peer 'runc' runc cycle runc "bench-$n"
  done
  table "create, start, wait for and delete \`true\`, $rounds rounds, the same bundle" crun
  for n in $(seq "$rounds"); do
    lap 'mydocker-oci' "$oci" run --bundle "$bundle" "bench-$n"
    peer 'crun' crun crun run --bundle "$bundle" "bench-$n"
    peer 'runc' runc runc run --bundle "$bundle" "bench-$n"
  done
  table "run \`true\`, $rounds rounds, the same bundle" crun
  sed -i 's/"args": \["true"\]/"args": ["sleep", "600"]/' "$bundle/config.json"
  for runtime in "$oci" crun runc; do
    "$runtime" run --detach --bundle "$bundle" "bench-${runtime##*/}" </dev/null >"$work/streams" 2>&1 || true
  done
  for n in $(seq "$rounds"); do
    lap 'mydocker-oci' "$oci" exec bench-mydocker-oci true
    peer 'crun' crun crun exec bench-crun true
    peer 'runc' runc runc exec bench-runc true
  done
  table "exec of \`true\`, $rounds rounds" crun
  printf '\n%-44s %8s %8s\n' "largest resident size, as a multiple of crun's" create exec
  for runtime in crun "$oci" runc; do
    has "$runtime" || continue
    memory=("$(resident "$runtime" exec "bench-${runtime##*/}" true)")
    "$runtime" delete --force "bench-${runtime##*/}"
    memory+=("$(resident "$runtime" create --bundle "$bundle" bench-memory)")
    "$runtime" delete --force bench-memory
    [ -n "${unit:-}" ] || unit=("${memory[@]}")
    awk -v name="${runtime##*/}" -v e="${memory[0]}" -v c="${memory[1]}" -v ue="${unit[0]}" -v uc="${unit[1]}" \
      'BEGIN { printf "%-44s %8.2f %8.2f\n", name, c / uc, e / ue }'
  done
}

printf '%s, %s cores, %s, Linux %s, %s\n' "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n1)" "$(nproc)" \
  "$(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)" "$(uname -r)" "$("$program" version)"
for name in "${@:-pull large import run many memory oci}"; do
  for one in $name; do "bench_$one"; done
done
