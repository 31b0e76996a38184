#!/bin/bash
# Databases of SQLite: two writers at once, a write-ahead log, a dump that is read back.
set -euo pipefail
cd /tmp
sqlite3 data 'pragma journal_mode = wal; create table t (n integer primary key, who text);'
insert() { for n in $(seq 1 20); do sqlite3 -cmd '.timeout 20000' data "insert into t (who) values ('$1');"; done; }
insert one & insert two & wait %1 %2
sqlite3 data 'select who, count(*) from t group by who; pragma integrity_check;'
sqlite3 data .dump | sed 's/VALUES([0-9]*,/VALUES(/' | sort | sha256sum
sqlite3 data .dump | sqlite3 copy && sqlite3 copy 'select count(*) from t'
sqlite3 data 'attach "copy" as c; select count(*) from t join c.t as d using (n); vacuum;'
ls data*
