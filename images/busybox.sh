#!/bin/sh
# busybox.sh DIR: makes DIR/busybox.tar, a root filesystem as `docker export` writes it, out of Debian's busybox-static.
#
# Takes /bin/busybox if that is static, else Debian's package, which apt fetches without being root.
# The same busybox gives the same bytes.
set -eu
umask 022
out=${1:?usage: busybox.sh DIR}
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir "$root"

busybox=/bin/busybox
if [ ! -x $busybox ] || ldd $busybox >/dev/null 2>&1; then
  echo "busybox.sh: fetching the package busybox-static" >&2
  (cd "$work" && apt-get download -qq busybox-static && dpkg -x busybox-static_*.deb package) >&2
  busybox=$(find "$work/package" -type f -name busybox)
fi

cd "$root"
mkdir -p bin dev/pts dev/shm etc home proc root sys tmp usr/bin usr/sbin var/spool/mail var/tmp var/www
chmod 700 root
chmod 1777 tmp var/tmp
cp "$busybox" bin/busybox
chmod 755 bin/busybox
for applet in $(bin/busybox --list); do
  [ "$applet" = busybox ] || ln -s busybox "bin/$applet"
done
cat >etc/passwd <<'END'
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
END
cat >etc/group <<'END'
root:x:0:
daemon:x:1:
bin:x:2:
tty:x:5:
wheel:x:10:root
www-data:x:33:
users:x:100:
nogroup:x:65534:
END
printf 'root::::::::\n' >etc/shadow
chmod 600 etc/shadow
: >etc/hostname
: >etc/hosts
: >etc/resolv.conf
ln -s /proc/mounts etc/mtab

tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@1704067200 --format=gnu -cf "$work/busybox.tar" .
mv "$work/busybox.tar" "$out/busybox.tar"
