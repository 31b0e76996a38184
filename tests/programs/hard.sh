#!/bin/bash
# hard.c dynamic and static, and what it sees of itself by several ways of executing it.
cd /tmp
gcc -w -O1 -o hard /mnt/hard.c -pthread && gcc -w -O1 -static -o hard-static /mnt/hard.c -pthread || exit 1
ln -s hard link; printf '#!/tmp/hard self\n' >script; chmod 755 script
for program in hard hard-static; do
  rm -rf deep; "/tmp/$program"; echo "status $?"
  for how in "/tmp/$program" "./$program"; do env -i A=b C="d e" "$how" self more words; done
done
env -i /tmp/link self
env -i PATH=/tmp bash -c 'exec -a other hard self'
env -i /tmp/script x y
exit 21
