#!/bin/bash
# Makes a root in which NVIDIA's driver is installed, its user space alone: Debian 12's packages, with the links that their
# scripts would make, and a loader's cache.
# usage: nvidia.sh OUTDIR      needs apt-get, and the packages' mirror, which may be a copy of some weeks ago
set -euo pipefail
root=$1/root work=$1/work
mkdir -p "$root/etc/alternatives" "$work"/{lists/partial,cache/archives/partial,deb}
key=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$key check-valid-until=no] http://deb.debian.org/debian bookworm non-free" >"$work/sources.list"
apt=(apt-get -q -o APT::Sandbox::User=root -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
  -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache")
"${apt[@]}" update
(cd "$work/deb" && "${apt[@]}" download libcuda1 libnvidia-ml1 libnvidia-cfg1 libnvidia-ptxjitcompiler1 nvidia-smi)
for package in "$work"/deb/*.deb; do dpkg-deb -x "$package" "$root"; done

libraries=/usr/lib/x86_64-linux-gnu
# As update-alternatives does: /usr/bin/nvidia-smi, by way of /etc/alternatives, to the file itself.
link() { ln -s "$1" "$root/etc/alternatives/$3" && ln -s "/etc/alternatives/$3" "$root$2"; }
mkdir -p "$root/usr/bin"
link /usr/lib/nvidia/current/nvidia-smi /usr/bin/nvidia-smi nvidia--nvidia-smi
for file in "$root$libraries"/nvidia/current/*.so*; do
  name=${file##*/}
  case $name in *.so | *.so.[0-9]) link "$libraries/nvidia/current/$name" "$libraries/$name" "nvidia--$name-x86_64-linux-gnu" ;; esac
done
echo $libraries >"$root/etc/ld.so.conf"
/sbin/ldconfig -r "$root"
chmod -R go+rX "$root"
rm -rf "$work"
