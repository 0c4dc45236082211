//go:build !race

package metainfo

// slack is how much longer things may take than is promised: not at all.
const slack = 1
