package tracker

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"time"

	"bittern/bencode"
	"bittern/peer/compact"
)

const (
	maxServed    = 256              // HTTP connections at once, unless the caller says otherwise
	maxHeader    = 16 << 10         // bytes of an HTTP request
	httpPatience = 10 * time.Second // for a request, and for its answer
)

// serveHTTP answers HTTP until the socket is closed, and says why it ended.
func (s *Server) serveHTTP(ctx context.Context) error {
	srv := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { guard(s.onPanic, func() { s.handle(w, r) }) }),
		ErrorLog:          log.New(io.Discard, "", 0), // what clients do wrong does not belong on our stderr
		ReadHeaderTimeout: httpPatience,
		ReadTimeout:       httpPatience,
		WriteTimeout:      httpPatience,
		MaxHeaderBytes:    maxHeader,
	}
	srv.SetKeepAlivesEnabled(false) // the next announce is a minute away, and those who wait for it would take all places
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	err := srv.Serve(&limited{Listener: s.tcp, slots: make(chan struct{}, s.maxConns)})
	return errors.Join(err, closed(srv.Close()))
}

// limited is a listener that refuses connections over a number instead of queueing them.
type limited struct {
	net.Listener
	slots chan struct{}
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.slots <- struct{}{}:
			return &slotted{Conn: nc, free: func() { <-l.slots }}, nil
		default:
			nc.Close()
		}
	}
}

// slotted gives its slot back when it is closed, which net/http may do more than once.
type slotted struct {
	net.Conn
	free func()
	once sync.Once
}

func (c *slotted) Close() error {
	c.once.Do(c.free)
	return c.Conn.Close()
}

// handle serves /announce and /scrape.
func (s *Server) handle(w http.ResponseWriter, r *http.Request) {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	query, errQuery := url.ParseQuery(r.URL.RawQuery)
	known := r.URL.Path == "/announce" || r.URL.Path == "/scrape"
	switch {
	case !known:
		http.NotFound(w, r)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		http.Error(w, "use GET", http.StatusMethodNotAllowed)
		return
	case err != nil || errQuery != nil:
		http.Error(w, "malformed request", http.StatusBadRequest)
		return
	}
	var body []byte
	if r.URL.Path == "/scrape" {
		body = s.httpScrape(query)
	} else {
		host := remote.Addr().Unmap().WithZone("")
		body = s.httpAnnounce(query, host, func() netip.Addr { return localAddr(r) })
	}
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Write(body) // a client that has gone does not concern us
}

// localAddr returns the address at which a request reached us.
func localAddr(r *http.Request) netip.Addr {
	a, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return a.AddrPort().Addr().Unmap()
}

// httpAnnounce returns the answer to an announce (BEP 3).
func (s *Server) httpAnnounce(q url.Values, host netip.Addr, here func() netip.Addr) []byte {
	r, why := parseQuery(q)
	if why != "" {
		return appendFailure(why)
	}
	out, ok := s.announce(r, host, func(netip.Addr) bool { return true }, here)
	if !ok {
		return appendFailure("this torrent is not served here")
	}
	seconds := int64(s.interval / time.Second)
	d := map[string]any{
		"complete": out.counts.Seeders, "incomplete": out.counts.Leechers, "downloaded": out.counts.Downloaded,
		"interval": seconds, "min interval": min(seconds, 60),
		"external ip": host.AsSlice(),
	}
	if q.Get("compact") == "0" { // "the client advises the tracker that is prefers the original format" (BEP 23)
		d["peers"] = dictionaries(out, q.Get("no_peer_id") == "1")
	} else {
		d["peers"] = compact.Append4(nil, out.peers...)
		if six := compact.Append6(nil, out.peers...); len(six) > 0 {
			d["peers6"] = six // BEP 7
		}
	}
	return bencode.Append(nil, d)
}

// parseQuery reads an announce's parameters; why says what is wrong.
func parseQuery(q url.Values) (r Request, why string) {
	hash, id := q.Get("info_hash"), q.Get("peer_id")
	if len(hash) != 20 || len(id) != 20 {
		return r, "info_hash and peer_id must have 20 bytes"
	}
	copy(r.InfoHash[:], hash)
	copy(r.PeerID[:], id)
	port, err := strconv.ParseUint(q.Get("port"), 10, 16)
	if err != nil {
		return r, "port is not a number"
	}
	r.Port = uint16(port)
	r.Left = 1 // of one who does not say: not complete
	if text := q.Get("left"); text != "" {
		if r.Left, err = strconv.ParseInt(text, 10, 64); err != nil || r.Left < 0 {
			r.Left = 1 // some clients send -1 or 2^64-1 while they do not know
		}
	}
	r.NumWant = -1
	if n, err := strconv.Atoi(q.Get("numwant")); err == nil {
		r.NumWant = n
	}
	for _, ev := range []Event{Started, Completed, Stopped} {
		if q.Get("event") == ev.String() {
			r.Event = ev
		}
	}
	r.Partial = q.Get("event") == paused
	return r, ""
}

// dictionaries returns peers in the form of BEP 3.
func dictionaries(r reply, noID bool) []any {
	list := make([]any, 0, len(r.peers))
	for i, a := range r.peers {
		d := map[string]any{"ip": a.Addr().String(), "port": int(a.Port())}
		if !noID {
			d["peer id"] = r.ids[i][:]
		}
		list = append(list, d)
	}
	return list
}

// httpScrape returns the answer to a scrape (BEP 48). A torrent that is not served here is left out, and nobody is told what
// else is.
func (s *Server) httpScrape(q url.Values) []byte {
	files := make(map[string]any)
	for i, h := range q["info_hash"] {
		if i == maxScrape || len(h) != 20 {
			break
		}
		if c, ok := s.scrape([20]byte([]byte(h))); ok {
			files[h] = map[string]any{"complete": c.Seeders, "downloaded": c.Downloaded, "incomplete": c.Leechers, "downloaders": c.downloaders}
		}
	}
	return bencode.Append(nil, map[string]any{"files": files})
}

func appendFailure(reason string) []byte {
	return bencode.Append(nil, map[string]any{"failure reason": reason})
}
