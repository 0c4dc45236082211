package storage

// Values of lseek's whence that find the next data and the next hole.
const (
	seekData = 3
	seekHole = 4
)
