#!/bin/bash
# Makes a root full of real programs for the engines' tests: OUTDIR/root, owned by whom it is made for, and
# OUTDIR/repository, a package repository of two small packages and an RPM.
# usage: programs.sh OUTDIR [UID]      root, who gives it to UID, or a user with subordinate IDs; needs mmdebstrap and
# the packages' mirror
set -euo pipefail
out=$(realpath "$1"); owner=${2:-$(id -u)}; here=$(cd "$(dirname "$0")" && pwd)
# As root the host is read-only but for OUTDIR while the hooks run: no package manager can mistake it for the image.
if [ "$(id -u)" = 0 ] && [ -z "${UDOCKER_TESTS_CAGED:-}" ]; then
  exec unshare -m env UDOCKER_TESTS_CAGED=1 bash -c \
    'mount --bind "$1" "$1" && mount -o remount,bind,ro / && exec "$0" "$1" "$2"' "$here/programs.sh" "$out" "$owner"
fi
export SOURCE_DATE_EPOCH=1700000000 DEBIAN_FRONTEND=noninteractive TMPDIR=$out/tmp
mkdir -p "$TMPDIR" "$out/root"; chmod 755 "$TMPDIR" "$out/root"
packages=gcc,libc6-dev,make,git,perl,python3-numpy,python3-scipy,sqlite3,nodejs,openjdk-17-jdk-headless,golang-1.19-go
packages+=,mpich,libmpich-dev,openmpi-bin,libopenmpi-dev,rpm,dpkg-dev
hooks=()
hook() { hooks+=("--customize-hook=set -eu; R=\"\$1\"; $1"); }
# The Go program needs no Go to run, and Go is a third of a gigabyte.
hook "cp '$here/../programs/storm.go' \"\$R/tmp/\"; cp -r '$here/packages' \"\$R/tmp/\""
hook 'chroot "$R" sh -euc "export HOME=/tmp PATH=\$PATH:/usr/lib/go-1.19/bin; mkdir -p /opt/go
      CGO_ENABLED=0 go build -o /opt/go/storm /tmp/storm.go; CGO_ENABLED=0 go build -buildmode=pie -o /opt/go/storm-pie /tmp/storm.go
      apt-get -qq -y purge golang-1.19-go golang-1.19-src >/dev/null; sh /tmp/packages/build.sh /srv/repository; rm -rf /tmp/* /tmp/.cache /root/go"'
# What no case opens.
hook 'cd "$R"; rm -rf usr/share/doc usr/share/locale usr/share/info var/cache/apt var/lib/apt/lists usr/include/boost usr/lib/jvm/*/jmods
      rm -f usr/lib/gcc/*/12/cc1plus usr/lib/gcc/*/12/f951 usr/lib/gcc/*/12/lto1 usr/lib/x86_64-linux-gnu/libmpich*.a; mkdir -p var/lib/apt/lists/partial'
unpack=(tar -C "$out/root" -xp --no-same-owner --exclude='./dev/*' --delay-directory-restore)
chown "$owner:$owner" "$out/root"
[ "$owner" = "$(id -u)" ] || unpack=(setpriv "--reuid=$owner" "--regid=$owner" --clear-groups "${unpack[@]}")
# Man pages' directories are missed by the JDK's alternatives.
mmdebstrap --quiet --variant=minbase --format=tar --include="$packages" \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
  --essential-hook='mkdir -p "$1/usr/share/man/man1"' "${hooks[@]}" bookworm - | "${unpack[@]}"
mv "$out/root/srv/repository" "$out/repository"
rm -rf "$TMPDIR"
