package images

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	spec "github.com/opencontainers/image-spec/specs-go/v1"
)

// archive writes an OCI archive with one layer. damaged says that the layer is not the one the manifest names.
func archive(t *testing.T, layer []tar.Header, damaged bool) string {
	t.Helper()
	var out bytes.Buffer
	files := tar.NewWriter(&out)
	add := func(name string, content []byte) {
		header := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}
		if err := files.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		_, _ = files.Write(content)
	}
	blob := func(media string, content []byte) spec.Descriptor {
		name := digest.FromBytes(content)
		if damaged && strings.HasSuffix(media, "gzip") {
			name = digest.FromString("another")
		}
		add("blobs/sha256/"+name.Encoded(), content)
		return spec.Descriptor{MediaType: media, Digest: name, Size: int64(len(content))}
	}
	encode := func(value any) []byte {
		data, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	var packed bytes.Buffer
	compressed := gzip.NewWriter(&packed)
	entries := tar.NewWriter(compressed)
	for _, header := range layer {
		if err := entries.WriteHeader(&header); err != nil {
			t.Fatal(err)
		}
		_, _ = entries.Write([]byte(strings.Repeat("x", int(header.Size))))
	}
	_ = entries.Close()
	_ = compressed.Close()
	manifest := spec.Manifest{
		Config: blob(spec.MediaTypeImageConfig, encode(spec.Image{Config: spec.ImageConfig{
			User: "65532:65532", Entrypoint: []string{"/bin/program"},
		}})),
		Layers: []spec.Descriptor{blob(spec.MediaTypeImageLayerGzip, packed.Bytes())},
	}
	index := spec.Index{Manifests: []spec.Descriptor{blob(spec.MediaTypeImageManifest, encode(manifest))}}
	add(spec.ImageIndexFile, encode(index))
	_ = files.Close()
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestImageIsLaidOutAndFoundAgain(t *testing.T) {
	dir := t.TempDir()
	file := archive(t, []tar.Header{
		{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777},
		{Name: "bin/program", Typeflag: tar.TypeReg, Mode: 0o755, Size: 9},
		{Name: "bin/link", Typeflag: tar.TypeSymlink, Linkname: "program"},
	}, false)
	image, err := Load(file, dir)
	if err != nil {
		t.Fatal(err)
	}
	if image.Config.User != "65532:65532" || image.Config.Entrypoint[0] != "/bin/program" {
		t.Errorf("its configuration is %+v", image.Config)
	}
	if content, err := os.ReadFile(filepath.Join(image.Root, "bin/link")); err != nil || len(content) != 9 {
		t.Errorf("the program is %q, %v", content, err)
	}
	for name, want := range map[string]os.FileMode{"tmp": os.ModeDir | os.ModeSticky | 0o777, "bin/program": 0o755} {
		if info, err := os.Stat(filepath.Join(image.Root, name)); err != nil || info.Mode() != want {
			t.Errorf("%s is %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
	again, err := Load(file, dir)
	if err != nil || again.Root != image.Root {
		t.Errorf("again: %+v, %v", again, err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "archive-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestWhatIsNotAnImageIsRefused(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	for what, file := range map[string]string{
		"another layer than its manifest's": archive(t, nil, true),
		"a link out of the image": archive(t, []tar.Header{
			{Name: "etc", Typeflag: tar.TypeSymlink, Linkname: outside},
			{Name: "etc/file", Typeflag: tar.TypeReg, Mode: 0o644, Size: 1},
		}, false),
		"no archive": os.Args[0],
	} {
		if image, err := Load(file, t.TempDir()); err == nil {
			t.Errorf("%s is taken as %+v", what, image)
		}
	}
	if _, err := os.Stat(outside); err == nil {
		t.Error("it was written outside of the image")
	}
}
