package metainfo

import (
	"encoding/hex"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"bittern/bencode"
)

// trackers returns the tiers of announce-list; those of announce where it has nothing that
// can be used (BEP 12: "the client will ignore the "announce" key and only use the URLs in
// "announce-list""). A URL that stands there twice counts once.
func (p *parser) trackers(announce, list bencode.Value) [][]string {
	c := newCollector(MaxTrackers, "http", "https", "udp")
	var tiers [][]string
	for tier := range list.List() {
		c.start()
		c.add(tier) // some write a flat list
		for v := range tier.List() {
			if c.full() {
				break
			}
			c.add(v)
		}
		if c.full() {
			p.warn("of the trackers only the first %d are used", MaxTrackers)
		}
		if urls := c.found(); len(urls) > 0 {
			tiers = append(tiers, urls)
		}
		if c.full() {
			return tiers
		}
	}
	if len(tiers) > 0 {
		return tiers
	}
	c.start()
	c.add(announce)
	if urls := c.found(); len(urls) > 0 {
		return [][]string{urls}
	}
	return nil
}

// urls returns the http and https URLs of a string or list of strings, each once.
func urls(v bencode.Value, most int) []string {
	c := newCollector(most, "http", "https")
	c.add(v)
	for v := range v.List() {
		if c.full() {
			break
		}
		c.add(v)
	}
	return c.found()
}

// A collector gathers usable URLs up to a number.
type collector struct {
	most    int
	schemes []string
	seen    map[string]bool
	urls    []string
	from    int // of the current tier
}

func newCollector(most int, schemes ...string) collector {
	return collector{most: most, schemes: schemes, seen: map[string]bool{}}
}

func (c *collector) start()          { c.from = len(c.urls) }
func (c *collector) full() bool      { return len(c.urls) >= c.most }
func (c *collector) found() []string { return c.urls[c.from:len(c.urls):len(c.urls)] }

func (c *collector) add(v bencode.Value) {
	if raw, ok := v.Bytes(); ok && len(raw) <= maxURL {
		c.take(string(raw))
	}
}

// take keeps s if it is usable, new, and within the limits, written as it will be asked for.
func (c *collector) take(s string) {
	if len(s) > maxURL || c.full() {
		return
	}
	if u, ok := usableURL(s, c.schemes); ok && len(u) <= maxURL && !c.seen[u] {
		c.seen[u] = true
		c.urls = append(c.urls, u)
	}
}

// usableURL returns s as a URL of one of the schemes with a host and nothing in it that
// could end a line of a request: blanks and bytes above 0x7f are escaped, and a URL with a
// control character is not one.
func usableURL(s string, schemes []string) (string, bool) {
	s = strings.Trim(s, " \t\r\n")
	scheme, _, ok := strings.Cut(s, "://")
	if !ok || !contains(schemes, scheme) {
		return "", false
	}
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c == 0x7f:
			return "", false
		case c == ' ' || c > 0x7f:
			b.WriteString("%" + strings.ToUpper(hex.EncodeToString([]byte{c})))
		default:
			b.WriteByte(c)
		}
	}
	u, err := url.Parse(b.String())
	if err != nil || u.Hostname() == "" {
		return "", false
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "", false
		}
	} else if strings.EqualFold(scheme, "udp") {
		return "", false // there is no usual port
	}
	return b.String(), true
}

func contains(schemes []string, scheme string) bool {
	for _, s := range schemes {
		if strings.EqualFold(s, scheme) {
			return true
		}
	}
	return false
}

// nodes returns the host and port pairs of BEP 5 that can be used.
func nodes(v bencode.Value) []string {
	var found []string
	for pair := range v.List() {
		if len(found) >= MaxNodes {
			break
		}
		var host string
		var port int64
		n := 0
		for e := range pair.List() {
			switch n++; n {
			case 1:
				if b, ok := e.Bytes(); ok && len(b) <= maxHost {
					host = string(b)
				}
			case 2:
				port, _ = e.Int()
			}
		}
		if address, ok := hostPort(host, port); ok && n == 2 {
			found = append(found, address)
		}
	}
	return found
}

// hostPort joins a host and a port, an IPv6 address within brackets. ok reports whether that can be
// connected to, as far as its form tells.
func hostPort(host string, port int64) (address string, ok bool) {
	if len(host) > maxHost || !usableHost(host) || port < 1 || port > 65535 {
		return "", false
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.FormatInt(port, 10), true
}

// usableHost reports whether s is an address or can be a host name. An address has no zone, which is a
// name on one machine and may be any text.
func usableHost(s string) bool {
	if ip, err := netip.ParseAddr(s); err == nil {
		return ip.Zone() == ""
	}
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return s != ""
}
