package sim

// A shortfall is a figure of a row that does not meet the demand yet.
type shortfall struct{ row, figure string }

// shortfalls are what bittern reaches where it does not meet the demand yet, rounded to the bad side of the worst seed
// that was played. Whoever betters one writes it down here, and takes the line out where the demand is met.
var shortfalls = map[shortfall]float64{
	{"free-riders-100", "with to without"}: 1.09,
}
