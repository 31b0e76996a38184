#!/bin/bash
# An RPM is installed, verified, installed again and removed as fake root; /opt is writable. argv 1: the package repository.
rpm() { command rpm --dbpath /tmp/database --define '_tmppath /tmp' "$@"; }
rpm --initdb; echo "initdb $?"
rpm -i --nodeps "$1/udt.rpm"; echo "install $?"
/opt/udt/bin/run
rpm -ql udt; rpm -V --nodeps udt; echo "verify $?"
stat -c '%n %U:%G %a' /opt/udt/bin/run /opt/udt/data /opt/udt/data/file
chown 1:1 /opt/udt/bin/run; rpm -V --nodeps udt; echo "changed $?"
rpm -U --nodeps --replacepkgs "$1/udt.rpm"; echo "again $?"; rpm -V --nodeps udt; echo "verify $?"
rpm -e --nodeps udt; echo "erase $?"
ls -A /opt; rpm -qa | wc -l
