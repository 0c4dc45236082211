package tracker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"
)

const maxRedirects = 5

// paused is the event of a partial seed: it "MUST send an event=paused parameter in every announce while it is a partial seed" (BEP 21).
// Only goodbye is said as ever, which BEP 3 has trackers rely on.
const paused = "paused"

// A reach says which hosts a request may go to. Each reach has its own connections, so that a kept one never
// serves a request that could not have opened it.
type reach uint8

const (
	anywhere   reach = iota
	notLoop          // not this machine: a tracker's URL must not steer requests at services here
	publicOnly       // a redirect from a public host must not lead into a private network
)

// A route is what an http.Transport is kept for.
type route struct {
	family family
	reach  reach
}

var (
	errLoopback = fmt.Errorf("%w: on this machine only the path /announce is asked", ErrURL)
	errInward   = fmt.Errorf("%w: a redirect from a public to a local host", ErrURL)
	errManyHops = fmt.Errorf("%w: more than %d redirects", ErrAnswer, maxRedirects)
)

// announceHTTP announces over one family (BEP 3, BEP 23).
func (c *Client) announceHTTP(ctx context.Context, ep endpoint, f family, r Request) (Response, error) {
	key := string(f) + ep.raw
	c.mu.Lock()
	id := c.ids[key]
	c.mu.Unlock()
	u := *ep.url
	u.RawQuery = join(u.RawQuery, announceQuery(r, id))
	body, err := c.fetch(ctx, &u, f, "/announce")
	if err != nil {
		return Response{}, err
	}
	out, err := parseAnnounce(body, r.InfoHash)
	if err == nil && out.trackerID != "" {
		c.mu.Lock()
		c.ids = put(c.ids, key, out.trackerID)
		c.mu.Unlock()
	}
	return out, err
}

// scrapeHTTP asks about swarms at the URL that follows from the announce URL: "locating the string announce in the path
// section of the announce URL and replacing it with the string scrape" (BEP 48).
func (c *Client) scrapeHTTP(ctx context.Context, ep endpoint, f family, hashes [][20]byte) (map[[20]byte]Counts, error) {
	u := *ep.url
	i := strings.LastIndex(u.Path, "announce")
	if i < 0 {
		return nil, fmt.Errorf("%w: no announce in its path, so no scrape", ErrURL)
	}
	u.Path, u.RawPath = u.Path[:i]+"scrape"+u.Path[i+len("announce"):], ""
	var q strings.Builder
	for i, h := range hashes {
		if i > 0 {
			q.WriteByte('&')
		}
		q.WriteString("info_hash=" + escape(h[:]))
	}
	u.RawQuery = join(u.RawQuery, q.String())
	body, err := c.fetch(ctx, &u, f, "/scrape")
	if err != nil {
		return nil, err
	}
	return parseScrape(body, hashes)
}

// announceQuery returns the parameters of an announce.
func announceQuery(r Request, trackerID string) string {
	var q strings.Builder
	q.WriteString("info_hash=" + escape(r.InfoHash[:]) + "&peer_id=" + escape(r.PeerID[:]))
	fmt.Fprintf(&q, "&port=%d&uploaded=%d&downloaded=%d&left=%d&compact=1&no_peer_id=1&key=%08x", r.Port, r.Uploaded, r.Downloaded, r.Left, r.Key)
	if n, said := r.wanted(); said {
		q.WriteString("&numwant=" + strconv.Itoa(n))
	}
	switch {
	case r.Partial && r.Event != Stopped:
		q.WriteString("&event=" + paused)
	case r.Event != None:
		q.WriteString("&event=" + r.Event.String())
	}
	if trackerID != "" {
		q.WriteString("&trackerid=" + escape([]byte(trackerID)))
	}
	return q.String()
}

// join appends our parameters to those that a tracker's URL brings.
func join(query, ours string) string {
	if query == "" {
		return ours
	}
	return strings.TrimSuffix(query, "&") + "&" + ours
}

// escape percent-encodes every byte that is not unreserved (RFC 3986).
func escape(in []byte) string {
	const hex = "0123456789ABCDEF"
	out := make([]byte, 0, 3*len(in))
	for _, b := range in {
		switch {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', strings.IndexByte("-._~", b) >= 0:
			out = append(out, b)
		default:
			out = append(out, '%', hex[b>>4], hex[b&15])
		}
	}
	return string(out)
}

// escapeQuery leaves a URL's own query as it is, but for bytes that must not stand in a request line.
func escapeQuery(q string) string {
	var out strings.Builder
	for i := range len(q) {
		if b := q[i]; b <= ' ' || b >= 0x7f || strings.IndexByte(`"<>\^{|}`+"`", b) >= 0 {
			out.WriteString(escape([]byte{b}))
		} else {
			out.WriteByte(b)
		}
	}
	return out.String()
}

// fetch gets u and follows redirects. On this machine itself only paths that start with loopPath are asked for.
func (c *Client) fetch(ctx context.Context, u *url.URL, f family, loopPath string) ([]byte, error) {
	allowed := anywhere
	for hop := 0; hop <= maxRedirects; hop++ {
		// Cleaned, because whoever answers may take "/announce/../x" for "/x".
		if allowed == anywhere && !strings.HasPrefix(path.Clean(u.Path), loopPath) {
			allowed = notLoop
		}
		body, next, public, err := c.get(ctx, u, route{f, allowed})
		if err != nil || next == "" {
			return body, err
		}
		if public {
			allowed = publicOnly
		} else if allowed == notLoop {
			allowed = anywhere // judged anew by the next path
		}
		to, err := u.Parse(next)
		if err != nil {
			return nil, badAnswer("malformed redirect")
		}
		ep, err := parseEndpoint(to.String())
		if err != nil || ep.url.Scheme == "udp" {
			return nil, badAnswer("redirect to a URL that is not http or https")
		}
		u = ep.url
	}
	return nil, errManyHops
}

// get sends one request. It returns the body, or where it was redirected to; public says whether the answer came from a host
// that is not local.
func (c *Client) get(ctx context.Context, u *url.URL, r route) (body []byte, next string, public bool, err error) {
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { public = !local(remote(info.Conn)) }}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, "", false, fmt.Errorf("%w: malformed", ErrURL)
	}
	req.Header["User-Agent"] = []string{c.UserAgent} // an empty one sends none
	resp, err := c.transport(r).RoundTrip(req)
	if err != nil {
		return nil, "", false, cause(ctx, err)
	}
	defer resp.Body.Close()
	if next = resp.Header.Get("Location"); next != "" && resp.StatusCode/100 == 3 {
		return nil, next, public, nil
	}
	// The transport unpacks gzip, so this counts what comes out of it.
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if len(body) > maxBody {
		return nil, "", public, badAnswer("longer than %d bytes", maxBody)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, "", public, refusal(resp, body)
	}
	if err != nil {
		return nil, "", public, cause(ctx, err)
	}
	return body, "", public, nil
}

// refusal turns an answer that is not 200 into an error: trackers send a failure reason with any status.
func refusal(resp *http.Response, body []byte) error {
	var f *FailureError
	if _, err := parseAnswer(body); errors.As(err, &f) {
		return f
	}
	return &StatusError{Code: resp.StatusCode, RetryIn: retryAfter(resp.Header.Get("Retry-After"))}
}

// cause prefers the context's reason to what the transport makes of it.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// remote returns the address at the other end; the zero Addr where it has none.
func remote(nc net.Conn) netip.Addr {
	a, err := netip.ParseAddrPort(nc.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap()
}

// transport returns the transport for r, made at first use. No proxy is taken from the environment: what a process
// sends to trackers must not depend on variables that concern other programs.
func (c *Client) transport(r route) *http.Transport {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.transports[r]; t != nil {
		return t
	}
	if c.transports == nil {
		c.transports = make(map[route]*http.Transport)
	}
	t := &http.Transport{
		DialContext:            func(ctx context.Context, _, address string) (net.Conn, error) { return c.dialHTTP(ctx, r, address) },
		TLSClientConfig:        c.TLS,
		MaxIdleConnsPerHost:    1,
		MaxIdleConns:           32,
		IdleConnTimeout:        idleTime,
		TLSHandshakeTimeout:    10 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
	c.transports[r] = t
	return t
}

// dialHTTP opens a connection that r allows.
func (c *Client) dialHTTP(ctx context.Context, r route, address string) (net.Conn, error) {
	if r.reach == publicOnly {
		var err error
		if address, err = c.publicAddress(ctx, r.family, address); err != nil {
			return nil, err
		}
	}
	nc, err := dial(ctx, c.DialTCP, "tcp"+string(r.family), address)
	if err != nil {
		return nil, err
	}
	if r.reach == notLoop && remote(nc).IsLoopback() {
		nc.Close()
		return nil, errLoopback
	}
	return nc, nil
}

// publicAddress looks a host up and returns its first address that is not local, so that nothing at all is sent to a local one.
func (c *Client) publicAddress(ctx context.Context, f family, address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	resolver := c.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	ips, err := resolver.LookupNetIP(ctx, "ip"+string(f), host)
	if err != nil {
		return "", err
	}
	for _, ip := range ips {
		if !local(ip) {
			return net.JoinHostPort(ip.Unmap().String(), port), nil
		}
	}
	return "", errInward
}
