//go:build linux

package main_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

const metadataPiece = 16 * kib

// newMagnetFixture is a torrent whose info dictionary has four pieces.
func newMagnetFixture(name string) *fixture {
	x := newFixture(name, 2*mib, 64*kib)
	x.info = x.info[:len(x.info)-1] + "6:source" + bstring(strings.Repeat("x", 60_000)) + "e"
	x.hash = sha1.Sum([]byte(x.info))
	return x
}

func (x *fixture) magnet() string { return fmt.Sprintf("magnet:?xt=urn:btih:%x", x.hash) }

// metadata is a piece of the info dictionary; empty if there is no such piece.
func (x *fixture) metadata(i int) []byte {
	from := min(len(x.info), i*metadataPiece)
	return []byte(x.info[from:min(len(x.info), from+metadataPiece)])
}

// offers makes an offer of a size, with an answer to each request.
func offers(size int64, give func(l *link, i int) error) *offer { return &offer{size, give} }

// offer is the honest one.
func (x *fixture) offer() *offer {
	size := int64(len(x.info))
	return offers(size, func(l *link, i int) error { return l.sendMetadata(i, size, x.metadata(i)) })
}

// hangsUp never answers.
func hangsUp(*link, int) error { return nil }

// junk answers with zeros, as many as the claimed size wants.
func junk(size int64) *offer {
	return offers(size, func(l *link, i int) error {
		return l.sendMetadata(i, size, make([]byte, min(metadataPiece, size-int64(i)*metadataPiece)))
	})
}

// TestHostileMetadata: whatever others offer as metadata, that of the honest peer arrives.
func TestHostileMetadata(t *testing.T) {
	x := newMagnetFixture("payload")
	size := int64(len(x.info))
	for _, tt := range []struct {
		name   string
		others []*offer
	}{
		{"two gigabytes", []*offer{junk(2 << 30)}},
		{"negative and none", []*offer{offers(-5, hangsUp), offers(0, hangsUp), offers(-1<<62, hangsUp)}},
		{"as large as may be", []*offer{junk(32 << 20), junk(32<<20 - 1)}},
		{"lying", []*offer{junk(size), junk(size), junk(1000)}},
		{"silent", []*offer{offers(size, hangsUp), offers(size, hangsUp), offers(size, hangsUp)}},
		{"one piece wrong", []*offer{offers(size, func(l *link, i int) error {
			data := bytes.Clone(x.metadata(i))
			if i == 2 {
				data[100] ^= 1
			}
			return l.sendMetadata(i, size, data)
		})}},
		{"refusing", []*offer{offers(size, func(l *link, i int) error {
			return l.send(msgExtended, []byte{l.theirMetadata}, fmt.Appendf(nil, "d8:msg_typei2e5:piecei%dee", i))
		})}},
		{"too long", []*offer{offers(size, func(l *link, i int) error { return l.sendMetadata(i, size, make([]byte, 100*kib)) })}},
		{"wrong", []*offer{
			offers(size, func(l *link, i int) error { return l.sendMetadata(i+1, size, x.metadata(i)) }),
			offers(size, func(l *link, i int) error { return l.sendMetadata(i, 1<<40, x.metadata(i)) }),
			offers(size, func(l *link, i int) error { return l.send(msgExtended, []byte{l.theirMetadata}, []byte("d8:msg_type")) }),
			offers(size, func(l *link, i int) error {
				return l.send(msgExtended, []byte{l.theirMetadata}, bytes.Repeat([]byte("l"), 100*kib))
			}),
		}},
	} {
		for _, mode := range []string{"--progress=lines", "--json"} {
			t.Run(tt.name+mode, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				args := []string{"get", x.magnet(), "-d", dir, mode, "--metadata-timeout", "60s"}
				for i, o := range tt.others {
					p := newPeer(t, x, fmt.Sprintf("127.0.2.%d", i+1), script{offer: o, has: func(int) bool { return false }})
					args = append(args, "--peer", p.addr.String())
				}
				honest := newPeer(t, x, "127.0.0.1", script{offer: x.offer()})
				get := run(t, append(args, "--peer", honest.addr.String())...)
				get.exits(t, 0, 60*time.Second)
				x.isAloneIn(t, dir)
				if mode == "--json" {
					for line := range strings.Lines(get.out.String()) {
						if !json.Valid([]byte(line)) {
							t.Errorf("no JSON: %s", line)
						}
					}
				}
			})
		}
	}
}

// TestHostileMetadataMemory: one copy after the other that is as large as may be, and junk, takes no more memory than one.
func TestHostileMetadataMemory(t *testing.T) {
	x := newMagnetFixture("payload")
	args := []string{"get", x.magnet(), "-d", t.TempDir(), "--metadata-timeout", "60s"}
	for i := range 4 {
		p := newPeer(t, x, fmt.Sprintf("127.0.2.%d", i+1), script{offer: junk(32 << 20)})
		args = append(args, "--peer", p.addr.String())
	}
	get := run(t, args...)
	get.exits(t, 4, 60*time.Second)
	if !strings.Contains(get.err.String(), "4 peers banned") {
		t.Errorf("stderr: %s", get.err.String())
	}
}

// TestHostileNoMetadata: where nobody gives it the command says so, when it was told to.
func TestHostileNoMetadata(t *testing.T) {
	t.Parallel()
	x := newMagnetFixture("payload")
	p := newPeer(t, x, "127.0.0.1", script{offer: offers(int64(len(x.info)), hangsUp)})
	get := run(t, "get", x.magnet(), "-d", t.TempDir(), "--peer", p.addr.String(), "--metadata-timeout", "2s", "--json")
	get.exits(t, 4, 10*time.Second)
	if out := get.out.String(); !strings.Contains(out, `"code":4,"reason":"no-metadata"`) || !strings.Contains(out, "1 peer, none gives it") {
		t.Errorf("stdout: %s", out)
	}
	without := run(t, "get", x.magnet(), "-d", t.TempDir(), "--peer", newPeer(t, x, "127.0.0.1", script{}).addr.String(), "--metadata-timeout", "1s")
	without.exits(t, 4, 10*time.Second)
	if !strings.Contains(without.err.String(), "bittern: no metadata after 1s: ") {
		t.Error("the time limit is not named")
	}
}

// TestMagnetIsContinued: after a kill the metadata is there, and the connections that gave it were those that gave the
// content.
func TestMagnetIsContinued(t *testing.T) {
	t.Parallel()
	x := newMagnetFixture("payload")
	p := newPeer(t, x, "127.0.0.1", script{offer: x.offer(), quota: x.blocks() / 2})
	dir := t.TempDir()
	get := run(t, "get", x.magnet(), "-d", dir, "--peer", p.addr.String())
	await(t, 10*time.Second, "half of the content", func() bool { return p.blocksServed() == x.blocks()/2 })
	get.kill()
	if p.met() != 1 {
		t.Errorf("%d connections to one peer", p.met())
	}
	// This one has no metadata to give.
	other := newPeer(t, x, "127.0.0.1", script{})
	run(t, "get", x.magnet(), "-d", dir, "--peer", other.addr.String()).exits(t, 0, 20*time.Second)
	x.isAloneIn(t, dir)
}
