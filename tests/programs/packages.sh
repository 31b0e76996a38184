#!/bin/bash
# Package managers and account tools as fake root, on a root of one's own. argv 1: the package repository.
set -u
export DEBIAN_FRONTEND=noninteractive
# What apt, dpkg and their children say, without what depends on terminals and counts.
quietly() { "$@" >/tmp/said 2>&1; local status=$?; tr '\r' '\n' </tmp/said | grep -v -e '^(Reading' -e '^$' -e debconf; return $status; }
id
echo "deb [trusted=yes] file:$1 ./" >/etc/apt/sources.list
rm -rf /etc/apt/sources.list.d/*
# Where owners are not remembered, apt's own user cannot be changed to.
setpriv --reuid=1 --regid=1 --clear-groups id | grep -q daemon || echo 'APT::Sandbox::User "root";' >/etc/apt/apt.conf.d/sandbox
quietly apt-get -qq update; echo "update $?"
quietly apt-get -qq -y install udt-second; echo "install $?"
udt; dpkg -s udt-second | grep Status; dpkg --verify udt-first udt-second; echo "verify $?"
ls /usr/share/udt-second | wc -l; stat -c '%h %s' /usr/share/udt-second/1; readlink /usr/share/udt-second/two
quietly dpkg -i "$1/udt-first.deb"; echo "again $?"
getent passwd udt; getent group udt
quietly apt-get -qq -y purge udt-second; echo "purge $?"
test -e /usr/share/udt-second; echo "left $?"
dpkg --audit; echo "audit $?"
useradd -m -s /bin/bash -G udt worker; echo "useradd $?"
echo worker:secret | chpasswd; echo "chpasswd $?"
getent passwd worker; test -f /home/worker/.bashrc; echo "home $?"
usermod -c 'A worker' -a -G daemon worker; id -Gn worker
groupadd others; gpasswd -a worker others >/dev/null; getent group others | sed 's/:[0-9]*:/:N:/'
passwd -S worker | cut -d' ' -f1,2
su - worker -c 'id; pwd; echo $HOME; cd /tmp && touch by-worker && cat by-worker && echo wrote'
stat -c '%U:%G %a %n' /tmp/by-worker
su worker -s /bin/sh -c 'id -un'; runuser -u worker -- id -u
setpriv --reuid=1 --regid=1 --clear-groups id
userdel -r worker >/dev/null 2>&1; echo "userdel $?"; test -e /home/worker; echo "home $?"
