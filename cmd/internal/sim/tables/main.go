// Tables plays the swarms that bittern is judged by and prints what came of them as Markdown, with what is
// demanded beside it. It exits with 1 if a figure falls short of that, and says how to see that play again.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"bittern/cmd/internal/sim"
)

// options are the flags.
type options struct {
	run      *regexp.Regexp
	leechers int
	seeds    int
	replay   int64
	out      string
	commit   string
	command  string // what plays the same rows again
}

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tables:", err)
		os.Exit(2)
	}
	// A play lets little go once its peers have met, so garbage is looked for seldom. But a thousand of them take half a gigabyte, and
	// may not take more than four times that for it.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(runtime.GOMAXPROCS(0)) * 2 << 30)
	}
	if err := play(o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "tables:", err)
		os.Exit(1)
	}
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("tables", flag.ContinueOnError)
	run := flags.String("run", "", "play the rows whose name matches this `regexp` (crowd-100$); empty means all")
	flags.IntVar(&o.leechers, "n", 0, "play with so many leechers; 0 means as many as the demands are for")
	flags.IntVar(&o.seeds, "seeds", 20, "play each row with the seeds 0, 1, ..., so many")
	flags.Int64Var(&o.replay, "replay", -1, "print every decision of the plays with this `seed` instead")
	flags.StringVar(&o.out, "o", "", "write the tables to this `file`, too")
	flags.StringVar(&o.commit, "commit", "unknown", "what to say the tables are of")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || o.seeds < 1 || o.leechers < 0 || o.replay < -1 {
		return o, errors.New("nothing but flags is understood, and no less than one seed, no leechers at all and the seed 0")
	}
	if o.out != "" { // before playing for an hour
		if _, err := os.Stat(filepath.Dir(o.out)); err != nil {
			return o, err
		}
	}
	o.command = "go run ./cmd/internal/sim/tables"
	flags.Visit(func(f *flag.Flag) {
		if f.Name != "o" && f.Name != "commit" {
			o.command += fmt.Sprintf(" -%s='%v'", f.Name, f.Value)
		}
	})
	o.run, err = regexp.Compile(*run)
	return o, err
}

// rows returns the rows that were chosen.
func (o *options) rows() (rows []sim.Row) {
	for _, kind := range sim.Kinds {
		sizes := kind.All
		if o.leechers > 0 {
			sizes = []int{o.leechers}
		}
		named := func(n int) bool { row := kind.Row(n); return o.run.MatchString(row.String()) }
		for _, n := range sizes {
			if named(n) || o.leechers > 0 && slices.ContainsFunc(kind.All, named) { // of which there are to be fewer
				rows = append(rows, kind.Row(n))
			}
		}
	}
	return rows
}

// play does what the options say.
func play(o options, to io.Writer) error {
	rows := o.rows()
	if len(rows) == 0 {
		return errors.New("no row has such a name")
	}
	if o.replay >= 0 {
		return replay(rows, uint64(o.replay), to)
	}
	seeds := make([]uint64, o.seeds)
	for n := range seeds {
		seeds[n] = uint64(n)
	}
	var failures []string
	var text bytes.Buffer
	fmt.Fprintf(&text, head, o.commit, o.command)
	printed := 0
	for n := range rows {
		outcome := rows[n].Measure(seeds, runtime.GOMAXPROCS(0))
		failures = append(failures, outcome.Failures()...)
		table(&text, outcome)
		if _, err := to.Write(text.Bytes()[printed:]); err != nil { // now, for whoever waits
			return err
		}
		printed = text.Len()
	}
	if o.out != "" {
		if err := os.WriteFile(o.out, text.Bytes(), 0o644); err != nil {
			return err
		}
	}
	if len(failures) > 0 {
		return errors.New("these fall short:\n" + strings.Join(failures, "\n"))
	}
	return nil
}

// replay prints the decisions of one play of each row, and what came of it.
func replay(rows []sim.Row, seed uint64, to io.Writer) (err error) {
	out := bufio.NewWriter(to)
	defer func() { err = out.Flush() }() // after a panic, too: the last lines are what led to it
	for _, row := range rows {
		logged := row.Scenario
		row.Scenario = func(n int, seed uint64) sim.Scenario {
			s := logged(n, seed)
			s.Log = out
			return s
		}
		p := row.Play(seed)
		for n, r := range p.Peers {
			fmt.Fprintf(out, "peer %d: came %.3f s, complete %.3f s, %d bytes received, %d of them in vain, %d sent, %d pieces failed, convicts %v\n",
				n, r.Arrived.Seconds(), r.Done.Seconds(), r.Received, r.Wasted, r.Sent, r.Failed, r.Convicts)
		}
		fmt.Fprintf(out, "%v with seed %d: trace %016x, %d events, %.3f s\n", &row, seed, p.Trace, p.Events, p.End.Seconds())
		for n := range row.Figures {
			f := &row.Figures[n]
			fmt.Fprintf(out, "%s: %s\n", f.Name, f.Format(f.Of(p)))
		}
	}
	return nil
}

// table adds what came of a row.
func table(to *bytes.Buffer, o *sim.Outcome) {
	fmt.Fprintf(to, "\n## %v\n\n%s\n\n| figure | demanded | mean | worst | its seed |\n|---|---|---|---|---|\n", o.Row, o.Row.Text)
	for n := range o.Row.Figures {
		f := &o.Row.Figures[n]
		demand := ""
		if f.Demand != sim.NoDemand {
			demand = fmt.Sprintf("%v %s", f.Demand, f.Format(f.Want))
		}
		worst, seed := o.Worst(n)
		shown := f.Format(worst)
		if !f.Holds(worst) {
			shown = "**" + shown + "**"
		}
		fmt.Fprintf(to, "| %s | %s | %s | %s | %d |\n", f.Name, demand, f.Format(o.Mean(n)), shown, seed)
	}
	if o.Row.Diversity {
		diversity(to, o)
	}
}

// diversity adds how evenly pieces were spread, in the mean of all plays.
func diversity(to *bytes.Buffer, o *sim.Outcome) {
	fmt.Fprint(to, "\n| of the time | interest | copies of the rarest piece | in the mean | of the most frequent |\n|---|---|---|---|---|\n")
	for tenth := range 9 {
		var wanting, pairs, least, mean, most float64
		for _, samples := range o.Diversity {
			s, plays := samples[tenth], float64(len(o.Diversity))
			wanting += float64(s.Wanting)
			pairs += float64(s.Pairs)
			least += float64(s.Least) / plays
			mean += s.Copies / plays
			most += float64(s.Most) / plays
		}
		fmt.Fprintf(to, "| %d %% | %.1f %% | %.1f | %.1f | %.1f |\n", 10*(tenth+1), 100*wanting/max(pairs, 1), least, mean, most)
	}
}

// head is what stands above the tables: the commit and the command.
const head = `# Simulated swarms

Written by ` + "`make sim`" + `, which plays swarms in virtual time with the very core that the program runs; package sim says what their
network is like. These tables are of commit %s, by

    %s

One row alone with a few seeds, and all that happens in one play, of which there is much:

    go run ./cmd/internal/sim/tables -run 'crowd-100$' -seeds 3
    go run ./cmd/internal/sim/tables -run 'crowd-100$' -replay 7

Unless said, uplinks are 1 MiB/s, downlinks 8 MiB/s, one-way delays 10 to 100 ms, the content 64 MiB in pieces of 256 KiB, and a peer has
80 connections at most. *Worst* is the seed that is the farthest from the demand, where there is none the highest; it is bold where it
does not meet the demand.

- *Efficiency* is the fluid bound max(F/u_s, F/d_min, N F/(u_s + sum u)) of Kumar and Ross (2006) to the time from the arrival of the seed until the
  last leecher is complete. The bound knows nothing of heads and headers, which make a block 3.9 %% longer: 0.96 is the most there can be.
- The *seed's uplink* is looked at from its first block on; what is busy carries heads and headers as well as blocks.
- *Leechers' uplinks in use* is the share of what they could have carried between the moments at which 5 and 95 %% of all bytes had
  come: the swarm at work, without the arrivals and the last pieces, which have figures of their own.
- *Time of the last 1 %%* is the share of a leecher's time from 99 %% of the bytes on, in the mean of all.
- *Interest* is, as a/b in Legout et al., "Rarest first and choke algorithms are enough" (2006), the share of the time that two leechers are
  connected in which one wants something of the other, of pairs that were for ten seconds at least; their c/d is the same as the other of
  the two sees it. In the table by time it is the share of the pairs of that moment. The ideal is 100 %%, and as many copies of the rarest piece as of
  the others.
`
