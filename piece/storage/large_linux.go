package storage

import "syscall"

// largeFile lets 32-bit programs open files of 2 GiB and more, for which os.OpenFile sees to itself, but not os.Root.
const largeFile = syscall.O_LARGEFILE
