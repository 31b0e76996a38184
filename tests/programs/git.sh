#!/bin/bash
# A repository with history, a branch, a merge, a clone over a pipe and one with hard links, a push and a check of it all.
set -euo pipefail
export HOME=/tmp/home GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'
mkdir -p "$HOME" /tmp/one && cd /tmp/one
git config --global user.name tester && git config --global user.email tester@example.org
git config --global init.defaultBranch main && git config --global safe.directory '*'
git init -q
cp -r /usr/share/perl5/Debconf .
git add . && git commit -q -m first
for n in $(seq 1 10); do echo "$n" >"file$n"; git add . && git commit -q -m "number $n"; done
git checkout -q -b side HEAD~3 && echo side >side && git add side && git commit -q -m side
git checkout -q main && git merge -q -m merged side
git log --oneline --graph --stat | sha256sum
git clone -q /tmp/one /tmp/linked && git clone -q file:///tmp/one /tmp/piped
echo pushed >/tmp/piped/pushed && git -C /tmp/piped add . && git -C /tmp/piped commit -q -m pushed
git -C /tmp/piped push -q origin HEAD:pushed
git log -1 --format=%H pushed
git gc -q && git fsck --strict
git archive main | tar -t | sort | sha256sum
git status --porcelain | wc -l
diff -r --exclude=.git /tmp/one /tmp/linked && echo same trees
git rebase -q -x true HEAD~2 2>&1 | grep -c Executing || true
echo "commits $(git rev-list --count main)"
