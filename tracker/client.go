package tracker

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	defaultTimeout = 30 * time.Second // for one announce in all
	familyGrace    = 3 * time.Second  // what the slower address family gets once the faster has answered
	idleTime       = 60 * time.Second // an idle HTTP connection is kept; also the life of a UDP connection id (BEP 15)
)

// A DialFunc opens a connection as [net.Dialer.DialContext] does. It is how a caller imposes local addresses,
// interfaces and proxies. The network always names a family: "tcp4", "tcp6", "udp4" or "udp6".
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// A Client talks to trackers. The zero value is ready for use; it must not be copied after first use and is safe for
// concurrent use, except that its fields are set before. Call Close at the end.
type Client struct {
	UserAgent      string        // sent to HTTP trackers; empty sends none
	NoIPv4, NoIPv6 bool          // leave a family out
	Timeout        time.Duration // for one announce or scrape in all; 0 means 30 s
	DialTCP        DialFunc      // nil means a plain net.Dialer
	DialUDP        DialFunc      // likewise; its connections receive from the dialed address only
	Resolver       *net.Resolver // looks up the hosts of redirects; nil means net.DefaultResolver
	TLS            *tls.Config   // for HTTPS; nil means Go's defaults

	// OnPanic, when not nil, is told of a panic while an answer was awaited or read, which is a bug of ours and then only fails the announce.
	// It is called from any goroutine.
	OnPanic func(v any, stack []byte)

	mu         sync.Mutex // guards what follows; held over no call that waits
	transports map[route]*http.Transport
	sessions   map[string]*udpSession // by network and address
	answered   map[string][]family    // by URL: where the last regular announce was answered
	ids        map[string]string      // by URL and family: "tracker id"
}

// A family is an address family as Go's network names end.
type family string

const (
	v4 family = "4"
	v6 family = "6"
)

// An endpoint is a tracker's URL, checked.
type endpoint struct {
	raw string
	url *url.URL
}

// parseEndpoint checks a tracker's URL. Control characters, blanks and credentials never get into a request.
func parseEndpoint(raw string) (endpoint, error) {
	bad := func(why string) (endpoint, error) { return endpoint{}, fmt.Errorf("%w: %s", ErrURL, why) }
	if len(raw) > maxURL {
		return bad("too long")
	}
	u, err := url.Parse(strings.TrimSpace(raw))
	if err != nil {
		return bad("malformed") // what url.Parse says repeats the URL, which may hold a passkey
	}
	switch u.Scheme = strings.ToLower(u.Scheme); {
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "udp":
		return bad("scheme is not http, https or udp")
	case u.Hostname() == "":
		return bad("no host")
	case u.Scheme == "udp" && u.Port() == "":
		return bad("no port")
	case !usablePort(u.Port()):
		return bad("no such port")
	case u.Scheme == "udp" && len(u.RequestURI()) > maxURLData:
		return bad("path too long for UDP")
	}
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	u.RawQuery = escapeQuery(u.RawQuery)
	return endpoint{raw: raw, url: u}, nil
}

// usablePort reports whether a port is left out, or one that can be connected to.
func usablePort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0
}

// Label shortens a tracker's URL to what may be shown and logged: scheme and host, without passkeys and credentials.
func Label(raw string) string {
	ep, err := parseEndpoint(raw)
	if err != nil {
		return printable(raw)
	}
	return printable(ep.url.Scheme + "://" + ep.url.Host)
}

// IsLocal reports whether a tracker's URL names by number, or as localhost, a host that only this machine or its network reaches.
// A torrent that brings such a tracker deserves a warning.
func IsLocal(raw string) bool { return hostIs(raw, local) }

// IsLoopback reports whether a tracker's URL names this very machine, so that loopback addresses from it are peers.
func IsLoopback(raw string) bool { return hostIs(raw, netip.Addr.IsLoopback) }

// hostIs reports whether the host of a URL is localhost, or a number for which is holds.
func hostIs(raw string, is func(netip.Addr) bool) bool {
	ep, err := parseEndpoint(raw)
	if err != nil {
		return false
	}
	host := ep.url.Hostname()
	ip, err := netip.ParseAddr(host)
	return err == nil && is(ip.Unmap()) || strings.EqualFold(host, "localhost")
}

// local reports whether no host across the Internet has address ip.
func local(ip netip.Addr) bool {
	ip = ip.Unmap()
	return ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() || ip.IsMulticast() ||
		sharedSpace.Contains(ip)
}

// sharedSpace is carriers' network address translation (RFC 6598).
var sharedSpace = netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, 0, 0}), 10)

// Announce tells the tracker at url about r and returns what it answers. Where the tracker's host has addresses of both
// families, both are announced to (BEP 7) and their answers merged; one success is success.
//
// Errors match [ErrURL] or [ErrAnswer], or are *[FailureError], *[StatusError] or the network's.
func (c *Client) Announce(ctx context.Context, url string, r Request) (Response, error) {
	return c.AnnounceEach(ctx, url, r, nil)
}

// AnnounceEach is Announce that also hands over, from the caller's goroutine, what each family answered as soon as it has.
func (c *Client) AnnounceEach(ctx context.Context, url string, r Request, each func(Response)) (Response, error) {
	ep, err := parseEndpoint(url)
	if err != nil {
		return Response{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.Timeout, defaultTimeout))
	defer cancel()
	out, answered, err := c.eachFamily(ctx, c.familiesFor(ep, r.Event), func(ctx context.Context, f family) (Response, error) {
		return c.announceOne(ctx, ep, f, r)
	}, each)
	if err == nil && r.Event != Stopped {
		c.mu.Lock()
		c.answered = put(c.answered, ep.raw, answered)
		c.mu.Unlock()
	}
	return out, err
}

func (c *Client) announceOne(ctx context.Context, ep endpoint, f family, r Request) (Response, error) {
	if ep.url.Scheme == "udp" {
		return c.announceUDP(ctx, ep, f, r)
	}
	return c.announceHTTP(ctx, ep, f, r)
}

// Scrape asks the tracker at url about at most 74 swarms (BEP 48, BEP 15). Swarms it does not know are absent from the answer.
// Errors are those of Announce.
func (c *Client) Scrape(ctx context.Context, url string, hashes ...[20]byte) (map[[20]byte]Counts, error) {
	ep, err := parseEndpoint(url)
	if err != nil {
		return nil, err
	}
	if len(hashes) == 0 || len(hashes) > maxScrape {
		return nil, fmt.Errorf("scrape: %d info-hashes, want 1 to %d", len(hashes), maxScrape)
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.Timeout, defaultTimeout))
	defer cancel()
	for _, f := range c.familiesFor(ep, None) { // one answer is enough: both count the same swarm
		var out map[[20]byte]Counts
		var errF error
		if ep.url.Scheme == "udp" {
			out, errF = c.scrapeUDP(ctx, ep, f, hashes)
		} else {
			out, errF = c.scrapeHTTP(ctx, ep, f, hashes)
		}
		if errF == nil {
			return out, nil
		}
		err = worse(err, errF)
	}
	return nil, cmp.Or(err, errNoFamily)
}

// Close ends idle connections. Announces must have returned before.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.transports {
		t.CloseIdleConnections()
	}
	for _, s := range c.sessions {
		s.close()
	}
	c.transports, c.sessions = nil, nil
}

// familiesFor returns the families to announce over. The farewell goes only where we were heard before.
func (c *Client) familiesFor(ep endpoint, ev Event) []family {
	var out []family
	ip, err := netip.ParseAddr(ep.url.Hostname())
	if four := err != nil || ip.Unmap().Is4(); four && !c.NoIPv4 {
		out = append(out, v4)
	}
	if six := err != nil || ip.Unmap().Is6(); six && !c.NoIPv6 {
		out = append(out, v6)
	}
	if ev == Stopped || ev == Completed {
		c.mu.Lock()
		defer c.mu.Unlock()
		if known := c.answered[ep.raw]; len(known) > 0 {
			return known
		}
	}
	return out
}

// errNoFamily says that -4 or -6 leaves no way to a tracker.
var errNoFamily = errors.New("no address of an allowed family")

// eachFamily runs announce for all families at once and merges what succeeded. Once one has succeeded, the other gets
// familyGrace: an address family that leads nowhere must not hold up the one that works.
func (c *Client) eachFamily(ctx context.Context, fs []family, announce func(context.Context, family) (Response, error), each func(Response)) (Response, []family, error) {
	type result struct {
		family family
		Response
		error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result, len(fs))
	for _, f := range fs {
		go func() {
			r := result{family: f, error: errPanicked}
			guard(c.OnPanic, func() { r.Response, r.error = announce(ctx, f) })
			results <- r
		}()
	}
	var out Response
	var answered []family
	var failed error
	for range fs {
		r := <-results
		if r.error != nil {
			failed = worse(failed, r.error)
			continue
		}
		if each != nil {
			each(r.Response)
		}
		if answered = append(answered, r.family); len(answered) > 1 {
			out.merge(r.Response)
			continue
		}
		out = r.Response
		late := time.AfterFunc(familyGrace, cancel)
		defer late.Stop()
	}
	if len(answered) == 0 {
		return Response{}, nil, cmp.Or(failed, errNoFamily)
	}
	return out, answered, nil
}

var errPanicked = errors.New("a panic, which was reported")

// guard runs f; a panic in it goes to report, if there is one.
func guard(report func(v any, stack []byte), f func()) {
	if report != nil {
		defer func() {
			if v := recover(); v != nil {
				report(v, debug.Stack())
			}
		}()
	}
	f()
}

// worse returns the error that says more about a tracker: its own word before the network's, and
// a host that did not answer before one that has no address in a family.
func worse(a, b error) error {
	rank := func(err error) int {
		var refusal *FailureError
		var status *StatusError
		var addr *net.AddrError
		var dns *net.DNSError
		switch {
		case err == nil:
			return 0
		case errors.As(err, &addr), errors.As(err, &dns):
			return 1
		case errors.As(err, &status), errors.Is(err, ErrAnswer):
			return 3
		case errors.As(err, &refusal):
			return 4
		}
		return 2
	}
	if rank(b) > rank(a) {
		return b
	}
	return a
}

// put sets m[k] = v, making the map at need. Maps by tracker are bounded by the number of trackers a torrent may have.
func put[V any](m map[string]V, k string, v V) map[string]V {
	if m == nil {
		m = make(map[string]V)
	}
	m[k] = v
	return m
}

// dial opens a connection of one family through hook.
func dial(ctx context.Context, hook DialFunc, network, address string) (net.Conn, error) {
	if hook == nil {
		var d net.Dialer
		return d.DialContext(ctx, network, address)
	}
	return hook(ctx, network, address)
}
