//! Containers: IDs and names, layered or full, reading what udocker wrote and writing what it reads.
