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

func TestWriteNowhere(t *testing.T) {
	if err := write(filepath.Join(t.TempDir(), "nosuch")); err == nil {
		t.Error("no error for a folder that is not there")
	}
}
