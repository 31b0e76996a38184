//! Commands on containers.

use crate::behaviour::Base::{Container, Empty, Image};
use crate::behaviour::{Behaviour, same};

const N1: &str = "N1 is the default mode where it works";

pub const ALL: &[Behaviour] = &[
    same(
        "create",
        "prints the ID of a container with the files of all layers",
        Image,
        "",
        "id=$(udocker create test/bb); echo $id; cd $(udocker inspect -p $id); ls data bin; cat data/upper etc/secret",
    ),
    same("create", "`--name` names it", Image, "", "udocker create --name=mine test/bb; udocker ps"),
    same("create", "a name that is taken is refused", Container, "", "udocker create --name=box test/bb"),
    same("create", "an image that is not there is refused", Empty, "", "udocker create nothing:1"),
    same(
        "create",
        "a name that no container may have",
        Image,
        "",
        "udocker create --name=a.b test/bb || echo $?; udocker ps",
    )
    .deliberately(
        "\"check before extracting, and clean up on any failure\"",
        0,
        "1\nCONTAINER ID                         P M NAMES              IMAGE               \n",
    ),
    same(
        "ps",
        "names and image are listed",
        Container,
        "writer name box other",
        "udocker ps | grep -o -e '^ID' -e '[a-z]*/bb.*' -e \"'[a-z]*'\" | sort",
    ),
    same("ps", "`-p` adds the platform", Container, "", "udocker ps -p"),
    same("ps", "`-m` adds the mode", Container, "", "udocker ps -m | grep -o -e MOD -e ' . W .. '").deliberately(
        N1,
        0,
        "MOD\n . W N1 \n",
    ),
    same("ps", "a protected container has a P", Container, "writer protect box", "udocker ps"),
    same(
        "ps",
        "a tree that may not be written has an R",
        Container,
        "chmod u-w $(writer inspect -p box)",
        "udocker ps",
    ),
    same("ps", "without containers there is the header", Empty, "", "udocker ps"),
    same(
        "name / rename / rmname",
        "a container gets a second name",
        Container,
        "writer name box second",
        "udocker inspect -p second",
    ),
    same("name / rename / rmname", "a name with a slash is refused", Container, "", "udocker name box a/b"),
    same("name / rename / rmname", "a name of nothing is refused", Empty, "", "udocker name none other"),
    same(
        "name / rename / rmname",
        "a name is changed",
        Container,
        "writer rename box crate",
        "udocker inspect -p crate; udocker ps",
    ),
    same(
        "name / rename / rmname",
        "a name that is taken is refused",
        Container,
        "writer name box second",
        "udocker rename box second",
    ),
    same("name / rename / rmname", "a name goes", Container, "", "udocker rmname box; udocker ps")
        .remarks("Info: container name: box removed."),
    same("name / rename / rmname", "a name that is not there is refused", Empty, "", "udocker rmname none"),
    same(
        "clone",
        "a clone has the files and a name of its own",
        Container,
        "echo mine > $(writer inspect -p box)/data/mine; writer clone --name=twin box",
        "cat $(udocker inspect -p twin)/data/mine; udocker ps | grep -o \"'[a-z]*'\" | sort",
    ),
    same("clone", "a container that is not there is refused", Empty, "", "udocker clone none"),
    same(
        "rm",
        "a container goes, with its name",
        Container,
        "",
        "udocker rm box; udocker ps; ls $UDOCKER_DIR/containers",
    )
    .remarks("Info: deleting container: ID"),
    same("rm", "goes on after one that is not there", Container, "", "udocker rm none box || echo $?; udocker ps"),
    same(
        "rm",
        "a protected container stays, with status 1",
        Container,
        "writer protect box",
        "udocker rm box || echo $?; udocker ps",
    ),
    same(
        "rm",
        "directories that may not be written go as well",
        Container,
        "chmod -R a-w $(writer inspect -p box)/data",
        "udocker rm -f box; ls $UDOCKER_DIR/containers",
    ),
    same(
        "export",
        "the tree of a container as a tar",
        Container,
        "writer export -o tree.tar box",
        "tar tf tree.tar | sed 's,^\\./,,; s,/$,,' | grep -e ^data -e ^bin/sh | sort; udocker import tree.tar back:1; udocker images | sort",
    ),
    same(
        "export",
        "onto standard output",
        Container,
        "",
        "udocker export - box | tar t | sed 's,^\\./,,' | grep ^data/ | sort",
    )
    .deliberately("`export … - ID`; udocker takes the `-` for the container", 0, "data/\ndata/kept\ndata/upper\n"),
    same(
        "export",
        "`--clone` and `import --clone` carry a container over",
        Container,
        "writer export --clone -o box.tar box",
        "udocker import --clone --name=copy box.tar; cat $(udocker inspect -p copy)/data/upper; udocker ps | grep -o \"'[a-z]*'\" | sort",
    ),
    same("export", "a container that is not there is refused", Empty, "", "udocker export -o x.tar none"),
    same("setup", "without options tells the modes", Container, "", "udocker setup box").deliberately(
        N1,
        0,
        "execmode: N1\nnvidiamode: False\n",
    ),
    same(
        "setup",
        "`--execmode` of udocker is seen",
        Container,
        "theirs setup --execmode=P2 box",
        "udocker setup box; udocker ps -m",
    ),
    same(
        "setup",
        "a P mode is set and runs",
        Container,
        "",
        "udocker setup --execmode=P2 box; udocker setup box; udocker run box sh -c 'echo $container_execmode'",
    ),
    same("setup", "a mode whose engine is not built yet", Container, "", "udocker setup --execmode=F1 box")
        .deliberately("a mode that we do not have yet is refused by name, never replaced by another", 1, ""),
    same(
        "setup",
        "N1, and back to the default",
        Container,
        "theirs setup --execmode=P2 box",
        "udocker setup --execmode=N1 box && udocker setup box && cat $UDOCKER_DIR/containers/box/mode",
    )
    .deliberately("N1 goes to our own file `mode` (udocker rejects it)", 0, "execmode: N1\nnvidiamode: False\nN1"),
    same("setup", "an unknown mode is refused", Container, "", "udocker setup --execmode=X9 box"),
    same("setup", "a container that is not there is refused", Empty, "", "udocker setup --execmode=P2 none"),
    same(
        "setup",
        "a protected container is refused",
        Container,
        "writer protect box",
        "udocker setup --execmode=P2 box",
    ),
    same("setup", "`--purge` ends with 0", Container, "", "udocker setup --purge box"),
    same("setup", "`--nvidia` without a driver", Container, "", "udocker setup --nvidia box").deliberately(
        "\"setup --nvidia failing must be an error\"",
        1,
        "",
    ),
    same(
        "export",
        "without `-o` onto standard output",
        Container,
        "",
        "udocker export box | tar t | sed 's,^\\./,,' | grep ^data/ | sort",
    ),
    same(
        "setup",
        "`--fixperm` gives the user its files back",
        Container,
        "chmod 0 $(writer inspect -p box)/data/kept",
        "udocker setup --fixperm box 2>fixed; cat $(udocker inspect -p box)/data/kept",
    ),
];
