#!/bin/sh
# fixtures.sh DIR: makes all that the tests run against: the images of images/, a registry's storage filled with them,
# a private CA with a server certificate, and a password file.
#
# What is there and was made by the same recipes is kept. Several at once wait for each other.
set -eu
umask 022
out=${1:?usage: fixtures.sh DIR}
repository=$(cd "$(dirname "$0")/../.." && pwd)
images=$repository/images
export PYTHONDONTWRITEBYTECODE=1
mkdir -p "$out"
out=$(cd "$out" && pwd)
exec 9>"$out.lock"
flock 9

recipes=$(cat "$images"/*.sh "$images"/*.py "$0" | sha256sum)
[ "$(cat "$out/recipes" 2>/dev/null)" != "$recipes" ] || exit 0
echo "making the images that the tests use in $out" >&2
# The one that takes long has its own recipe only.
debian_recipe=$(cat "$images/debian.sh" "$images/oci.py" | sha256sum)
if [ "$(cat "$out/debian-recipe" 2>/dev/null)" != "$debian_recipe" ]; then
  rm -rf "$out/debian" "$out/debian.tar" "$out/debian-recipe"
  if "$images/debian.sh" "$out"; then
    "$images/oci.py" "$out/debian" "$out/debian.tar" --cmd bash --env PATH=/usr/sbin:/usr/bin:/sbin:/bin
    echo "$debian_recipe" >"$out/debian-recipe"
  else
    echo "fixtures.sh: there will be no Debian image" >&2
  fi
fi
# Services on top of it, each kept as long as its recipes and its base are the same.
for service in nginx postgres python redis; do
  service_recipe=$(cat "$images/service.sh" "$images/oci.py" "$out/debian-recipe" 2>/dev/null | sha256sum)
  [ "$(cat "$out/$service-recipe" 2>/dev/null)" != "$service_recipe" ] || continue
  rm -rf "${out:?}/$service" "$out/$service-recipe"
  if [ -e "$out/debian" ] && "$images/service.sh" "$out" "$service"; then
    echo "$service_recipe" >"$out/$service-recipe"
  else
    echo "fixtures.sh: there will be no image of $service" >&2
  fi
done
# A whole machine.
systemd_recipe=$(cat "$images/systemd.sh" "$images/oci.py" | sha256sum)
if [ "$(cat "$out/systemd-recipe" 2>/dev/null)" != "$systemd_recipe" ]; then
  rm -rf "$out/systemd" "$out/systemd-recipe"
  if "$images/systemd.sh" "$out"; then
    echo "$systemd_recipe" >"$out/systemd-recipe"
  else
    echo "fixtures.sh: there will be no image with systemd" >&2
  fi
fi
(cd "$out" && rm -rf recipes busybox busybox.tar layered platforms variants registry tls htpasswd)
"$images/busybox.sh" "$out"
"$images/oci.py" "$out/busybox" "$out/busybox.tar" --cmd sh --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
"$images/layered.py" "$out"
"$images/many.py" "$out"

# A CA of our own, and a certificate for loopback addresses.
mkdir "$out/tls"
(
  cd "$out/tls"
  exec 2>openssl.log
  openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj "/CN=mydocker test CA" -keyout ca.key -out ca.crt
  openssl req -newkey rsa:2048 -nodes -subj "/CN=localhost" -keyout server.key -out server.csr
  printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n' >server.ext
  openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -extfile server.ext -out server.crt
) || { cat "$out/tls/openssl.log" >&2; exit 1; }
htpasswd -Bbn -C 5 alice 'correct horse: battery' >"$out/htpasswd"

# A registry's storage. Those that the tests start share it, read-only.
port=$("$repository/tests/support/free-port.py")
cat >"$out/registry.yml" <<END
version: 0.1
log: { level: error, accesslog: { disabled: true } }
storage: { filesystem: { rootdirectory: $out/registry } }
http: { addr: 127.0.0.1:$port, headers: { X-Content-Type-Options: [nosniff] } }
END
docker-registry serve "$out/registry.yml" >"$out/registry.log" 2>&1 9>&- &
registry=$!
trap 'kill $registry' EXIT
for _ in $(seq 100); do
  curl -fs "http://127.0.0.1:$port/v2/" >/dev/null && break
  sleep 0.1
done
push() {
  skopeo copy --quiet --dest-tls-verify=false --insecure-policy "$@"
}
push --preserve-digests "oci:$out/busybox:latest" "docker://127.0.0.1:$port/busybox:latest"
push --format v2s2 "oci:$out/busybox:latest" "docker://127.0.0.1:$port/busybox:docker"
push --preserve-digests "oci:$out/layered:latest" "docker://127.0.0.1:$port/layered:latest"
[ ! -e "$out/debian" ] || push --preserve-digests "oci:$out/debian:latest" "docker://127.0.0.1:$port/debian:latest"
for number in 1 2 3 4 5 6 7 8; do
  push --preserve-digests "oci:$out/variants:v$number" "docker://127.0.0.1:$port/variants:v$number"
done
# skopeo does not copy nested indexes.
"$repository/tests/support/push.py" "$out/platforms" "http://127.0.0.1:$port/v2/platforms"
echo "$recipes" >"$out/recipes"
