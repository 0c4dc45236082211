//go:build race || 386

package sim

// plays is how many seeds a swarm is played with: one where the race detector, or an emulated machine, makes a play take
// twenty times as long. What it finds does not depend on luck.
const plays = 1
