#!/bin/sh
# systemd.sh DIR: makes DIR/systemd, an OCI layout of a Debian whose first process is systemd, as root: a machine to be run
# as a container (--privileged), with a bus for root and one for the ordinary user `user` (1000), who lingers.
#
# The suite is that which this machine's apt uses.
set -eu
umask 022
out=${1:?usage: systemd.sh DIR}
[ "$(id -u)" = 0 ] || { echo "systemd.sh: debootstrap needs root" >&2; exit 1; }
images=$(cd "$(dirname "$0")" && pwd)
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
  awk -v suite="$suite" '$1 == suite && $2 == "main" { print $3; exit }')}
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d -p "$out")
trap 'rm -rf "$work"' EXIT
root=$work/root
packages=busybox-static,dbus,dbus-user-session,libpam-systemd,systemd,systemd-sysv,uidmap

debootstrap --variant=minbase --include=$packages "$suite" "$root" $mirror >"$work/log" 2>&1 ||
  { tail -n 20 "$work/log" >&2; exit 1; }
# What would change the kernel that the container shares, or asks for a terminal that it has not got.
for unit in console-getty.service dev-hugepages.mount getty.target proc-sys-fs-binfmt_misc.automount sys-fs-fuse-connections.mount \
  sys-kernel-debug.mount sys-kernel-tracing.mount systemd-binfmt.service systemd-journald-audit.socket \
  systemd-modules-load.service systemd-remount-fs.service systemd-sysctl.service; do
  ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
ln -sf /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
echo 'user:x:1000:1000::/home/user:/bin/sh' >>"$root/etc/passwd"
echo 'user:x:1000:' >>"$root/etc/group"
echo 'user:!:19723:0:99999:7:::' >>"$root/etc/shadow"
echo 'user:100000:65536' | tee "$root/etc/subuid" >"$root/etc/subgid"
mkdir -p "$root/home/user" "$root/var/lib/systemd/linger"
chown 1000:1000 "$root/home/user"
: >"$root/var/lib/systemd/linger/user"
: >"$root/etc/machine-id"
# What differs from one run to the next, and what nobody needs at run time.
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* "$root"/tmp/* \
  "$root"/var/cache/ldconfig/aux-cache "$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old \
  "$root"/usr/share/doc "$root"/usr/share/man "$root"/usr/share/locale "$root"/usr/share/lintian
rm -f "$root/etc/resolv.conf" "$root/etc/hostname"
tar --sort=name --numeric-owner --xattrs --xattrs-include='*' --clamp-mtime --mtime=@1704067200 \
  --format=posix --pax-option=delete=atime,delete=ctime -C "$root" -cf "$work/systemd.tar" .
rm -rf "$out/systemd"
"$images/oci.py" "$work/layout" --env PATH=/usr/sbin:/usr/bin:/sbin:/bin --env container=oci --cmd /sbin/init \
  --stop-signal SIGRTMIN+3 "$work/systemd.tar"
mv "$work/layout" "$out/systemd"
