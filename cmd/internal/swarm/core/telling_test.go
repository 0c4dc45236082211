package core

import (
	"bytes"
	"testing"
	"time"

	"bittern/peer/wire"
)

// tellRig is a rig whose core has metadata of so many bytes, and a peer 1 that takes it as message 3.
func tellRig(t *testing.T, size int) *rig {
	t.Helper()
	cfg := Config{Info: make([]byte, size), Seed: Seeding{Forever: true}}
	for i := range cfg.Info {
		cfg.Info[i] = byte(i * i >> 7)
	}
	cfg.Ext.M.UtMetadata = 7
	r := newRig(t, cfg)
	r.handle(Event{Op: Joined, Link: 1, Remote: fast(1)})
	r.says(1, wire.ExtHandshake{M: wire.ExtIDs{UtMetadata: 3}})
	r.forget()
	return r
}

// told asks for pieces and returns the answers to everything that was asked.
func (r *rig) told(pieces ...int) (answers []wire.Metadata) {
	r.t.Helper()
	take := func(effects []Effect) {
		for _, e := range effects {
			if e.Op != Send || e.Msg.ID != wire.Extended {
				continue
			}
			m, err := wire.ParseMetadata(e.Msg.Payload)
			if err != nil || e.Msg.ExtID != 3 {
				r.t.Fatalf("message %d: %v", e.Msg.ExtID, err)
			}
			answers = append(answers, m)
		}
	}
	for _, i := range pieces {
		ask := wire.AppendMetadata(nil, wire.Metadata{Type: wire.MetadataRequest, Piece: i})
		take(r.c.Handle(r.now, Event{Op: Message, Link: 1, Msg: wire.Message{ID: wire.Extended, ExtID: 7, Payload: ask}}))
	}
	if len(pieces) == 0 {
		take(r.c.Handle(r.now, Event{Op: Tick}))
	}
	return answers
}

func TestTellsTheMetadata(t *testing.T) {
	r := tellRig(t, 2*wire.MetadataPiece+5)
	answers := r.told(2, 0, 1)
	if len(answers) != 3 {
		t.Fatalf("%d answers", len(answers))
	}
	for n, i := range []int{2, 0, 1} {
		a := answers[n]
		want := r.c.cfg.Info[i*wire.MetadataPiece : min(len(r.c.cfg.Info), (i+1)*wire.MetadataPiece)]
		if a.Type != wire.MetadataData || a.Piece != i || a.TotalSize != int64(len(r.c.cfg.Info)) || !bytes.Equal(a.Data, want) {
			t.Errorf("answer %d: type %d, piece %d of %d bytes of %d", n, a.Type, a.Piece, len(a.Data), a.TotalSize)
		}
	}
	if a := r.told(3); len(a) != 1 || a[0].Type != wire.MetadataReject || a[0].Piece != 3 {
		t.Errorf("a piece that does not exist: %+v", a)
	}
}

// TestTellsSlowly: a peer that asks for much at once gets it piece by piece, since nobody knows what it has read.
func TestTellsSlowly(t *testing.T) {
	r := tellRig(t, 100*wire.MetadataPiece)
	var all []int
	for i := range 100 {
		all = append(all, i)
	}
	n := len(r.told(all...))
	if most := tellLinkRate/wire.MetadataPiece + 1; n == 0 || n > most {
		t.Fatalf("%d pieces at once, want at most %d", n, most)
	}
	for took := 0; n < 100; took++ {
		if took == 10 {
			t.Fatalf("%d pieces after %d s", n, took)
		}
		r.now = r.now.Add(time.Second)
		n += len(r.told())
	}
	if r.c.telling.waiting != 0 {
		t.Errorf("%d still waiting", r.c.telling.waiting)
	}
}

// TestTellsOnlySoOften: a peer that goes on asking is refused, and in the end dropped.
func TestTellsOnlySoOften(t *testing.T) {
	r := tellRig(t, 100)
	served, refused := 0, 0
	for range 300 {
		r.now = r.now.Add(time.Second)
		for _, a := range r.told(0) {
			if a.Type == wire.MetadataData {
				served++
			} else {
				refused++
			}
		}
	}
	if served != tellTimes+tellSpare || refused != 300-served {
		t.Errorf("%d served, %d refused", served, refused)
	}
	for range mostPatience/costRefused + 1 {
		r.told(0)
	}
	if r.c.byID[1] != nil {
		t.Error("it goes on asking, and is still there")
	}
}

// TestTellsNobodyWhoLeft: what a peer has asked for goes with it.
func TestTellsNobodyWhoLeft(t *testing.T) {
	r := tellRig(t, 100*wire.MetadataPiece)
	var all []int
	for i := range 100 {
		all = append(all, i)
	}
	r.told(all...)
	r.handle(Event{Op: Left, Link: 1})
	if r.c.telling.waiting != 0 {
		t.Errorf("%d pieces wait for nobody", r.c.telling.waiting)
	}
}

// TestTellsNothing: without the dictionary to give, as of a private torrent, nothing is promised and nothing answered.
func TestTellsNothing(t *testing.T) {
	cfg := Config{}
	cfg.Ext.M.UtMetadata = 7
	r := newRig(t, cfg)
	for _, e := range r.c.Handle(r.now, Event{Op: Joined, Link: 1, Remote: fast(1)}) {
		if e.Op != Send || e.Msg.ID != wire.Extended {
			continue
		}
		var h wire.ExtHandshake
		if err := h.Update(e.Msg.Payload); err != nil || h.M.UtMetadata != 0 || h.MetadataSize != 0 {
			t.Errorf("handshake %+v, %v", h, err)
		}
	}
	r.says(1, wire.ExtHandshake{M: wire.ExtIDs{UtMetadata: 3}})
	if a := r.told(0); len(a) != 1 || a[0].Type != wire.MetadataReject {
		t.Errorf("answers %+v", a)
	}
}
