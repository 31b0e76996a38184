#!/bin/bash
# Pulls an image and runs a command in it. Without an argument the image is made on the spot from Debian's busybox-static
# and served by Debian's docker-registry on loopback; with one it is pulled from where it lies.
set -euo pipefail
work=$(mktemp -d)
trap 'kill "${registry:-}" 2>/dev/null || true; rm -rf "$work"' EXIT
export UDOCKER_DIR=$work/store
udocker=(target/debug/udocker)
[ "$(id -u)" != 0 ] || udocker+=(--allow-root)
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

image=${1:-}
if [ -z "$image" ]; then
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  say "a registry on 127.0.0.1:$port, and an image made of busybox-static"
  mkdir -p "$work"/{root/{bin,etc,tmp,proc,sys,dev,root},registry}
  cp /bin/busybox "$work/root/bin/"
  for applet in sh ls cat id mount uname hostname; do ln -s busybox "$work/root/bin/$applet"; done
  echo 'root:x:0:0:root:/root:/bin/sh' >"$work/root/etc/passwd"
  printf 'version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:%s"}\n' \
    "$work/registry" "$port" >"$work/registry.yml"
  docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
  registry=$!
  for _ in $(seq 100); do curl -fs "http://127.0.0.1:$port/v2/" >/dev/null 2>&1 && break; sleep 0.1; done
  tar -C "$work/root" --owner=0 --group=0 -cf "$work/root.tar" .
  python3 tests/images/layout.py "$work/layout" "$work/root.tar"
  skopeo copy -q --preserve-digests --dest-tls-verify=false "oci:$work/layout:t" "docker://127.0.0.1:$port/demo/busybox:1"
  image=127.0.0.1:$port/demo/busybox:1
fi
say "udocker pull $image"; time "${udocker[@]}" pull "$image"
say "udocker images -l"; "${udocker[@]}" images -l
say "udocker run $image"
time "${udocker[@]}" run "$image" /bin/sh -c 'id; uname -a; ls /; echo x > /written && echo "the root takes writes, which go at the end"'
say "udocker-launch: a job, as the caller, on a read-only root"
"${UDOCKER_LAUNCH_BIN:-target/debug/udocker-launch}" "$image" /bin/sh -c 'id; echo x > /written || echo "the root is read-only"'
say "what it cost: one run of true, 20 times"
time for _ in $(seq 20); do "${udocker[@]}" run "$image" /bin/sh -c :; done
