//go:build !race

package metainfo

// slack is how much longer things may take than is promised, because others work on the machine too.
const slack = 4
