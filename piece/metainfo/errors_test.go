package metainfo

import (
	"errors"
	"strings"
	"testing"

	"bittern/bencode"
)

// Callers tell torrents that are broken, those of version 2, and their own users' mistakes
// apart by type.
func TestErrors(t *testing.T) {
	cause := &bencode.SyntaxError{Offset: 3, Reason: "why"}
	for _, tt := range []struct {
		err              error
		text             string
		invalid, v2, use bool
	}{
		{invalid("piece %d", 7), "metainfo: piece 7", true, false, false},
		{&InvalidError{Reason: "not a torrent", Err: cause}, "metainfo: not a torrent: bencode: byte 3: why", true, false, false},
		{ErrV2Only, "v2 only", false, true, false},
		{&UsageError{"a\x1b", "bad"}, `"a\x1b": bad`, false, false, true},
	} {
		if !strings.Contains(tt.err.Error(), tt.text) {
			t.Errorf("got %q, want %q", tt.err, tt.text)
		}
		if errors.Is(tt.err, ErrInvalid) != tt.invalid || errors.Is(tt.err, ErrV2Only) != tt.v2 || errors.As(tt.err, new(*UsageError)) != tt.use {
			t.Errorf("%v is of the wrong class", tt.err)
		}
	}
	if se := (*bencode.SyntaxError)(nil); !errors.As(&InvalidError{Reason: "x", Err: cause}, &se) || se != cause {
		t.Error("the cause is lost")
	}
}

func TestSize(t *testing.T) {
	tor := Torrent{Files: []File{{Length: 5}, {Length: 3, Pad: true}, {Length: 1 << 40}}}
	if got := tor.Size(); got != 1<<40+5 {
		t.Errorf("got %d", got)
	}
}

func TestUsableHost(t *testing.T) {
	for host, want := range map[string]bool{
		"a": true, "router.test": true, "under_score": true, "xn--bcher-kva.test": true, "127.0.0.1": true, "::1": true, "2001:db8::1": true,
		"": false, "a b": false, "a/b": false, "a:80": false, "[::1]": false, "a\x00": false, "bücher.test": false, "user@a": false, "a?b": false,
	} {
		if usableHost(host) != want {
			t.Errorf("usableHost(%q) = %v", host, !want)
		}
	}
}
