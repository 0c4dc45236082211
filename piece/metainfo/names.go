package metainfo

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxPart is the longest part of a path in bytes: file systems take 255, and a file
	// carries ".part" until it is complete.
	maxPart = 250
	// maxRoot is the longest name of the root in bytes: it stands in the names of the
	// resume record (".NAME.bittern-resume") and of the file that replaces that.
	maxRoot = 230
	// maxExtension is what is kept of an extension when a name is shortened, bytes.
	maxExtension = 32
	// partSuffix is what storage adds to the name of a file that is not complete.
	partSuffix = ".part"
	// reserved characters stand in no name on Windows.
	reserved = `<>:"\|?*`
)

// Why a part of a path is refused. The rest can be made safe.
var (
	errEmpty  = errors.New("a part of the path is empty")
	errParent = errors.New(`a part of the path is ".."`)
	errSlash  = errors.New("a part of the path holds a slash or NUL")
)

// rules say which names the file system can hold.
type rules struct{ windows bool }

// clean appends the part raw to dst as a safe name of at most most bytes: characters that
// are hidden or that the file system cannot hold are replaced, names that mean something
// else to it likewise, and over-long ones are shortened.
func (r rules) clean(dst, raw []byte, most int) ([]byte, error) {
	switch {
	case len(raw) == 0:
		return dst, errEmpty
	case string(raw) == "..":
		return dst, errParent
	case bytes.IndexByte(raw, '/') >= 0 || bytes.IndexByte(raw, 0) >= 0:
		return dst, errSlash
	}
	if !r.windows && len(raw) <= most && plain(raw) {
		return append(dst, raw...), nil
	}
	from := len(dst)
	dst = r.replace(dst, raw)
	name := shorten(string(dst[from:]), "", most)
	if name == "." || strings.TrimFunc(name, unicode.IsSpace) == "" {
		name = "_"
	}
	if r.windows { // twice: what makes a device's name safe makes it longer
		name = windowsName(shorten(windowsName(name), "", most))
	}
	if ownName(name) {
		name = "_" + name[1:]
	}
	return append(dst[:from], name...), nil
}

// plain reports whether clean would change nothing: visible ASCII, not beginning with a dot
// (which may be a name of our own) or a blank.
func plain(raw []byte) bool {
	for _, c := range raw {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return raw[0] != '.' && raw[0] != ' '
}

// replace appends raw to dst with "_" for each byte that is no UTF-8 (so overlong forms are
// not taken for what they spell) and each character that must not stand in a name. Nothing
// is dropped: what is left of "." and "." must not become "..".
func (r rules) replace(dst, raw []byte) []byte {
	before := rune(0)
	for i := 0; i < len(raw); {
		c, n := utf8.DecodeRune(raw[i:])
		switch {
		case c == utf8.RuneError && n == 1,
			hidden(c) && !joins(c, before, raw[i+n:]),
			r.windows && strings.ContainsRune(reserved, c):
			dst = append(dst, '_')
		default:
			dst = append(dst, raw[i:i+n]...)
		}
		before = c
		i += n
	}
	return dst
}

// joins reports whether c is a joiner between two characters that are not ASCII: Persian and
// Indic words and many emoji are spelled with it, while next to ASCII it only hides.
func joins(c, before rune, behind []byte) bool {
	if c != '\u200c' && c != '\u200d' {
		return false
	}
	after, _ := utf8.DecodeRune(behind)
	visible := func(r rune) bool { return r >= utf8.RuneSelf && r != utf8.RuneError && !hidden(r) }
	return visible(before) && visible(after)
}

// ownName reports whether name may be that of a resume record or side file, of this torrent
// or another in the same folder (".NAME.bittern-resume", ".NAME.bittern-side").
func ownName(name string) bool {
	return name[0] == '.' && strings.Contains(strings.ToLower(name), ".bittern-")
}

// windowsName returns name as Windows can hold it: no blank or dot at its end, and not one
// of the devices, which keep their meaning with any extension.
func windowsName(name string) string {
	if trimmed := strings.TrimRight(name, ". "); len(trimmed) < len(name) {
		name = trimmed + strings.Repeat("_", len(name)-len(trimmed))
	}
	stem, _, _ := strings.Cut(name, ".")
	stem = strings.ToUpper(strings.TrimRight(stem, " "))
	device := stem == "CON" || stem == "PRN" || stem == "AUX" || stem == "NUL"
	if len(stem) == 4 && (strings.HasPrefix(stem, "COM") || strings.HasPrefix(stem, "LPT")) {
		device = stem[3] >= '1' && stem[3] <= '9'
	}
	if device {
		return "_" + name
	}
	return name
}

// shorten returns name with number put before its extension, cut to most bytes (at least 64)
// between two characters so that number and extension stay.
func shorten(name, number string, most int) string {
	if number == "" && len(name) <= most {
		return name
	}
	stem, ext := name, ""
	if dot := strings.LastIndexByte(name, '.'); dot > 0 && len(name)-dot <= maxExtension {
		stem, ext = name[:dot], name[dot:]
	}
	stem = stem[:cut(stem, most-len(number)-len(ext))]
	stem = strings.TrimRight(stem, "\u200c\u200d") // what they joined may be gone
	return stem + number + ext
}

// cut returns the greatest length up to most at which s is not cut within a character.
func cut(s string, most int) int {
	if len(s) <= most {
		return len(s)
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return most
}

// root returns the name of the root file or folder.
func (r rules) root(raw []byte) (string, error) {
	name, err := r.clean(nil, raw, maxRoot)
	return string(name), err
}

// WithRoot returns a copy of t whose file or folder has another name, which must be one
// component that is safe as it is. The error is a *[UsageError].
func (t *Torrent) WithRoot(name string) (*Torrent, error) {
	safe, err := systemRules().root([]byte(name))
	switch {
	case err != nil:
		return nil, &UsageError{Value: name, Reason: "not the name of one file or folder"}
	case safe != name:
		return nil, &UsageError{Value: name, Reason: "not a name that is safe everywhere, or too long"}
	}
	c := *t
	c.Root, c.Files, c.originals = name, slices.Clone(t.Files), nil
	var paths arena
	for i := range c.Files {
		switch f := &c.Files[i]; {
		case f.Pad:
		case !t.Folder:
			f.Path = name
		default:
			f.Path = paths.join(name, []byte(f.Path[len(t.Root)+1:]))
		}
	}
	var originals []original
	for _, o := range t.originals {
		root, below, folder := strings.Cut(o.path, "/")
		if moved := name + o.path[len(root):]; folder && moved != c.Files[o.file].Path {
			originals = append(originals, original{o.file, paths.join(name, []byte(below))})
		}
	}
	c.settle(originals)
	return &c, nil
}

// An arena keeps many short strings in few large ones.
type arena struct{ b strings.Builder }

// join returns the path of name in the folder above.
func (a *arena) join(above string, name []byte) string {
	n := len(above) + 1 + len(name)
	if a.b.Cap()-a.b.Len() < n {
		size := min(2*a.b.Cap(), 64<<10)
		a.b = strings.Builder{}
		a.b.Grow(max(size, n, 256))
	}
	from := a.b.Len()
	a.b.WriteString(above)
	a.b.WriteByte('/')
	a.b.Write(name)
	return a.b.String()[from:] // stays valid: the builder never grows beyond its first buffer
}
