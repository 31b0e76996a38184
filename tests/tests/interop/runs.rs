//! `run`: statuses, streams, and every option.

use crate::behaviour::Base::{Container, Empty, Image};
use crate::behaviour::{Behaviour, same};

const KEPT: &str = "\"we keep nothing without `--name` or `--keep`\"";
const REFUSED: &str = "\"udocker gives 2 when refused before the start, we give 125/126/127 as Docker\"";

pub const ALL: &[Behaviour] = &[
    same(
        "run",
        "the program's output and status",
        Container,
        "",
        "udocker run box sh -c 'echo out; echo err >&2; exit 7'",
    ),
    same("run", "the image's command by default", Container, "", "udocker run box"),
    same(
        "run",
        "of an image, which is pulled if missing",
        Empty,
        "",
        "udocker run --registry=$REGISTRY test/bb cat /data/upper",
    ),
    same("run", "of an image leaves", Image, "", "udocker run test/bb true; udocker ps | grep -c test/bb || true")
        .deliberately(KEPT, 0, "0\n"),
    same("run", "standard input reaches the program", Container, "", "echo given | udocker run box cat"),
    same(
        "run",
        "what a program writes into a container stays for the other",
        Container,
        "writer run box sh -c 'echo mine > /data/mine'",
        "udocker run box cat /data/mine",
    ),
    same("run", "a program that a signal ends", Container, "", "udocker run box sh -c 'kill -9 $$'").deliberately(
        "\"udocker gives 255 for death by signal; we give 128+N\"",
        137,
        "",
    ),
    same("run", "a command that is not there", Container, "", "udocker run box /none").deliberately(REFUSED, 127, ""),
    same("run", "a file that is no program", Container, "", "udocker run box /etc/passwd")
        .deliberately(REFUSED, 126, ""),
    same("run", "what is neither container nor image", Empty, "", "udocker run --pull=never none:1 true")
        .deliberately(REFUSED, 125, ""),
    same("run", "without a container is a wrong use", Empty, "", "udocker run"),
    same("run", "an unknown option is refused by name", Container, "", "udocker run --frobnicate box true"),
    same(
        "run",
        "descriptors above 2 reach the program",
        Container,
        "echo given > file",
        "udocker run box sh -c 'cat <&5' 5<file",
    ),
    same(
        "run",
        "arguments of the program are left alone",
        Container,
        "",
        "udocker run box echo -v --name=x a=b '  two  ' '*'",
    ),
    same("run", "an empty argument", Container, "", "udocker run box sh -c 'echo $#' sh a '' b").deliberately(
        "\"pass empty program arguments through\"",
        0,
        "3\n",
    ),
    same("run", "`--` before the container", Container, "", "udocker run -- box echo there").deliberately(
        "\"accept `--`\"",
        0,
        "there\n",
    ),
    // -v
    same(
        "`-v= --volume=`",
        "a file and a directory, both spellings",
        Container,
        "mkdir dir; echo one > dir/one; echo two > two",
        "udocker run -v $PWD/dir:/new/deep --volume=$PWD/two:/two box cat /new/deep/one /two",
    ),
    same(
        "`-v= --volume=`",
        "`HOST` alone is at its own place, and may be written",
        Container,
        "mkdir dir",
        "udocker run -v $PWD/dir box sh -c \"echo made > $PWD/dir/made\"; cat dir/made",
    ),
    same(
        "`-v= --volume=`",
        "a relative place is refused",
        Container,
        "mkdir dir",
        "udocker run -v $PWD/dir:in box true",
    )
    .deliberately(REFUSED, 125, ""),
    same(
        "`-v= --volume=`",
        "a source that is not there is refused",
        Container,
        "",
        "udocker run -v /none:/in box true",
    )
    .deliberately(REFUSED, 125, ""),
    same(
        "`-v= --volume=`",
        "`:ro`",
        Container,
        "mkdir dir; echo one > dir/one",
        "udocker run -v $PWD/dir:/in:ro box sh -c 'cat /in/one; echo x > /in/two || echo refused' 2>/dev/null",
    )
    .deliberately("\"`:ro`/`:rw` suffix (udocker takes it as part of the path)\"", 0, "one\nrefused\n"),
    same(
        "`--novol=`",
        "drops a volume of the defaults",
        Container,
        "",
        "udocker run --nobanner --novol=/sys box ls /sys | wc -l",
    ),
    same(
        "`--novol=`",
        "drops a given volume",
        Container,
        "mkdir dir; echo one > dir/one",
        "udocker run -v $PWD/dir:/in --novol=$PWD/dir box ls / | grep -x in || echo none",
    ),
    // Environment
    same(
        "`-e= --env=`",
        "sets, copies from the host, and wins",
        Container,
        "",
        "COPIED=host udocker run -e SET=1 --env=FROM_IMAGE=mine -e COPIED -e EQ=a=b box sh -c 'echo $SET $FROM_IMAGE $COPIED $EQ'",
    ),
    same(
        "`--env-file=`",
        "does not override `-e`",
        Container,
        "printf 'A=file\\nB=file\\n' > env",
        "udocker run -e A=option --env-file=env box sh -c 'echo $A $B'",
    ),
    same(
        "`--env-file=`",
        "comments",
        Container,
        "printf '# A=no\\nA=yes\\n' > env",
        "udocker run --env-file=env box env | grep -e A=yes -e '# A'",
    ),
    same("`--env-file=`", "a file that is not there", Container, "", "udocker run --env-file=none box true")
        .deliberately("\"missing file is an error\"", 125, ""),
    // Accounts
    same("`-u= --user=`", "root by default, emulated", Container, "", "udocker run box id"),
    same(
        "`-u= --user=`",
        "an account of the container",
        Container,
        "echo 'joe:x:1234:1234::/home:/bin/sh' >> $(writer inspect -p box)/etc/passwd",
        "udocker run --user=joe box sh -c 'id -un; echo $USER $LOGNAME $USERNAME'",
    ),
    same(
        "`-u= --user=`",
        "an unknown name gets an account",
        Container,
        "",
        "udocker run --nobanner -u newcomer box sh -c 'echo $USER; cat /etc/passwd' | cut -d: -f1 | sort",
    ),
    same(
        "`-u= --user=`",
        "the container's own files of accounts stay as they are",
        Container,
        "",
        "udocker run -u newcomer box true; cat $(udocker inspect -p box)/etc/passwd",
    ),
    same(
        "`--hostauth` / `--containerauth`",
        "the container's accounts",
        Container,
        "",
        "udocker run --containerauth box cat /etc/passwd",
    ),
    same(
        "`--hostauth` / `--containerauth`",
        "the host's accounts",
        Container,
        "",
        "udocker run --nobanner --hostauth --user=root box cat /etc/passwd | cmp - /etc/passwd",
    ),
    same(
        "`--hostauth` / `--containerauth`",
        "an unknown user is an error",
        Container,
        "",
        "udocker run --containerauth --user=nobodyhere box true",
    )
    .deliberately(REFUSED, 125, ""),
    // Directories, entry points
    same(
        "`-w= --workdir=`",
        "where the program begins",
        Container,
        "",
        "udocker run -w /data box pwd; udocker run box pwd",
    ),
    same("`-w= --workdir=`", "must exist", Container, "", "udocker run --workdir=/none box pwd")
        .deliberately(REFUSED, 125, ""),
    same(
        "`--entrypoint=`",
        "the image's, then arguments",
        Empty,
        "writer pull --registry=$REGISTRY test/entry; writer create --name=e test/entry; writer inspect -p e",
        "udocker run e; udocker run e argument; udocker run --entrypoint=pwd e; udocker run --entrypoint= e echo none",
    ),
    // The row of flags
    same(
        "`--bindhome --hostenv --dri --nosysdirs --nometa --nobanner`",
        "`--bindhome` shows the home",
        Container,
        "echo here > $HOME/mine",
        "udocker run --bindhome box cat $HOME/mine; udocker run box cat $HOME/mine 2>/dev/null || echo none",
    ),
    same(
        "`--bindhome --hostenv --dri --nosysdirs --nometa --nobanner`",
        "`--hostenv` hands the environment on",
        Container,
        "",
        "MINE=1 udocker run --hostenv box sh -c 'echo $MINE'; MINE=1 udocker run box sh -c 'echo $MINE'",
    ),
    same(
        "`--bindhome --hostenv --dri --nosysdirs --nometa --nobanner`",
        "`--nosysdirs` binds nothing",
        Container,
        "",
        "udocker run --nobanner --nosysdirs box ls /sys /dev | grep -c -v : || true",
    ),
    same(
        "`--bindhome --hostenv --dri --nosysdirs --nometa --nobanner`",
        "`--nometa` ignores the image's settings",
        Container,
        "",
        "udocker run --nometa box sh -c 'echo $FROM_IMAGE; pwd'",
    ),
    same(
        "`--bindhome --hostenv --dri --nosysdirs --nometa --nobanner`",
        "`--nobanner --dri`",
        Container,
        "",
        "udocker run --nobanner --dri box echo there",
    ),
    // CPUs, names, lifetimes
    same(
        "`--cpuset-cpus=`",
        "processors of the program",
        Container,
        "",
        "udocker run --cpuset-cpus=0 box sh -c 'while read k v; do [ $k = Cpus_allowed_list: ] && echo $v; done < /proc/self/status; true'",
    ),
    same(
        "`--name= --rm --pull=missing,never,always,reuse --platform=`",
        "`--name` keeps the container under it",
        Image,
        "writer run --name=kept test/bb sh -c 'echo mine > /data/mine'; writer inspect -p kept",
        "udocker run kept cat /data/mine; udocker ps | grep -c kept",
    ),
    same(
        "`--name= --rm --pull=missing,never,always,reuse --platform=`",
        "`--rm` deletes it afterwards",
        Image,
        "",
        "udocker run --rm --name=gone test/bb echo there; udocker ps",
    ),
    same(
        "`--name= --rm --pull=missing,never,always,reuse --platform=`",
        "`--rm` spares a protected one",
        Container,
        "writer protect box",
        "udocker run --rm box echo there; udocker ps",
    ),
    same(
        "`--name= --rm --pull=missing,never,always,reuse --platform=`",
        "`--pull=reuse` runs the named one",
        Container,
        "echo mine > $(writer inspect -p box)/data/mine",
        "udocker run --name=box --pull=reuse test/bb cat /data/mine; udocker ps",
    ),
    same(
        "`--name= --rm --pull=missing,never,always,reuse --platform=`",
        "`--pull=never` downloads nothing",
        Empty,
        "",
        "udocker run --pull=never --registry=$REGISTRY test/bb true",
    )
    .deliberately(REFUSED, 125, ""),
    same(
        "`--name= --rm --pull=missing,never,always,reuse --platform=`",
        "`--pull=always` asks the registry again",
        Image,
        "",
        "udocker run --pull=always --registry=$REGISTRY test/bb cat /data/upper",
    ),
    same(
        "`--location=DIR`",
        "a plain tree",
        Empty,
        "mkdir tree; tar xf $GIVEN/root.tar -C tree; echo mine > tree/mine",
        "udocker run --location=$PWD/tree any cat /mine",
    ),
    same(
        "`-p= --publish= -P --publish-all --netcoop`",
        "ports are taken and warned of",
        Container,
        "",
        "udocker run -p 8080:80 --publish=8081:81 box echo there",
    ),
    same(
        "`-p= --publish= -P --publish-all --netcoop`",
        "`-P` and `--netcoop`",
        Container,
        "",
        "udocker run -P --netcoop box echo there",
    ),
    same("`--device=`", "elsewhere than in R modes", Container, "", "udocker run --device=/dev/null box echo there"),
    same(
        "`--kernel=`",
        "the release that is reported",
        Container,
        "",
        "udocker run --kernel=5.4.3 box busybox uname -r",
    )
    .deliberately("\"P modes\"; an option that the mode cannot honour is refused by name", 125, ""),
    same(
        "`--index= --registry= --httpproxy=`",
        "for the pull of a run",
        Empty,
        "",
        "udocker run --registry=$REGISTRY --pull=missing test/bb echo there",
    ),
    same(
        "ignored",
        "`-i -t -a --dns= --dns-search= --volumes-from=`",
        Container,
        "",
        "udocker run -i -t -a --dns=8.8.8.8 --dns-search=x --volumes-from=y box echo there",
    ),
    same(
        "ignored",
        "Docker's `-it`, `--net=host`, `--privileged`",
        Container,
        "",
        "udocker run -it --net=host --privileged box echo there",
    )
    .deliberately("\"also take `-it`, `--net=host`, `--privileged` etc. with a warning\"", 0, "there\n"),
    same(
        "ignored",
        "options in any order, the last of two wins",
        Container,
        "",
        "udocker run -w /data --nobanner -w /etc box pwd",
    )
    .deliberately(
        "\"accept a repeated single-value option (last wins; udocker: first wins for `-w -u`)\"",
        0,
        "/etc\n",
    ),
    // Defaults
    same(
        "default volumes",
        "system directories of the host",
        Container,
        "",
        "udocker run box sh -c 'ls -d /dev/null /proc/self/status /sys/kernel; cat /etc/resolv.conf' > x; cat /etc/resolv.conf | cmp -s - x || grep -c '^/' x",
    ),
    same(
        "default environment",
        "udocker's names, and no more from the host",
        Container,
        "",
        "STRANGE=1 TERM=vt100 udocker run --nobanner box sh -c env | grep -v -e ^PROOT_ -e ^PATH= -e ^container_execmode= -e ^PS1= | sort",
    ),
    same(
        "default environment",
        "the mode that runs",
        Container,
        "",
        "udocker run box sh -c 'echo $container_execmode'",
    )
    .deliberately("N1 is ours and the default where it works (design: modes)", 0, "N1\n"),
];
