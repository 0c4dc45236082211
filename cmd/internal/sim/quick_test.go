//go:build !race && !386

package sim

// plays is how many seeds a swarm is played with.
const plays = 3
