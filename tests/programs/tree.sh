#!/bin/bash
# Lists the root in several ways, and packs and unpacks a part of it. /proc, /sys, /dev, /run, /tmp and /var/tmp are not the
# root's, nor are /etc/passwd and /etc/group, in which the user has an account.
set -euo pipefail
cd /
shown=(bin boot etc home lib lib64 media mnt opt root sbin srv usr var)
ignored=(--ignore=passwd --ignore=group --ignore=tmp)
ls -1
ls -lnR "${ignored[@]}" "${shown[@]}" | tee /tmp/listed | sha256sum
wc -l </tmp/listed
ls -laiR "${ignored[@]}" --time-style=full-iso usr/lib/git-core etc | sha256sum
find "${shown[@]}" ! -path var/tmp ! -path etc/passwd ! -path etc/group -printf '%p %y %m %s %l %n %i %T@ %C@ %U %G\n' | sha256sum
find etc usr/bin -type l ! -exec test -e {} \; -print | sort
find usr/lib/python3 -newer etc/hostname -name '*.so*' -size +100k | sort | sha256sum
find usr/bin usr/sbin -perm /6000 | sort
stat -L -c "%n %i %h" bin usr/bin/sh /proc/self/root/etc etc/alternatives/a* | sha256sum
du -s usr/share/perl usr/lib/python3 | sha256sum
tar -C usr/share --sort=name -cf /tmp/perl.tar perl perl5 && tar -C usr/share -df /tmp/perl.tar
mkdir /tmp/out && tar -C /tmp/out -xf /tmp/perl.tar && (cd /tmp/out && find . -type f -print0 | sort -z | xargs -0 sha256sum) | sha256sum
diff -r usr/share/perl /tmp/out/perl && echo unpacked as packed
cp -a usr/share/perl5 /tmp/copy && diff -r usr/share/perl5 /tmp/copy && rm -rf /tmp/copy && echo copied and removed
cat /tmp/listed
