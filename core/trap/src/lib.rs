//! Loader of the in-process P engine: put inside a program, it answers the path system calls that seccomp traps
//! (docs: design, section 4). Nothing is built here yet; the P modes are refused by name until it is.
