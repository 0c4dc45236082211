package metainfo

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Printable returns s fit for a terminal, one line: control characters (with the escape
// character, so no sequence survives, and those above 0x7f), bidi and zero-width characters,
// line separators and bytes that are no UTF-8 stand as Go escapes (\n, \x1b, \u202e).
// Everything else, in any script, stays as it is.
func Printable(s string) string {
	at := unprintable(s)
	if at < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x100 && hidden(r):
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000 && hidden(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		case hidden(r):
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// unprintable returns the offset of the first thing in s that Printable escapes, or -1.
func unprintable(s string) int {
	for i, r := range s {
		if r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD") || hidden(r) {
			return i
		}
	}
	return -1
}

// quote returns s printable, between quotes and cut to a length that a line can hold.
func quote(s string) string {
	const most = 100 // bytes, about a line
	if len(s) > most {
		s = s[:cut(s, most)] + "…"
	}
	return `"` + Printable(s) + `"`
}

// hidden reports whether r cannot be seen, or changes how its neighbours are seen: controls
// (C0, DEL, C1), line separators, bidi marks, overrides and isolates, zero-width characters
// and tags. The list is fixed, not that of a Unicode version, because names rest on it.
func hidden(r rune) bool {
	switch {
	case r < 0x20, r >= 0x7f && r <= 0x9f:
		return true
	case r < 0xad:
		return false
	}
	switch {
	case r == 0xad, r == 0x061c, r == 0x180e, r == 0xfeff: // soft hyphen, Arabic mark, vowel separator, BOM
	case r >= 0x200b && r <= 0x200f: // zero-width space and joiners, bidi marks
	case r >= 0x2028 && r <= 0x202e: // line separators, bidi embeddings and overrides
	case r >= 0x2060 && r <= 0x206f: // word joiner, invisible operators, bidi isolates
	case r >= 0xfff9 && r <= 0xfffb: // interlinear annotation
	case r >= 0xe0000 && r <= 0xe007f: // tags
	default:
		return false
	}
	return true
}
