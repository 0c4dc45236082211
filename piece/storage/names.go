package storage

import (
	"encoding/hex"
	"path"
	"strings"
	"unicode/utf8"
)

// Names of what stands beside the content, in the target folder.
func (c *Config) sideName() string   { return c.hidden(".bittern-side") }
func (c *Config) recordName() string { return c.hidden(".bittern-resume") }
func (c *Config) lockName() string   { return c.hidden(".bittern-lock") }

// maxName is the length in bytes that a name may have on every file system we know, less room
// for the suffix of a temporary file.
const maxName = 255 - len(".tmp")

// hidden returns .NAME and the suffix, NAME shortened where that would be too long for a file
// system; the info-hash then keeps it apart from its like.
func (c *Config) hidden(suffix string) string {
	name := path.Base(c.Name)
	if room := maxName - len(".") - len(suffix); len(name) > room {
		id := "~" + hex.EncodeToString(c.InfoHash[:4])
		cut := room - len(id)
		for cut > 0 && !utf8.RuneStart(name[cut]) {
			cut--
		}
		name = name[:cut] + id
	}
	return strings.Join([]string{".", name, suffix}, "")
}
