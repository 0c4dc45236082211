package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	if err := write(dir); err != nil {
		t.Fatal(err)
	}
	for page, want := range map[string]string{
		"bittern.1":        "one command, one torrent",
		"bittern-get.1":    "max\\-time",
		"bittern-create.1": "piece\\-length",
		"bittern-seed.1":   "serve\\-tracker",
		"bittern-verify.1": "writing nothing",
		"bittern-info.1":   "info\\-hash",
	} {
		got, err := os.ReadFile(filepath.Join(dir, page))
		if err != nil {
			t.Error(err)
			continue
		}
		if !bytes.HasPrefix(got, []byte(".nh\n.TH")) || !bytes.Contains(got, []byte(want)) && !bytes.Contains(got, bytes.ReplaceAll([]byte(want), []byte(`\`), nil)) {
			t.Errorf("%s is no man page with %q:\n%.300s", page, want, got)
		}
	}
	again := t.TempDir()
	if err := write(again); err != nil {
		t.Fatal(err)
	}
	one, err := os.ReadFile(filepath.Join(dir, "bittern-get.1"))
	if err != nil {
		t.Fatal(err)
	}
	two, err := os.ReadFile(filepath.Join(again, "bittern-get.1"))
	if err != nil || !bytes.Equal(one, two) {
		t.Errorf("two runs differ (%v)", err)
	}
}

// TestFlagsNameTheirValues: a page says what a flag takes, as the help does.
func TestFlagsNameTheirValues(t *testing.T) {
	dir := t.TempDir()
	if err := write(dir); err != nil {
		t.Fatal(err)
	}
	for page, wants := range map[string][]string{
		"bittern-get.1":    {"--select\\fP=LIST\n", "--dir\\fP=DIR\n\tput the content here (default .)", "--max-peers\\fP=N\n", "--log\\fP=FILE\n"},
		"bittern-seed.1":   {"--serve-tracker\\fP[=ADDR]\n", "--port\\fP=PORT\n"},
		"bittern-create.1": {"--comment\\fP=\"TEXT\"\n", "--piece-length\\fP=SIZE\n"},
	} {
		got, err := os.ReadFile(filepath.Join(dir, page))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !bytes.Contains(got, []byte(want)) {
				t.Errorf("%s has no %q", page, want)
			}
		}
	}
}

func TestWriteNowhere(t *testing.T) {
	if err := write(filepath.Join(t.TempDir(), "nosuch")); err == nil {
		t.Error("no error for a folder that is not there")
	}
}
