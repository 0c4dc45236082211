package cli

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"bittern/cmd/internal/app"
)

// A value is a flag whose text is parsed straight into its place in an options struct.
type value struct {
	text  string // as given, or the default
	kind  string // what the help calls it: "SIZE"
	parse func(string) error
}

// String, Set and Type make a pflag.Value.
func (v *value) String() string { return v.text }
func (v *value) Type() string   { return v.kind }

// Set parses and keeps s.
func (v *value) Set(s string) error {
	if err := v.parse(s); err != nil {
		return err
	}
	v.text = s
	return nil
}

// into makes a value that stores what parse returns in *to.
func into[T any](to *T, kind, text string, parse func(string) (T, error)) *value {
	return &value{text: text, kind: kind, parse: func(s string) error {
		v, err := parse(s)
		if err == nil {
			*to = v
		}
		return err
	}}
}

// joined makes a value that gathers lists with commas: the flag may be given again.
func joined(to *string, kind string) *value {
	v := &value{kind: kind}
	v.parse = func(s string) error {
		if _, err := notEmpty(s); err != nil {
			return err
		}
		if *to != "" {
			s = *to + "," + s
		}
		*to = s
		return nil
	}
	return v
}

// notEmpty takes any text but none, which is mostly an unset variable of a script.
func notEmpty(s string) (string, error) {
	if s == "" {
		return "", errors.New("it is empty")
	}
	return s, nil
}

// parseSuperSeed reads when to super-seed: "auto", or a truth value as those of any flag.
func parseSuperSeed(s string) (app.SuperSeeding, error) {
	if s == "auto" {
		return app.SuperAuto, nil
	}
	switch on, err := strconv.ParseBool(s); {
	case err != nil:
		return 0, errors.New("want true, false or auto")
	case on:
		return app.SuperAlways, nil
	}
	return app.SuperNever, nil
}

// parseSize reads bytes: a number with an optional K, M, G or T (powers of 1024), optionally
// followed by iB or B, in any case: "16K", "1.5MiB", "300 kB".
func parseSize(s string) (int64, error) {
	digits := strings.TrimRightFunc(s, func(r rune) bool { return unicode.IsLetter(r) || r == ' ' })
	unit := strings.ToLower(strings.TrimSpace(s[len(digits):]))
	if unit != "b" {
		unit = strings.TrimSuffix(strings.TrimSuffix(unit, "b"), "i")
	} else {
		unit = ""
	}
	shift, ok := map[string]int{"": 0, "k": 10, "m": 20, "g": 30, "t": 40}[unit]
	n, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || strings.ContainsAny(digits, "xXpPeE_+-") {
		return 0, errors.New("want a size like 512K, 16MiB or 1.5G")
	}
	bytes := n * float64(int64(1)<<shift)
	if bytes >= math.MaxInt64 {
		return 0, errors.New("too large")
	}
	return int64(bytes), nil
}

// minPieceLength is the least that clients take: one block (BEP 3).
const minPieceLength = 16 << 10

// parsePieceLength reads a power of two of at least [minPieceLength]; others are legal, but not every
// client takes them.
func parsePieceLength(s string) (int64, error) {
	n, err := parseSize(s)
	if err == nil && (n < minPieceLength || n > 512<<20 || n&(n-1) != 0) {
		err = errors.New("want a power of two from 16K to 512M")
	}
	return n, err
}

// minRate is the lowest limit, in bytes a second. A block has 16 KiB, and is not sent in parts; less is a K forgotten.
const minRate = 1 << 10

// parseRate reads bytes a second, 0 for no limit. What only rounds to 0 is too little, not no limit.
func parseRate(s string) (int64, error) {
	n, err := parseSize(s)
	if err != nil || n < minRate && strings.ContainsAny(s, "123456789") {
		return 0, errors.New("want a rate like 500K or 2MiB, at least 1K; 0 for no limit")
	}
	return n, nil
}

// parseUploadRate is parseRate for uploading, which may be off.
func parseUploadRate(s string) (int64, error) {
	if s == "off" {
		return app.NoUpload, nil
	}
	n, err := parseRate(s)
	if err != nil {
		err = fmt.Errorf("%w, off for no uploading", err)
	}
	return n, err
}

// parseDuration reads a time span as Go does ("90s", "1h30m"); a bare number counts seconds, as with
// curl's --max-time.
func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if n, bare := strconv.ParseFloat(s, 64); bare == nil {
		d, err = time.Duration(n*float64(time.Second)), nil
		if !(math.Abs(n) < math.MaxInt64/float64(time.Second)) { // also not a number
			return 0, errors.New("too long")
		}
	}
	if err != nil || d < 0 {
		return 0, errors.New("want a duration like 90s, 5m or 1h30m")
	}
	return d, nil
}

// parseCount reads a number of at least one.
func parseCount(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, errors.New("want a whole number of at least 1")
	}
	return n, nil
}

// parseCopies reads how many other copies there are to be.
func parseCopies(s string) (int, error) {
	n, err := parseCount(s)
	if err == nil && n > app.MaxCopies {
		err = fmt.Errorf("want at most %d", app.MaxCopies)
	}
	return n, err
}

// parseRatio reads a share ratio.
func parseRatio(s string) (float64, error) {
	r, err := strconv.ParseFloat(s, 64)
	if err != nil || !(r > 0) || math.IsInf(r, 0) {
		return 0, errors.New("want a number above 0, like 1.5")
	}
	return r, nil
}

// parseInterface reads the address to listen on and connect from.
func parseInterface(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, errors.New("want an IP address of this machine")
	}
	return a, nil
}

// checkPeer checks the form of HOST:PORT; the name is looked up later.
func checkPeer(s string) error {
	host, port, err := net.SplitHostPort(s)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil || n == 0 || host == "" || strings.ContainsFunc(host, unicode.IsSpace) {
		return errors.New("want HOST:PORT, with [ ] around an IPv6 address")
	}
	return nil
}

// checkTracker checks that s is a URL that a tracker may have.
func checkTracker(s string) error {
	return checkURL(s, "a tracker", "http", "https", "udp")
}

// checkWebSeed checks that s is a URL that a web seed may have (BEP 19).
func checkWebSeed(s string) error {
	return checkURL(s, "a web seed", "http", "https")
}

// checkURL checks that s is an absolute URL of one of the schemes.
func checkURL(s, what string, schemes ...string) error {
	u, err := url.Parse(s)
	known := func(scheme string) bool { return strings.EqualFold(u.Scheme, scheme) }
	if err != nil || !slices.ContainsFunc(schemes, known) || u.Hostname() == "" || strings.ContainsFunc(s, unprintable) {
		return fmt.Errorf("want the URL of %s: %s://", what, strings.Join(schemes, "://, "))
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	switch {
	case u.Port() == "" && known("udp"):
		return errors.New("want a port: udp:// has no usual one")
	case u.Port() != "" && (err != nil || n == 0):
		return fmt.Errorf("port %s does not exist", u.Port())
	}
	return nil
}

func unprintable(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }

// A list is a flag that may be repeated, each value checked. It is a pflag.SliceValue.
type list struct {
	to    *[]string
	kind  string
	check func(string) error
}

// String shows the values, Type names them.
func (l *list) String() string { return strings.Join(*l.to, " ") }
func (l *list) Type() string   { return l.kind }

// Set adds one value.
func (l *list) Set(s string) error { return l.Append(s) }

// Append adds one value.
func (l *list) Append(s string) error {
	if err := l.check(s); err != nil {
		return err
	}
	*l.to = append(*l.to, s)
	return nil
}

// Replace takes all values at once.
func (l *list) Replace(all []string) error {
	*l.to = nil
	for _, s := range all {
		if err := l.Append(s); err != nil {
			return err
		}
	}
	return nil
}

// GetSlice returns the values.
func (l *list) GetSlice() []string { return *l.to }
