#!/bin/bash
# Writes the layers of two Debian 12 images as tar files: 1.tar is minbase, 1.tar to 8.tar a Python science stack.
# usage: debian.sh OUTDIR      root, or a user with subordinate IDs; needs mmdebstrap and the packages' mirror
set -euo pipefail
out=$(realpath "$1"); here=$(cd "$(dirname "$0")" && pwd)
# As root the host is read-only but for OUTDIR while the hooks run: no package manager can mistake it for the image.
if [ "$(id -u)" = 0 ] && [ -z "${UDOCKER_TESTS_CAGED:-}" ]; then
  exec unshare -m env UDOCKER_TESTS_CAGED=1 bash -c \
    'mount --bind "$1" "$1" && mount -o remount,bind,ro / && exec "$0" "$1"' "$here/debian.sh" "$out"
fi
export SOURCE_DATE_EPOCH=1700000000 DEBIAN_FRONTEND=noninteractive TMPDIR=$out/tmp
mkdir -p "$TMPDIR"; chmod 755 "$TMPDIR"
hooks=()
layer=0
hook() { hooks+=("--customize-hook=set -eu; R=\"\$1\"; $1"); }
save() { layer=$((layer + 1)); hook "python3 '$here/layer.py' \"\$R\" '$out/state.json' '$out/$layer.tar'"; }
packages() { hook "chroot \"\$R\" apt-get -qq -y --no-install-recommends install $*"; }
save
packages python3;                                      save
packages python3-numpy;                                save
packages python3-scipy python3-pandas;                 save
packages python3-sympy python3-matplotlib;             save
packages python3-sklearn python3-networkx python3-dask; save
# Whiteouts beside what stays, a directory that is removed and made again, and one that becomes a file.
hook 'find "$R/usr/share/doc" -mindepth 1 -maxdepth 1 | LC_ALL=C sort | awk "NR % 2" | xargs rm -rf
      rm -rf "$R/usr/share/locale"; mkdir -p "$R/usr/share/locale/xx"; echo x >"$R/usr/share/locale/xx/x"
      rm -rf "$R/usr/share/lintian"; echo gone >"$R/usr/share/lintian"';  save
# Metadata alone, and hard links.
hook 'find "$R/usr/lib/python3/dist-packages/sympy" -name "*.py" -type f | LC_ALL=C sort | sed -n 1,400p | xargs chmod 0664
      mkdir -p "$R/opt/links"; find "$R/usr/lib/python3.11" -maxdepth 1 -name "*.py" -type f | xargs -I{} ln {} "$R/opt/links/"'; save
mmdebstrap --quiet --variant=minbase --format=null "${hooks[@]}" bookworm /dev/null
rm -rf "$out/state.json" "$TMPDIR"
