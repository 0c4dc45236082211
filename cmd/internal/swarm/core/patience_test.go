package core

import (
	"net/netip"
	"testing"
	"time"

	"bittern/peer/wire"
	"bittern/piece"
)

// floods are the ways of a peer that brings nobody on; n counts from 0.
var floods = []struct {
	name string
	do   func(r *rig, n int)
	why  string
}{
	{"keep-alives", func(r *rig, n int) { r.handle(Event{Op: Idle, Link: 1, N: 1}) }, errFlood.Error()},
	{"large unknown messages", func(r *rig, n int) { r.handle(Event{Op: Idle, Link: 1, N: 1, Bytes: 100 * kib}) }, errFlood.Error()},
	{"the same have", func(r *rig, n int) { r.msg(1, wire.Message{ID: wire.Have, Index: 3}) }, errFlood.Error()},
	{"the same bitfield", func(r *rig, n int) { r.say(1, wire.HaveAll) }, errFlood.Error()},
	{"choke and unchoke", func(r *rig, n int) { r.say(1, wire.Choke+wire.ID(n%2)) }, errFlood.Error()},
	{"unchoke", func(r *rig, n int) { r.say(1, wire.Unchoke) }, errFlood.Error()},
	{"interested and not", func(r *rig, n int) { r.say(1, wire.Interested+wire.ID(n%2)) }, errFlood.Error()},
	{"cancels of nothing", func(r *rig, n int) { r.msg(1, about(wire.Cancel, r.c.cfg.Layout.BlockAt(0, 0))) }, errFlood.Error()},
	{"suggestions", func(r *rig, n int) { r.msg(1, wire.Message{ID: wire.Suggest, Index: 3}) }, errFlood.Error()},
	{"allowed fast", func(r *rig, n int) { r.msg(1, wire.Message{ID: wire.AllowedFast, Index: 3}) }, errFlood.Error()},
	{"the same loss", func(r *rig, n int) { r.dontHave(1, 3) }, errFlood.Error()},
	{"everything and then not", func(r *rig, n int) {
		r.say(1, wire.HaveAll)
		r.dontHave(1, 3)
	}, errFlood.Error()},
	{"ports", func(r *rig, n int) { r.msg(1, wire.Message{ID: wire.Port, Index: 3}) }, errFlood.Error()},
	{"extension handshakes", func(r *rig, n int) { r.msg(1, wire.Message{ID: wire.Extended, Payload: []byte("de")}) }, errFlood.Error()},
	{"peer exchange", func(r *rig, n int) {
		r.msg(1, wire.Message{ID: wire.Extended, ExtID: ourPex, Payload: wire.AppendPex(nil, wire.Pex{})})
	}, errFlood.Error()},
	{"unknown extensions", func(r *rig, n int) {
		r.msg(1, wire.Message{ID: wire.Extended, ExtID: 99, Payload: make([]byte, 100*kib)})
	}, errFlood.Error()},
	{"requests while choked", func(r *rig, n int) { r.msg(1, request(0, uint32(n%4))) }, errInsists.Error()},
	{"requests for metadata", func(r *rig, n int) {
		m := wire.AppendMetadata(nil, wire.Metadata{Type: wire.MetadataRequest, Piece: 9})
		r.msg(1, wire.Message{ID: wire.Extended, ExtID: metadataID, Payload: m})
	}, errInsists.Error()},
	{"blocks that nobody asked for", func(r *rig, n int) { r.block(1, r.c.cfg.Layout.BlockAt(0, n%4)) }, "peer sends what nobody asked for"},
	{"rejects of nothing", func(r *rig, n int) { r.msg(1, about(wire.Reject, r.c.cfg.Layout.BlockAt(0, 0))) }, "peer sends what nobody asked for"},
}

const metadataID = 7 // by which we want messages of ut_metadata

// patienceRig has one peer, which has everything and wants what we have; its slots are for others.
func patienceRig(t *testing.T) *rig {
	l := layoutOf(t, mib, 64*kib)
	r := newRig(t, Config{Layout: l, Slots: -1, Info: make([]byte, 100), Peering: Peering{
		Ext: wire.ExtHandshake{M: wire.ExtIDs{UtPex: ourPex, UtMetadata: metadataID, DontHave: ourDontHave}},
	}})
	rem := remote(1)
	rem.Ext = true
	r.handle(Event{Op: Joined, Link: 1, Remote: rem})
	r.say(1, wire.HaveAll)
	r.msg(1, wire.Message{ID: wire.Extended, Payload: wire.AppendExtHandshake(nil, wire.ExtHandshake{M: wire.ExtIDs{UtMetadata: 3}})})
	return r
}

func TestAFloodLosesItsPlace(t *testing.T) {
	for _, tt := range floods {
		t.Run(tt.name, func(t *testing.T) {
			r := patienceRig(t)
			for n := range 100 * mostPatience {
				tt.do(r, n)
				if n%100 == 0 {
					r.tick(10 * time.Millisecond)
				}
				if r.c.byID[1] == nil {
					break
				}
			}
			if want := "1:drop " + tt.why; !r.has(want) {
				t.Errorf("no %q", want)
			}
			if r.c.dialing.bannedIPs[addr(1).Addr()] {
				t.Error("banned, though it told no lie")
			}
		})
	}
}

// Who was dropped for breaking the rules may call again after a minute, and others from elsewhere at once.
func TestWhoMisbehavesMayNotCallAgainAtOnce(t *testing.T) {
	for _, tt := range []struct {
		name, from string
		after      time.Duration
		refused    bool
	}{
		{"at once", "198.18.0.1:50000", 0, true},
		{"just too soon", "198.18.0.1:50000", shutOutFor - 1, true},
		{"a minute later", "198.18.0.1:50000", shutOutFor, false},
		{"from elsewhere", "198.18.0.2:50000", 0, false},
		{"from another address of its network", "[2001:db8::2]:50000", 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := patienceRig(t)
			r.c.dialing.shutOut(netip.MustParseAddr("2001:db8::1"), r.now)
			r.handle(Event{Op: Idle, Link: 1, N: mostPatience + 1})
			r.handle(Event{Op: Idle, Link: 1, N: 1})
			r.tick(tt.after)
			r.forget()
			r.handle(Event{Op: Joined, Link: 2, Remote: &Remote{ID: [20]byte{2}, Addr: netip.MustParseAddrPort(tt.from)}})
			if got := r.has("2:drop " + errTooSoon.Error()); got != tt.refused {
				t.Errorf("refused: %v, want %v", got, tt.refused)
			}
		})
	}
}

// However many break the rules, what is remembered of them is bounded.
func TestWhatIsRememberedOfMisdeedsIsBounded(t *testing.T) {
	var s dialState
	s.init(1)
	ip := netip.MustParseAddr("198.18.0.1")
	for range maxKnown + 10 {
		s.shutOut(ip, epoch)
		ip = ip.Next()
	}
	if len(s.misbehaved) != maxKnown {
		t.Errorf("%d are remembered, want %d", len(s.misbehaved), maxKnown)
	}
	if s.shutOut(ip, epoch.Add(shutOutFor)); len(s.misbehaved) != 1 {
		t.Errorf("%d are remembered a minute later, want the last", len(s.misbehaved))
	}
}

// Now and then each of these is nothing but what happens.
func TestALittleOfNoUseIsBorne(t *testing.T) {
	for _, tt := range floods {
		if tt.name == "unknown extensions" || tt.name == "large unknown messages" {
			continue // 100 KiB are not a little
		}
		t.Run(tt.name, func(t *testing.T) {
			r := patienceRig(t)
			for n := range 2000 {
				tt.do(r, n)
				r.tick(2 * time.Second)
			}
			if r.c.byID[1] == nil {
				t.Errorf("dropped after %v", r.now.Sub(epoch))
			}
		})
	}
}

// What an honest peer says in a fast swarm, where each piece of ours makes it interested and each of its own no longer
// so, or that sends a block and rejects it, too, is paid for by what it brings.
func TestUsefulPeersAreBorne(t *testing.T) {
	r := newRig(t, Config{Layout: layoutOf(t, 8000*32*kib, 32*kib)})
	r.seed(1)
	r.join(2)
	for i := range r.c.cfg.Layout.Pieces() {
		for _, b := range r.all(i) {
			r.sends(1, b)
			r.msg(1, about(wire.Reject, b))
		}
		r.handle(Event{Op: Verified, Piece: i, OK: true})
		r.say(2, wire.Interested)
		r.say(2, wire.NotInterested)
		r.forget()
	}
	if len(r.c.links) != 2 {
		t.Errorf("%d links, want both", len(r.c.links))
	}
}

// A choke meets all that a peer has asked for meanwhile, even if it does not keep to our limit.
func TestRequestsThatMeetAChokeAreBorne(t *testing.T) {
	r := patienceRig(t)
	for n := range 1500 {
		r.msg(1, request(uint32(n%16), uint32(n/16%4)))
	}
	if r.c.byID[1] == nil {
		t.Error("dropped")
	}
	r.handle(Event{Op: Sent, Link: 1, N: 100 * piece.BlockSize})
	for range 4 * maxQueue {
		r.msg(1, request(0, 0))
	}
	if r.c.byID[1] == nil {
		t.Error("dropped, though we have served it since")
	}
}
