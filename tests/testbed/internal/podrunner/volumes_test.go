package podrunner

import (
	"os"
	"path/filepath"
	"testing"
)

func TestProjectedVolumeFollowsItsSource(t *testing.T) {
	directory := t.TempDir()
	for _, content := range []map[string][]byte{
		{"credentials": []byte("old")},
		{"credentials": []byte("new"), "nested/key": []byte("value")},
		{"credentials": []byte("new")},
	} {
		if err := project(directory, 0o644, content); err != nil {
			t.Fatal(err)
		}
		for path, want := range content {
			if got, err := os.ReadFile(filepath.Join(directory, path)); err != nil || string(got) != string(want) {
				t.Errorf("%s: %q, %v, want %q", path, got, err, want)
			}
		}
	}
	if _, err := os.Lstat(filepath.Join(directory, "nested")); err == nil {
		t.Error("a key that is gone is still there")
	}
}

func TestUnchangedVolumeIsNotWritten(t *testing.T) {
	directory := t.TempDir()
	content := map[string][]byte{"key": []byte("value")}
	if err := project(directory, 0o644, content); err != nil {
		t.Fatal(err)
	}
	before, _ := os.Readlink(filepath.Join(directory, "..data"))
	if err := project(directory, 0o644, content); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.Readlink(filepath.Join(directory, "..data")); after != before {
		t.Errorf("..data moved from %s to %s", before, after)
	}
}
