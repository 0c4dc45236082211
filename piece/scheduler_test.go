package piece

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// state writes a scheduler as a string, one character a block and a space between pieces:
// '.' free, 'a' asked of peer a (the first that joined), '2' and '3' asked of so many,
// '#' stored, '=' verified, '-' not wanted and not open.
func state(s *Scheduler) string {
	var b strings.Builder
	for i := range s.layout.Pieces() {
		if i > 0 {
			b.WriteByte(' ')
		}
		o, n := s.opened(i), s.layout.Blocks(i)
		switch {
		case s.have.Has(i):
			b.WriteString(strings.Repeat("=", n))
		case o != nil:
			for k := range o.blocks {
				b.WriteByte(blockState(o.blocks[k]))
			}
		case !s.wanted.Has(i):
			b.WriteString(strings.Repeat("-", n))
		default:
			b.WriteString(strings.Repeat(".", n))
		}
	}
	return b.String()
}

func blockState(b block) byte {
	switch {
	case b[0] == stored:
		return '#'
	case b.askers() > 1:
		return '0' + byte(b.askers())
	case b[0] != 0:
		return 'a' + byte(b[0]-1)
	}
	return '.'
}

// A script runs lines against a scheduler whose pieces are given by their numbers of blocks.
type script struct {
	t     *testing.T
	s     *Scheduler
	peers map[string]*Peer
}

func runScript(t *testing.T, pieces, blocks int, lines string) {
	t.Helper()
	l := layout(t, int64(pieces)*int64(blocks)*BlockSize, int64(blocks)*BlockSize)
	sc := script{t, NewScheduler(l, rand.New(rand.NewPCG(1, 1))), map[string]*Peer{}}
	sc.s.SetSequential(true)
	for line := range strings.SplitSeq(strings.TrimSpace(lines), "\n") {
		line = strings.TrimSpace(line)
		before := state(sc.s)
		if got, want := sc.run(strings.Fields(line)); got != want {
			t.Fatalf("%s\n got %q\nwant %q\nbefore %s\nafter  %s", line, got, want, before, state(sc.s))
		}
		audit(t, sc.s)
	}
}

func (sc *script) block(name string) Block {
	i, n, _ := strings.Cut(name, ".")
	return sc.s.layout.BlockAt(sc.number(i), sc.number(n))
}

func (sc *script) number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		sc.t.Fatal(err)
	}
	return n
}

// run executes one line and returns what it gave and what it should have given.
func (sc *script) run(f []string) (got, want string) {
	arg := func(k int) string {
		if k < len(f) {
			return f[k]
		}
		return ""
	}
	p := sc.peers[arg(1)]
	switch f[0] {
	case "join": // join PEER all | 0110 (one digit a piece)
		p = sc.s.Join()
		sc.peers[f[1]] = p
		if f[2] == "all" {
			sc.s.HaveAll(p)
			break
		}
		for i, c := range f[2] {
			if c == '1' {
				sc.s.Have(p, i)
			}
		}
	case "fast", "slow": // fast PEER N = BLOCK... (piece.block)
		var names []string
		for _, b := range sc.s.Next(p, sc.number(f[2]), f[0] == "fast", nil) {
			names = append(names, fmt.Sprintf("%d.%d", b.Piece, sc.s.layout.Number(b)))
		}
		return strings.Join(names, " "), strings.Join(f[4:], " ")
	case "got": // got PEER BLOCK [cancel PEER...]
		fresh, others := sc.s.Received(p, sc.block(f[2]))
		names := []string{"got", f[1], f[2]}
		if !fresh {
			names[0] = "old"
		}
		if len(others) > 0 {
			names = append(names, "cancel")
		}
		for _, q := range others {
			names = append(names, string(rune('a'+q.slot-1)))
		}
		return strings.Join(names, " "), strings.Join(f, " ")
	case "old": // old PEER BLOCK: received, not fresh
		fresh, others := sc.s.Received(p, sc.block(f[2]))
		return fmt.Sprint(fresh, len(others)), "false 0"
	case "back":
		sc.s.Return(p, sc.block(f[2]))
	case "choke":
		sc.s.ReturnAll(p)
	case "leave":
		sc.s.Leave(p)
	case "has":
		sc.s.Have(p, sc.number(f[2]))
	case "lost":
		sc.s.Lost(p, sc.number(f[2]))
	case "chokes", "unchokes":
		sc.s.SetChoking(p, f[0] == "chokes")
	case "stalls":
		sc.s.SetStalled(p, true)
	case "allows":
		sc.s.Allow(p, sc.number(f[2]))
	case "refuses":
		sc.s.Disallow(p, sc.number(f[2]))
	case "suggests":
		sc.s.Suggest(p, sc.number(f[2]))
	case "good":
		sc.s.Verified(sc.number(f[1]))
	case "bad":
		sc.s.Failed(sc.number(f[1]))
	case "want", "skip":
		sc.s.SetWanted(sc.number(f[1]), f[0] == "want")
	case "rarest":
		sc.s.SetSequential(false)
	case "is": // is STATE
		return state(sc.s), strings.Join(f[1:], " ")
	case "forget": // forget BLOCK true|false
		return fmt.Sprint(sc.s.Forget(sc.block(f[1]))), f[2]
	case "hold", "go":
		sc.s.Hold(sc.number(f[1]), f[0] == "hold")
	case "only": // only PEER N
		sc.s.Restrict(p, sc.number(f[2]))
	case "any":
		sc.s.Restrict(p, -1)
	case "relieve":
		sc.s.Relieve(p)
	case "why": // why N REASON
		return sc.s.Reason(sc.number(f[1])).String(), strings.Join(f[2:], " ")
	case "endgame", "complete": // endgame true|false
		is := sc.s.Endgame()
		if f[0] == "complete" {
			is = sc.s.Complete()
		}
		return fmt.Sprint(is), f[1]
	case "interesting": // interesting PEER true|false
		return fmt.Sprint(sc.s.Interesting(p)), f[2]
	default:
		sc.t.Fatalf("no such line: %q", f)
	}
	return "", ""
}

// span names the blocks of a piece from one to another, upwards or downwards.
func span(piece, from, to int) string {
	step := 1
	if to < from {
		step = -1
	}
	names := []string{fmt.Sprintf("%d.%d", piece, from)}
	for from != to {
		from += step
		names = append(names, fmt.Sprintf("%d.%d", piece, from))
	}
	return strings.Join(names, " ")
}

func TestScripts(t *testing.T) {
	for _, tt := range []struct {
		name           string
		pieces, blocks int
		lines          string
	}{
		{"fast peers own pieces, slow ones share", 5, 4, `
			join a all
			join b all
			join c all
			join d all
			fast a 2 = 0.0 0.1
			fast b 2 = 1.0 1.1
			slow c 1 = 2.0
			slow d 2 = 2.1 2.2
			slow c 2 = 2.3 3.0
			slow d 1 = 3.1
			fast a 1 = 0.2
			is aaa. bb.. cddc cd.. ....`},
		{"a fast peer goes on to the next piece in the same call", 3, 2, `
			join a all
			fast a 5 = 0.0 0.1 1.0 1.1 2.0
			is aa aa a.`},
		{"a started piece is finished before another is opened", 3, 4, `
			join a all
			join b all
			fast a 2 = 0.0 0.1
			got a 0.0
			leave a
			is #... .... ....
			fast b 4 = 0.1 0.2 0.3 1.0`},
		{"of several left behind the nearest to its end comes first", 3, 4, `
			rarest
			join a 010
			join b 100
			join c all
			fast a 2 = 1.0 1.1
			fast b 3 = 0.0 0.1 0.2
			got a 1.0
			got b 0.0
			got b 0.1
			got b 0.2
			leave a
			leave b
			is ###. #... ....
			fast c 3 = 0.3 1.1 1.2`},
		{"untouched again when nothing was stored", 2, 2, `
			join a all
			join b 01
			fast a 1 = 0.0
			choke a
			is .. ..
			fast b 3 = 1.0 1.1`},
		{"a block returned goes to another", 1, 3, `
			join a all
			join b all
			fast a 3 = 0.0 0.1 0.2
			back a 0.1
			is a.a
			endgame false
			fast b 1 = 0.1
			is aba
			endgame true`},
		{"a return after the block came from elsewhere", 1, 3, `
			join a all
			join b all
			fast a 3 = 0.0 0.1 0.2
			got b 0.0 cancel a
			back a 0.0
			old a 0.0
			back b 0.2
			is #aa`},
		{"a block never asked for", 2, 2, `
			join a all
			got a 1.1
			is .. .#
			fast a 2 = 1.0 0.0
			skip 0
			back a 0.0
			is -- a#
			old a 0.1`},
		{"a slow peer's piece is taken over when nothing is untouched", 2, 4, `
			rarest
			join a 10
			join b all
			slow a 1 = 0.0
			fast b 5 = 1.0 1.1 1.2 1.3 0.1
			slow a 1 = 0.3
			is ab.a bbbb`},
		{"in sequence a slow peer's piece is taken over before later ones are opened", 2, 4, `
			join a all
			join b all
			slow a 1 = 0.0
			fast b 4 = 0.1 0.2 0.3 1.0
			is abbb b...`},
		{"a peer that chokes is asked for what it allows and has, and does not hold it from others", 4, 2, `
			join a 1101
			chokes a
			slow a 9 =
			allows a 1
			allows a 2
			allows a 3
			slow a 3 = 1.0 1.1 3.0
			is .. aa .. a.
			refuses a 3
			back a 3.0
			slow a 9 =
			join b all
			fast b 6 = 0.0 0.1 2.0 2.1 3.0 3.1
			unchokes a
			slow a 9 =
			leave b
			slow a 9 = 0.0 0.1 3.0 3.1`},
		{"no help and no endgame from a peer that chokes", 2, 2, `
			join a all
			join b all
			chokes b
			fast a 3 = 0.0 0.1 1.0
			allows b 0
			fast b 9 =
			fast a 9 = 1.1
			fast b 9 = 0.1 0.0
			is 22 aa`},
		{"a suggestion decides between equals", 6, 1, `
			join x 111111
			join z 111110
			good 0
			good 1
			rarest
			suggests x 3
			fast x 1 = 3.0
			good 3
			good 2
			suggests x 4
			fast x 1 = 5.0
			fast x 1 = 4.0`},
		{"help from the far end of a fast peer's piece, half of it", 2, 6, `
			join a all
			join b all
			fast a 1 = 0.0
			fast b 6 = 1.0 1.1 1.2 1.3 1.4 1.5
			fast b 9 = 0.5 0.4 0.3
			is a..bbb bbbbbb
			endgame false`},
		{"endgame asks the fewest-asked, two at most, never twice", 1, 3, `
			join a all
			join b all
			join c all
			join d all
			fast a 3 = 0.0 0.1 0.2
			endgame true
			fast b 1 = 0.2
			fast c 9 = 0.1 0.0
			is 222
			fast a 90 =
			fast d 9 =
			fast b 90 =
			is 222
			got c 0.1 cancel a
			is 2#2
			got a 0.2 cancel b
			got c 0.0 cancel a
			is ###
			fast b 9 =
			good 0
			complete true
			endgame false`},
		{"endgame asks three of whom two are slow", 1, 3, `
			join a all
			join b all
			join c all
			join d all
			slow a 3 = 0.0 0.1 0.2
			endgame true
			slow b 1 = 0.2
			fast c 9 = 0.1 0.0 0.2
			is 223
			slow d 9 =
			is 223
			got c 0.1 cancel a
			is 2#3
			got a 0.2 cancel b c
			got c 0.0 cancel a
			is ###
			fast b 9 =
			good 0
			complete true
			endgame false`},
		{"endgame asks a third if both others stall", 1, 2, `
			join a all
			join b all
			join c all
			fast a 2 = 0.0 0.1
			fast b 2 = 0.1 0.0
			fast c 2 =
			stalls a
			fast c 2 =
			stalls b
			fast c 2 = 0.1 0.0
			is 33`},
		{"endgame spares a peer that is busy", 2, 2, `
			join a all
			join b all
			fast a 2 = 0.0 0.1
			fast b 2 = 1.0 1.1
			endgame true
			fast b 15 =
			fast b 16 = 0.1 0.0
			is 22 bb`},
		{"endgame turns to slow peers' blocks first", 2, 2, `
			join a all
			join b all
			join c all
			fast a 2 = 0.0 0.1
			slow b 2 = 1.0 1.1
			fast c 3 = 1.1 1.0 0.1
			is a2 22`},
		{"endgame asks for a batch of what fast peers were asked for, and an idle peer for a few more", 1, 40, `
			join a all
			join b all
			join c all
			join d all
			fast a 40 = ` + span(0, 0, 39) + `
			endgame true
			fast b 10 = ` + span(0, 39, 30) + `
			fast c 20 = ` + span(0, 29, 24) + `
			fast c 90 =
			fast d 20 = ` + span(0, 23, 20) + `
			fast d 90 =
			got c 0.29 cancel a
			got c 0.28 cancel a
			got c 0.27 cancel a
			got c 0.26 cancel a
			fast d 90 =
			got c 0.25 cancel a
			fast d 90 = 0.19
			got c 0.24 cancel a
			fast c 2 = 0.18 0.17
			fast c 90 =`},
		{"endgame counts what slow peers were asked for, too, until who was asked alone stalls", 2, 20, `
			join a all
			join b all
			join c all
			join d all
			fast a 20 = ` + span(0, 0, 19) + `
			slow d 20 = ` + span(1, 0, 19) + `
			fast b 90 = ` + span(1, 19, 4) + `
			fast c 90 = ` + span(1, 3, 0) + ` ` + span(0, 19, 16) + `
			fast c 90 =
			stalls a
			fast c 90 = ` + span(0, 15, 0) + `
			fast c 90 =`},
		{"endgame asks each for a batch of what a slow peer was asked for", 1, 40, `
			join a all
			join b all
			join c all
			slow a 40 = ` + span(0, 0, 39) + `
			fast b 90 = ` + span(0, 39, 24) + `
			fast c 90 = ` + span(0, 23, 8)},
		{"no endgame while there is a piece that nobody has", 2, 1, `
			join a 10
			join b 10
			fast a 2 = 0.0
			endgame false
			fast b 2 =
			is a .
			has b 1
			fast b 2 = 1.0 0.0
			endgame true`},
		{"no endgame without anything in flight", 1, 1, `
			join a 0
			endgame false
			fast a 1 =
			has a 0
			fast a 1 = 0.0
			got a 0.0
			endgame false
			fast a 1 =
			interesting a true
			good 0
			interesting a false`},
		{"a failed piece is fetched whole from one peer", 2, 3, `
			join a all
			join b all
			join c all
			fast a 2 = 0.0 0.1
			slow b 1 = 1.0
			slow c 2 = 1.1 1.2
			got b 1.0
			got c 1.1
			got c 1.2
			is aa. ###
			bad 1
			is aa. ...
			slow b 1 = 1.0
			slow c 2 = 0.2
			is aac b..
			slow b 2 = 1.1 1.2
			is aac bbb`},
		{"a piece that failed comes before all others, though another is begun", 4, 2, `
			join a all
			join b all
			fast a 1 = 0.0
			fast b 2 = 1.0 1.1
			got b 1.0
			got b 1.1
			bad 1
			why 0 in order
			fast a 3 = 1.0 1.1 0.1
			why 1 failed before
			why 0 its own
			fast b 2 = 2.0 2.1`},
		{"a block that is forgotten is asked for again", 1, 3, `
			join a all
			join b all
			forget 0.0 false
			fast a 2 = 0.0 0.1
			forget 0.0 false
			got a 0.0
			got a 0.1
			forget 0.0 true
			forget 0.0 false
			is .#.
			fast b 1 = 0.2
			fast a 1 = 0.0
			got a 0.0
			got b 0.2
			forget 0.0 false
			is ###`},
		{"a piece of which nothing is left is untouched", 2, 2, `
			join a all
			fast a 1 = 0.0
			got a 0.0
			hold 0
			forget 0.0 true
			is .. ..
			fast a 3 = 0.0 0.1 1.0`},
		{"a piece that is held waits, and its blocks may come", 3, 3, `
			join a all
			join b all
			fast a 2 = 0.0 0.1
			hold 0
			fast a 1 = 1.0
			fast b 9 = 2.0 2.1 2.2 1.2
			got a 0.1
			is a#. a.b bbb
			go 0
			fast a 9 = 0.2 1.1
			endgame true
			hold 0
			skip 0
			go 0
			want 0
			is a#a aab bbb`},
		{"a verdict ends a hold", 1, 2, `
			join a all
			fast a 1 = 0.0
			hold 0
			bad 0
			fast a 2 = 0.0 0.1`},
		{"one that is restricted is asked for that piece only", 3, 2, `
			join a all
			join b all
			only a 1
			fast a 9 = 1.0 1.1
			fast b 4 = 0.0 0.1 2.0 2.1
			fast a 9 =
			any a
			got a 1.0
			got a 1.1
			fast a 9 = 0.1 0.0 2.1 2.0
			why 0 endgame`},
		{"a failed piece that its owner is relieved of goes on with another, once nothing is in flight", 2, 2, `
			join a all
			join b all
			bad 0
			fast a 1 = 0.0
			fast b 2 = 1.0 1.1
			relieve a
			slow b 1 =
			got a 0.0
			slow b 1 = 0.1`},
		{"a suspect piece of a fast peer is left to it in endgame, too", 1, 2, `
			join a all
			join b all
			bad 0
			fast a 1 = 0.0
			fast b 2 =
			fast a 1 = 0.1
			endgame true
			fast b 2 =
			slow a 1 =
			slow b 2 =
			fast b 2 = 0.1 0.0`},
		{"a suspect piece left half done waits for what is in flight", 1, 4, `
			join a all
			join b all
			bad 0
			fast a 2 = 0.0 0.1
			back a 0.1
			fast b 1 =
			got a 0.0
			fast b 3 = 0.1 0.2 0.3
			good 0
			complete true`},
		{"a piece no longer wanted, and wanted again", 3, 2, `
			join a all
			fast a 1 = 0.0
			skip 0
			is a. .. ..
			fast a 1 = 1.0
			got a 0.0
			skip 2
			want 0
			fast a 3 = 0.1 1.1
			is #a aa --
			got a 1.0
			got a 1.1
			good 1
			skip 0
			complete true
			want 2
			complete false
			interesting a true`},
		{"a peer that loses a piece", 2, 2, `
			join a all
			join b all
			fast a 3 = 0.0 0.1 1.0
			lost a 0
			is .. a.
			fast a 3 = 1.1
			fast b 2 = 0.0 0.1
			has a 0
			lost b 0
			lost b 0
			is .. aa
			fast a 1 = 0.0`},
		{"a piece that all is stored of is not asked while its hash is awaited", 2, 1, `
			join a all
			join b all
			fast a 1 = 0.0
			got a 0.0
			is # .
			fast b 2 = 1.0
			old b 0.0
			leave a
			is # b
			bad 0
			fast b 1 = 0.0`},
		{"a verified piece that turns out broken", 2, 1, `
			join a 10
			good 0
			interesting a false
			bad 0
			interesting a true
			fast a 1 = 0.0
			good 0
			good 0
			is = .`},
		{"a peer that has nothing new", 3, 1, `
			join a 100
			join b all
			fast b 2 = 0.0 1.0
			fast a 1 =
			fast b 1 = 2.0
			fast a 1 = 0.0
			is 2 b b`},
		{"a peer that has left is not asked", 1, 1, `
			join a all
			leave a
			leave a
			has a 0
			fast a 1 =
			back a 0.0
			join b all
			back a 0.0
			fast b 0 =
			fast b 1 = 0.0
			back a 0.0
			is a`},
	} {
		t.Run(tt.name, func(t *testing.T) { runScript(t, tt.pieces, tt.blocks, tt.lines) })
	}
}

// TestRarestFirst: pieces are opened in the order of their availability.
func TestRarestFirst(t *testing.T) {
	l := layout(t, 8*BlockSize, BlockSize)
	s := NewScheduler(l, rand.New(rand.NewPCG(3, 3)))
	seed := s.Join()
	s.HaveAll(seed)
	for i := range randomFirst {
		s.SetHave(i)
	}
	for i, holders := range []int{0, 0, 0, 0, 3, 1, 2, 0} {
		for range holders {
			s.Have(s.Join(), i)
		}
	}
	if got := s.Availability(4); got != 4 {
		t.Errorf("availability of piece 4 is %d, want 4", got)
	}
	var order []uint32
	for _, b := range s.Next(seed, 10, true, nil) {
		order = append(order, b.Piece)
	}
	if want := []uint32{7, 5, 6, 4}; !slices.Equal(order, want) {
		t.Errorf("opened %v, want %v", order, want)
	}
}

// TestRandomFirst: the first pieces are neither the rarest nor the lowest, and vary with the seed;
// ties among equally rare ones do, too.
func TestRandomFirst(t *testing.T) {
	l := layout(t, 64*BlockSize, BlockSize)
	for _, verified := range []int{0, randomFirst} {
		firsts := map[uint32]bool{}
		for seed := range uint64(32) {
			s := NewScheduler(l, rand.New(rand.NewPCG(seed, 1)))
			for i := range verified {
				s.SetHave(i)
			}
			s.Have(s.Join(), 9) // so all but piece 9 are equally rare
			p := s.Join()
			s.HaveAll(p)
			firsts[s.Next(p, 1, true, nil)[0].Piece] = true
		}
		if len(firsts) < 16 {
			t.Errorf("%d verified: 32 seeds begin with only %d different pieces", verified, len(firsts))
		}
	}
}

// TestRareAndCommon: a peer with few, common pieces gets the rarest of them although many
// pieces that it has not are rarer.
func TestRareAndCommon(t *testing.T) {
	const pieces = 20_000
	l := layout(t, pieces*BlockSize, BlockSize)
	for _, verified := range []int{0, randomFirst} {
		s := NewScheduler(l, rand.New(rand.NewPCG(7, 7)))
		for i := range verified {
			s.SetHave(pieces - 1 - i)
		}
		rare, common := s.Join(), s.Join()
		for i := range pieces / 2 {
			s.Have(rare, i)
		}
		p := s.Join()
		for _, i := range []int{11_000, 12_345, 15_000, 19_000} {
			s.Have(p, i)
			if i != 12_345 {
				s.Have(common, i)
			}
		}
		got := s.Next(p, 5, true, nil)
		if len(got) != 4 || verified > 0 && got[0].Piece != 12_345 {
			t.Errorf("%d verified: asked %v", verified, got)
		}
		audit(t, s)
	}
}

// TestCounters: what the scheduler reports as a whole.
func TestCounters(t *testing.T) {
	l := layout(t, 2*mib+5, mib)
	s := NewScheduler(l, rand.New(rand.NewPCG(1, 1)))
	if s.Left() != 2*mib+5 || s.Complete() {
		t.Errorf("new: %d bytes left, complete %t", s.Left(), s.Complete())
	}
	s.SetWanted(0, false)
	s.SetHave(2)
	if s.Left() != mib || !slices.Equal(slices.Collect(s.HavePieces().All()), []int{2}) {
		t.Errorf("%d bytes left, have %x", s.Left(), s.HavePieces().Bytes())
	}
	s.SetHave(1)
	if s.Left() != 0 || !s.Complete() {
		t.Errorf("end: %d bytes left, complete %t", s.Left(), s.Complete())
	}
	p := s.Join()
	full := NewBitfield(3)
	full.setAll()
	s.HaveSet(p, full)
	if s.Interesting(p) || s.PeerCount(p) != 3 || !s.Has(p, 0) || s.base != 1 {
		t.Errorf("seed: interesting %t, %d pieces, %d counted as seeds", s.Interesting(p), s.PeerCount(p), s.base)
	}
	q, two := s.Join(), NewBitfield(3)
	two.Set(0)
	two.Set(2)
	s.HaveSet(q, two)
	two.Set(1)
	if s.PeerCount(q) != 2 || s.Has(q, 1) || s.Availability(0) != 2 || s.Availability(1) != 1 {
		t.Errorf("leecher: %d pieces, availability %d and %d", s.PeerCount(q), s.Availability(0), s.Availability(1))
	}
	s.SetWanted(0, true)
	if !s.Interesting(p) || !s.Interesting(q) || s.Left() != mib {
		t.Errorf("piece 0 wanted: interesting %t %t, %d bytes left", s.Interesting(p), s.Interesting(q), s.Left())
	}
	mustPanic(t, "a bitfield of another layout", func() { s.HaveSet(q, NewBitfield(4)) })
	mustPanic(t, "a block of no layout", func() { s.Received(q, Block{0, 1, BlockSize}) })
	mustPanic(t, "a piece out of range", func() { s.Have(q, 3) })
}

// TestTheSameBitfieldAgain: what a second bitfield repeats counts once, what it adds counts.
func TestTheSameBitfieldAgain(t *testing.T) {
	const pieces = 130
	s := NewScheduler(layout(t, pieces*BlockSize, BlockSize), rand.New(rand.NewPCG(1, 1)))
	most := NewBitfield(pieces)
	most.setAll()
	most.Clear(7)
	most.Clear(129)
	p := s.Join()
	for range 3 {
		s.HaveSet(p, most)
		if n := s.PeerCount(p); n != pieces-2 || s.Availability(8) != 1 || s.Availability(7) != 0 {
			t.Errorf("%d pieces, piece 8 is had by %d, piece 7 by %d", n, s.Availability(8), s.Availability(7))
		}
	}
	more := NewBitfield(pieces)
	more.Set(129)
	s.HaveSet(p, more)
	if n := s.PeerCount(p); n != pieces-1 || s.Availability(129) != 1 || s.Availability(7) != 0 {
		t.Errorf("%d pieces, piece 129 is had by %d, piece 7 by %d", n, s.Availability(129), s.Availability(7))
	}
}

// BenchmarkTheSameBitfieldAgain is what a peer can make us do that sends its bitfield over and over.
func BenchmarkTheSameBitfieldAgain(b *testing.B) {
	const pieces = MaxPieces / 8
	s := NewScheduler(layout(b, pieces*BlockSize, BlockSize), rand.New(rand.NewPCG(1, 1)))
	most := NewBitfield(pieces)
	most.setAll()
	most.Clear(7)
	p := s.Join()
	b.SetBytes(pieces / 8)
	for b.Loop() {
		s.HaveSet(p, most)
	}
}

// TestEmptyTorrent: a torrent of no bytes is complete at once.
func TestEmptyTorrent(t *testing.T) {
	s := NewScheduler(layout(t, 0, mib), rand.New(rand.NewPCG(1, 1)))
	p := s.Join()
	s.HaveSet(p, NewBitfield(0))
	if !s.Complete() || s.Left() != 0 || s.Interesting(p) || len(s.Next(p, 1, true, nil)) != 0 {
		t.Errorf("complete %t, %d bytes left, interesting %t", s.Complete(), s.Left(), s.Interesting(p))
	}
}

// TestManyPeers: there is room for as many peers as slots can name, and no more.
func TestManyPeers(t *testing.T) {
	s := NewScheduler(layout(t, BlockSize, BlockSize), rand.New(rand.NewPCG(1, 1)))
	s.peers = slices.Repeat([]*Peer{{}}, stored) // as if all but the last slot were taken
	s.peers[stored-1] = nil
	if p := s.Join(); p.slot != stored-1 {
		t.Errorf("last peer in slot %d", p.slot)
	}
	mustPanic(t, "one peer more", func() { s.Join() })
}

// TestSequentialTrades: where most peers lack something, a seed is asked for what nobody else has, one of the next
// pieces, now and then the very next; everybody else, and every seed among seeds, is asked in order.
func TestSequentialTrades(t *testing.T) {
	const pieces, others, tries = 200, 3, 2000
	first := func(rng *rand.Rand, seeds, leechers int, ask func(s *Scheduler, seed *Peer, leecher *Peer) *Peer) int {
		s := NewScheduler(layout(t, pieces*BlockSize, BlockSize), rng)
		s.SetSequential(true)
		var seed, leecher *Peer
		for range seeds {
			seed = s.Join()
			s.HaveAll(seed)
		}
		for range leechers {
			leecher = s.Join()
		}
		return int(s.Next(ask(s, seed, leecher), 1, true, nil)[0].Piece)
	}
	ofSeed := func(_ *Scheduler, seed, _ *Peer) *Peer { return seed }
	for _, tt := range []struct {
		name            string
		seeds, leechers int
		ask             func(s *Scheduler, seed, leecher *Peer) *Peer
		next            int // of the tries, those that gave the next piece: so many, about
		from, to        int // where the others lie
	}{
		{"seeds alone", 2, 0, ofSeed, tries, 0, 0},
		{"as many seeds as others", 3, 3, ofSeed, tries, 0, 0},
		{"one seed", 1, others, ofSeed, tries/earlyTurns + tries/earlyAhead, 1, earlyAhead - 1},
		{"a leecher has the first half of those ahead", 1, others, func(s *Scheduler, seed, leecher *Peer) *Peer {
			for i := range earlyAhead / 2 {
				s.Have(leecher, i)
			}
			return seed
		}, tries / earlyTurns, earlyAhead / 2, earlyAhead - 1},
		{"a leecher has all those ahead", 1, others, func(s *Scheduler, seed, leecher *Peer) *Peer {
			for i := range earlyAhead {
				s.Have(leecher, i)
			}
			return seed
		}, tries, 0, 0},
		{"it suggests one of those, and one that is too far ahead", 1, others, func(s *Scheduler, seed, _ *Peer) *Peer {
			s.Suggest(seed, 17)
			s.Suggest(seed, earlyAhead)
			return seed
		}, tries / earlyTurns, 17, 17},
		{"of the leecher itself", 1, others, func(s *Scheduler, _, leecher *Peer) *Peer {
			other := s.Join()
			for i := range pieces / 2 {
				s.Have(leecher, i)
				if i < earlyAhead-10 || i >= earlyAhead {
					s.Have(other, i)
				}
			}
			return leecher
		}, tries * 3 / 4, earlyAhead - 10, earlyAhead - 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(7, 7))
			next, least, most := 0, pieces, 0
			for range tries {
				i := first(rng, tt.seeds, tt.leechers, tt.ask)
				if i == 0 {
					next++
					continue
				}
				least, most = min(least, i), max(most, i)
			}
			if d := next - tt.next; d < -tries/20 || d > tries/20 {
				t.Errorf("the next piece %d times of %d, want about %d", next, tries, tt.next)
			}
			if tt.to > 0 && (least != tt.from || most != tt.to) {
				t.Errorf("the others from %d to %d, want %d to %d", least, most, tt.from, tt.to)
			}
		})
	}
}
