#!/bin/sh
# service.sh DIR NAME: makes DIR/NAME, an OCI layout of a service: DIR/debian.tar below, the service's Debian packages
# above. The services are nginx, postgres, python and redis.
#
# The packages are unpacked and not installed, as no script of theirs needs to run: what such a script would do, the
# recipe does here. Packages come from this machine's apt, which must know the suite of DIR/debian.tar.
set -eu
umask 022
out=${1:?usage: service.sh DIR NAME}
name=${2:?usage: service.sh DIR NAME}
images=$(cd "$(dirname "$0")" && pwd)
out=$(cd "$out" && pwd)
work=$(mktemp -d -p "$out")
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir "$root" "$work/packages"
path=/usr/sbin:/usr/bin:/sbin:/bin

# A user of the service's own, with a number that Debian gives to nobody.
add_user() {
  tar -xf "$out/debian.tar" -C "$root" ./etc/passwd ./etc/group
  echo "$1:x:900:900::$2:/bin/sh" >>"$root/etc/passwd"
  echo "$1:x:900:" >>"$root/etc/group"
  mkdir -p "$root$2"
  chown 900:900 "$root$2"
  chmod 700 "$root$2"
}

# What they depend on and the base has not got, in the versions of the moment.
install() {
  tar -xf "$out/debian.tar" -C "$work" ./var/lib/dpkg/status
  packages=$(apt-get -qq --no-install-recommends -s -o Dir::State::status="$work/var/lib/dpkg/status" install "$@" |
    awk '/^Inst/ { print $2 }')
  (cd "$work/packages" && apt-get -qq -o APT::Sandbox::User=root download $packages)
  # The base has links there, which must not become directories.
  for dir in bin sbin lib lib64; do
    mkdir -p "$root/usr/$dir"
    ln -s "usr/$dir" "$root/$dir"
  done
  for package in "$work"/packages/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x -p --keep-directory-symlink -C "$root"
    rm "$package"
  done
  rm "$root/bin" "$root/sbin" "$root/lib" "$root/lib64"
}

case $name in
  nginx)
    install nginx-light curl
    ln -s ../sites-available/default "$root/etc/nginx/sites-enabled/default"
    ln -sf /dev/stdout "$root/var/log/nginx/access.log"
    ln -sf /dev/stderr "$root/var/log/nginx/error.log"
    set -- --cmd nginx --cmd=-g --cmd 'daemon off;'
    ;;
  postgres)
    install postgresql
    add_user postgres /var/lib/postgresql
    mkdir -p "$root/var/run" "$root/var/lib/postgresql/data" "$root/run/postgresql"
    rmdir "$root/var/run"
    chown 900:900 "$root/var/lib/postgresql/data" "$root/run/postgresql"
    chmod 700 "$root/var/lib/postgresql/data"
    # A cluster where there is none yet, and then the server, as the first process.
    cat >"$root/usr/bin/serve" <<'END'
#!/bin/sh
set -eu
[ -s "$PGDATA/PG_VERSION" ] || initdb --auth=trust --no-locale --encoding=UTF8 --no-sync >/dev/null
exec "$@"
END
    chmod 755 "$root/usr/bin/serve"
    path=$(cd "$root" && ls -d usr/lib/postgresql/*/bin | sed 's,^,/,'):$path
    set -- --env PGDATA=/var/lib/postgresql/data --user postgres --entrypoint serve --cmd postgres --stop-signal SIGINT
    ;;
  python)
    install python3-minimal
    set -- --cmd python3
    ;;
  redis)
    install redis-server redis-tools
    add_user redis /data
    set -- --user redis --workdir /data --cmd redis-server --cmd=--appendonly --cmd yes
    ;;
  *)
    echo "service.sh: no recipe for $name" >&2
    exit 1
    ;;
esac
# What nobody needs at run time only takes space.
rm -rf "$root/usr/share/doc" "$root/usr/share/man" "$root/usr/share/locale" "$root/usr/share/lintian"
tar --sort=name --numeric-owner --clamp-mtime --mtime=@1704067200 --format=posix \
  --pax-option=delete=atime,delete=ctime -C "$root" -cf "$work/upper.tar" .
rm -rf "$out/$name"
"$images/oci.py" "$work/layout" --env PATH="$path" "$@" "$out/debian.tar" "$work/upper.tar"
# The base is on the disk once.
for blob in "$work"/layout/blobs/sha256/*; do
  ! cmp -s "$blob" "$out/debian/blobs/sha256/${blob##*/}" || ln -f "$out/debian/blobs/sha256/${blob##*/}" "$blob"
done
mv "$work/layout" "$out/$name"
