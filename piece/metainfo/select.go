package metainfo

import (
	"errors"
	"fmt"
	"math"
	"path"
	"strconv"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// ErrNoMatch reports a list that matches none of the files.
var ErrNoMatch = errors.New("no file in the torrent matches")

// Select returns which of files a list chooses: numbers, ranges and globs with commas
// between, as in "1,3-5,*.flac". Files are numbered from 1 in their order, padding not
// counted; padding is never chosen.
//
// A glob is matched, with case, against the name of a file, its path, and its path below the
// root folder; "*" and "?" stop at "/", "**" does not, "[a-z]" and "{a,b}" are as in a shell,
// and a backslash takes the next character as it is.
//
// The error is a *[UsageError] for a list that cannot be read, and matches [ErrNoMatch] for
// one that chooses nothing.
func Select(files []File, list string) ([]bool, error) {
	numbers := make([]int, 0, len(files)) // index of each numbered file
	for i := range files {
		if !files[i].Pad {
			numbers = append(numbers, i)
		}
	}
	chosen, found := make([]bool, len(files)), false
	for _, item := range split(list) {
		match, err := matcher(item)
		if err != nil {
			return nil, err
		}
		for n, i := range numbers {
			if !chosen[i] && match(n+1, files[i].Path) {
				chosen[i], found = true, true
			}
		}
	}
	if !found {
		return nil, fmt.Errorf("metainfo: %w %s", ErrNoMatch, quote(list))
	}
	return chosen, nil
}

// split cuts a list at its commas, but not within braces or brackets or behind a backslash.
func split(list string) []string {
	var items []string
	from, braces, bracket := 0, 0, false
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case c == '\\':
			i++
		case c == '[':
			bracket = true
		case c == ']':
			bracket = false
		case bracket:
		case c == '{':
			braces++
		case c == '}':
			braces--
		case c == ',' && braces <= 0:
			items = append(items, list[from:i])
			from = i + 1
		}
	}
	return append(items, list[from:])
}

// matcher returns what an item of a list asks: whether the file with a number, from 1, and a
// path is chosen. Ranges are compared, never expanded.
func matcher(item string) (func(n int, path string) bool, error) {
	item = strings.TrimSpace(item)
	if item == "" {
		return nil, &UsageError{item, "an empty item in the list of files"}
	}
	if low, high, ok := span(item); ok {
		if low == 0 || high < low {
			return nil, &UsageError{item, "not a range of files: they are numbered from 1"}
		}
		return func(n int, _ string) bool { return low <= n && n <= high }, nil
	}
	if !doublestar.ValidatePattern(item) {
		return nil, &UsageError{item, "not a number, range or pattern"}
	}
	return func(_ int, full string) bool {
		_, below, _ := strings.Cut(full, "/")
		return doublestar.MatchUnvalidated(item, path.Base(full)) ||
			doublestar.MatchUnvalidated(item, full) ||
			below != "" && doublestar.MatchUnvalidated(item, below)
	}, nil
}

// span reads a number or a range like "3-5". It may run backwards.
func span(item string) (low, high int, ok bool) {
	first, last, ranged := strings.Cut(item, "-")
	if !ranged {
		last = first
	}
	if !digits(first) || !digits(last) {
		return 0, 0, false
	}
	return number(first), number(last), true
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// number returns the number that the digits s spell, the greatest there is if that is too
// small: no torrent has so many files.
func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return math.MaxInt
	}
	return n
}
