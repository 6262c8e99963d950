package install

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestChecksumListMustMatchExactly(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.jar"), []byte("a"), 0o644); err != nil {
		t.Fatal(err)
	}
	good := fmt.Sprintf("%x  a.jar\n", sha256.Sum256([]byte("a")))
	for name, test := range map[string]struct{ list, want string }{
		"as listed":   {good, ""},
		"other bytes": {strings.Replace(good, good[:4], "0000", 1), "a.jar has sha256"},
		"not listed":  {"", "a.jar has sha256"},
		"not fetched": {good + strings.Repeat("0", 64) + "  b.jar\n", "b.jar was not fetched"},
		"broken list": {"a.jar\n", "bad line"},
	} {
		err := verify(dir, test.list)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

func TestPieceIsInstalledOnceAndAgainWhenItsPinsChange(t *testing.T) {
	cache, runs := t.TempDir(), 0
	piece := Piece{Name: "thing", pins: []string{"1"}, run: func(*step) error { runs++; return nil }}
	var progress strings.Builder
	for _, pin := range []string{"1", "1", "2"} {
		piece.pins = []string{pin}
		if err := piece.ensure(cache, &progress); err != nil {
			t.Fatal(err)
		}
	}
	if runs != 2 {
		t.Errorf("installed %d times", runs)
	}
}

func TestFailedPieceHasNoStampAndNamesItsLog(t *testing.T) {
	cache := t.TempDir()
	piece := Piece{Name: "thing", run: func(s *step) error { return s.command(s.dir, nil, "false") }}
	err := piece.ensure(cache, &strings.Builder{})
	if err == nil || !strings.Contains(err.Error(), filepath.Join(cache, "thing.log")) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(cache, "thing.stamp")); err == nil {
		t.Error("it is stamped as installed")
	}
}

func TestVersionsInCodeAreThosePinned(t *testing.T) {
	if !strings.Contains(cassandraPOM, "<version>"+CassandraVersion+"</version>") {
		t.Errorf("pom.xml does not pin %s", CassandraVersion)
	}
	for _, version := range MedusaVersions {
		if !strings.Contains(medusaRequirements(version), "cassandra-medusa=="+version+" ") {
			t.Errorf("medusa-%s.txt does not pin %[1]s", version)
		}
	}
}
