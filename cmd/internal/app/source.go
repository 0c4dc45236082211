package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"bittern/cmd/internal/sockets"
	"bittern/piece/metainfo"
)

// Limits of reading a .torrent, wherever it comes from.
const (
	maxTorrent   = 64 << 20         // bytes; legal ones of 40 MB exist
	fetchTime    = 30 * time.Second // for the whole of an HTTP answer
	maxRedirects = 5
)

// readSource returns the bytes of the .torrent that source names, which is no magnet link: a path, "-" for in, or an
// http(s) URL, which is fetched as policy allows. Its errors name the source and are of [ClassBadInput], or
// of [ClassNetwork] when this machine does not have the address to fetch from.
func readSource(ctx context.Context, policy sockets.Policy, source string, in io.Reader) ([]byte, error) {
	switch kindOf(source) {
	case otherSource:
		return nil, &Error{Class: ClassBadInput, What: "cannot fetch " + withoutSecrets(source),
			Err: errors.New("only http and https URLs are understood")}
	case urlSource:
		data, err := fetch(ctx, policy, source, new(hopGuard))
		if err != nil {
			class := ClassBadInput
			if _, gone := errors.AsType[*sockets.InterfaceError](err); gone {
				class = ClassNetwork
			}
			return nil, failed(class, err, "cannot fetch %s", withoutSecrets(source))
		}
		return data, nil
	case stdinSource:
		data, err := interruptible(ctx, func() ([]byte, error) { return readAll(in) })
		if err != nil {
			return nil, failed(ClassBadInput, err, "cannot read the torrent from stdin")
		}
		return data, nil
	}
	data, err := interruptible(ctx, func() ([]byte, error) { return readFile(source) })
	if err != nil {
		return nil, failed(ClassBadInput, err, "cannot read %s", printable(source))
	}
	return data, nil
}

// A sourceKind is how a SOURCE is given.
type sourceKind uint8

const (
	pathSource sourceKind = iota
	stdinSource
	urlSource
	magnetSource
	hashSource
	otherSource // a URL of another scheme
)

// kindOf tells the kinds of source apart by their form alone, so that one command line means the same
// in every folder. A file whose name looks like another kind is given as ./NAME.
func kindOf(source string) sourceKind {
	scheme, _, ok := strings.Cut(strings.ToLower(source), ":")
	switch {
	case source == "-":
		return stdinSource
	case ok && scheme == "magnet":
		return magnetSource
	case ok && (scheme == "http" || scheme == "https"):
		return urlSource
	case isInfoHash(source): // a file of that name is given as ./NAME, too
		return hashSource
	case strings.Contains(source, "://"):
		return otherSource
	}
	return pathSource
}

// isInfoHash reports whether s is a bare info-hash.
func isInfoHash(s string) bool {
	_, ok := metainfo.ParseInfoHash(s)
	return ok
}

// interruptible returns what read does, or why ctx ended if that comes first: a terminal or a named
// pipe may say nothing for ever. The goroutine that is left reading then ends with the process.
func interruptible(ctx context.Context, read func() ([]byte, error)) ([]byte, error) {
	type result struct {
		data []byte
		err  error
	}
	done := make(chan result, 1) // nobody may be left to receive
	go func() {
		data, err := read()
		done <- result{data, err}
	}()
	select {
	case r := <-done:
		return r.data, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // read only: nothing to lose
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, errors.New("it is a folder, not a .torrent file")
	}
	return readAll(f)
}

// readAll reads to the end, or refuses more than the limit.
func readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxTorrent+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxTorrent {
		return nil, fmt.Errorf("larger than %d MiB", maxTorrent>>20)
	}
	return data, nil
}

// fetch gets a .torrent over HTTP(S). A redirect may not lead from the network to this machine or
// its local network: a web site has no business there.
func fetch(ctx context.Context, policy sockets.Policy, link string, guard *hopGuard) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fetchTime, fmt.Errorf("no complete answer within %v", fetchTime))
	defer cancel()
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return policy.DialGuarded(ctx, network, address, guard.control)
		},
		MaxResponseHeaderBytes: 1 << 20, DisableKeepAlives: true, ForceAttemptHTTP2: true,
	}
	client := http.Client{Transport: transport, CheckRedirect: guard.redirect}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, link, nil)
	if err != nil {
		return nil, bareURLError(err)
	}
	req.Header.Set("User-Agent", "bittern")
	resp, err := client.Do(req)
	if err != nil {
		return nil, causeOf(ctx, bareURLError(err))
	}
	defer resp.Body.Close() // read only
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answers %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	data, err := readAll(resp.Body)
	return data, causeOf(ctx, err)
}

// A hopGuard watches the hops of one fetch, which come one after another.
type hopGuard struct {
	onlyPublic bool // nothing on this machine or its network is to be asked

	redirected bool // the hop at hand is not the first
	public     bool // an earlier one was to a public address
}

func (g *hopGuard) redirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("more than %d redirects", maxRedirects)
	}
	if s := req.URL.Scheme; s != "http" && s != "https" {
		return fmt.Errorf("redirected to %s, which is neither http nor https", printable(s))
	}
	g.redirected = true
	return nil
}

// control sees the address of each connection before it is made.
func (g *hopGuard) control(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	public := isPublic(to.Addr())
	if g.onlyPublic && !public {
		return fmt.Errorf("%s is on this machine or its network", to.Addr())
	}
	if g.redirected && g.public && !public {
		return fmt.Errorf("redirected from a public address to %s", to.Addr())
	}
	g.public = g.public || public
	return nil
}

func isPublic(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsGlobalUnicast() && !a.IsPrivate()
}

// bareURLError takes the URL out of an error: it may hold a password, and the caller names it.
func bareURLError(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// causeOf is why ctx ended, if it did, in place of an error that only says so.
func causeOf(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// withoutSecrets is a source fit to be shown: a URL without its password and query, which often holds a
// key; anything else as it is, for "?" and "%" are only letters in the name of a file.
func withoutSecrets(source string) string {
	switch kindOf(source) {
	case pathSource, stdinSource, hashSource:
		return printable(source)
	}
	u, err := url.Parse(source)
	if err != nil { // then the secrets are found by their looks
		shown, query, _ := strings.Cut(source, "?")
		scheme, rest, _ := strings.Cut(shown, "://")
		if at := strings.LastIndexByte(rest, '@'); at >= 0 {
			shown = scheme + "://..." + rest[at:]
		}
		if query != "" {
			shown += "?..."
		}
		return printable(shown)
	}
	if u.RawQuery != "" {
		u.RawQuery = "..."
	}
	return printable(u.Redacted())
}
