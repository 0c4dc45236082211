package sim

// A shortfall is a figure of a row that does not meet the demand yet.
type shortfall struct{ row, figure string }

// shortfalls are what bittern reaches where it does not meet the demand yet, rounded to the bad side of the worst seed
// that was played. Whoever betters one writes it down here, and takes the line out where the demand is met.
var shortfalls = map[shortfall]float64{
	{"crowd-10", "efficiency"}:                                 0.77,
	{"crowd-10", "copies sent by the seed until one is out"}:   1.22,
	{"crowd-20", "efficiency"}:                                 0.72,
	{"crowd-20", "copies sent by the seed until one is out"}:   1.28,
	{"crowd-20", "time of the last 1 %"}:                       0.04,
	{"crowd-100", "efficiency"}:                                0.69,
	{"crowd-100", "copies sent by the seed until one is out"}:  1.32,
	{"crowd-1000", "efficiency"}:                               0.64,
	{"crowd-1000", "copies sent by the seed until one is out"}: 1.40,

	{"fast-seed-20", "efficiency"}:               0.78,
	{"fast-seed-20", "leechers' uplinks in use"}: 0.88,
	{"fast-seed-100", "efficiency"}:              0.74,

	{"contribution-20", "those with 5 MiB/s to those with 2"}: 0.9,

	{"free-riders-20", "their rate to the others', until the first is complete"}:  1.1,
	{"free-riders-20", "with to without"}:                                         1.9,
	{"free-riders-100", "their rate to the others', until the first is complete"}: 1.1,
	{"free-riders-100", "with to without"}:                                        1.9,

	{"seed-leaves-20", "complete, with the right bytes"}:     0,
	{"seed-leaves-20", "pieces that nobody has at the end"}:  20,
	{"seed-leaves-100", "complete, with the right bytes"}:    0,
	{"seed-leaves-100", "pieces that nobody has at the end"}: 30,

	{"office-12", "efficiency"}:           0.73,
	{"office-12", "time of the last 1 %"}: 0.04,
}
