#!/bin/bash
# A C program, dynamic and static, and a parallel make with dependencies. argv 1: where the sources are.
set -euo pipefail
cd /tmp
gcc -O1 -Wall -o dynamic "$1/threads.c" -pthread && ./dynamic
gcc -O1 -static -o static "$1/threads.c" -pthread && ./static
gcc -O1 -static-pie -o static-pie "$1/threads.c" -pthread && ./static-pie
gcc -shared -fPIC -o libpart.so -x c - <<<'int part(void) { return 42; }'
gcc -o linked -x c - -L. -lpart -Wl,-rpath,'$ORIGIN' <<<'#include <stdio.h>
int part(void); int main(void) { printf("linked %d\n", part()); return 0; }'
./linked; cd /; /tmp/linked; cd /tmp
sha256sum dynamic static static-pie libpart.so linked
mkdir -p make && cd make
for n in $(seq 1 24); do echo "int f$n(int x) { return x + $n; }" >f$n.c; done
{ seq -f 'int f%g(int);' 1 24; echo '#include <stdio.h>'; echo 'int main(void) { int x = 0;'; seq -f 'x = f%g(x);' 1 24
  echo 'printf("sum %d\n", x); return 0; }'; } >main.c
printf 'all: program\n\t./program\nprogram: $(patsubst %%.c,%%.o,$(wildcard *.c))\n\t@gcc -o $@ $^\n%%.o: %%.c\n\t@gcc -c -o $@ $<\n' >Makefile
make -j4 && make -j4 && touch f3.c && make -j4 -n | wc -l
ls | wc -l
