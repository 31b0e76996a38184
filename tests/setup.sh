#!/bin/bash
# Installs what building and testing needs on Debian 12; does nothing where all is there. Without root it names what is missing.
set -euo pipefail
packages=(busybox-static docker-registry skopeo openssl uidmap strace util-linux curl ca-certificates python3 python3-venv proot zstd xz-utils bzip2 patchelf mmdebstrap gcc g++ musl-tools libc6-dev pkg-config mpich openmpi-bin libpmix-dev slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge libslurm-dev libclang1-14 libclang-common-14-dev)
missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null)" = "install ok installed" ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" != 0 ]; then
    echo "missing packages; as root: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
command -v cargo-nextest >/dev/null || cargo install --locked cargo-nextest
command -v bindgen >/dev/null || cargo install --locked bindgen-cli@0.72.1
# The udocker that ours replaces, for the tests that compare the two.
venv=$(dirname "$0")/../target/udocker-venv
if [ "$("$venv/bin/python3" -c 'import udocker; print(udocker.__version__)' 2>/dev/null)" != 1.3.17 ]; then
  rm -rf "$venv"
  /usr/bin/python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check udocker==1.3.17
fi
