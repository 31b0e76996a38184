#!/bin/bash
# Owners that a fake root gives and sees again.
mkdir /srv/o && cd /srv/o || exit
touch a b c && mkdir d && ln -s a l
chown daemon:sys a && chown 33 b && chgrp 44 c && chown -R bin:bin d && chown -h 5:6 l
stat -c '%n %u:%g %a' a b c d l; ls -ln | tail -n +2 | awk '{print $3, $4, $9}'
chmod 6755 a && stat -c '%a %U' a
find . -uid 33; find . -group sys
cp -p a a2; stat -c '%u:%g' a2; mv a a3; stat -c '%u:%g' a3
tar -cf /tmp/o.tar . && mkdir /srv/p && tar -C /srv/p -xf /tmp/o.tar && (cd /srv/p && stat -c '%n %u:%g %a' a3 b c d)
tar -tvf /tmp/o.tar --numeric-owner | awk '{print $2, $6}' | sort
install -o 7 -g 8 -m 4711 /bin/true t; stat -c '%u:%g %a' t
mknod n c 1 3; echo "mknod $?"; mknod f p; test -p f; echo "fifo $?"
rm b && touch b && stat -c '%u:%g' b
setpriv --reuid=33 --regid=33 --clear-groups sh -c 'id -u; touch mine; chown 5 c 2>/dev/null; echo $?; chown 33 mine; echo $?; stat -c %u:%g mine'
touch -d @1 c; stat -c %Y c; : >c; chown 0:0 c; stat -c '%u:%g' c
