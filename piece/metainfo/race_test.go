//go:build race

package metainfo

// slack is how much longer things may take: the race detector makes them so much slower.
const slack = 20
