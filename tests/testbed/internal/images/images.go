// Package images reads container images from OCI archives, as `make image` builds them, and lays out their files.
package images

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	spec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is an image whose files are laid out.
type Image struct {
	// Digest is that of the manifest.
	Digest string
	// Root is the directory of its files, which all its containers share.
	Root   string
	Config spec.ImageConfig
}

// Load lays the image of an archive out below dir. It is found there again by its digest.
func Load(archive, dir string) (*Image, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	blobs, err := os.MkdirTemp(dir, "archive-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(blobs)
	image, err := load(archive, blobs, dir)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", archive, err)
	}
	return image, nil
}

func load(archive, blobs, dir string) (*Image, error) {
	if err := unpack(archive, blobs, false); err != nil {
		return nil, err
	}
	var index spec.Index
	if err := decode(filepath.Join(blobs, spec.ImageIndexFile), &index); err != nil {
		return nil, err
	}
	if len(index.Manifests) != 1 {
		return nil, fmt.Errorf("it holds %d images, not one", len(index.Manifests))
	}
	var manifest spec.Manifest
	if err := blob(blobs, index.Manifests[0], &manifest); err != nil {
		return nil, err
	}
	var config spec.Image
	if err := blob(blobs, manifest.Config, &config); err != nil {
		return nil, err
	}
	name := index.Manifests[0].Digest
	image := &Image{Digest: name.String(), Root: filepath.Join(dir, name.Encoded()), Config: config.Config}
	if _, err := os.Stat(image.Root); err == nil {
		return image, nil
	}
	// Renamed when it is whole: a testbed that is killed meanwhile leaves nothing that looks like it.
	root := filepath.Join(blobs, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		return nil, err
	}
	for _, layer := range manifest.Layers {
		if err := verify(blobs, layer); err != nil {
			return nil, err
		}
		if err := unpack(blobPath(blobs, layer), root, strings.HasSuffix(layer.MediaType, "+gzip")); err != nil {
			return nil, fmt.Errorf("layer %s: %w", layer.Digest, err)
		}
	}
	return image, os.Rename(root, image.Root)
}

func blobPath(dir string, of spec.Descriptor) string {
	return filepath.Join(dir, spec.ImageBlobsDir, of.Digest.Algorithm().String(), of.Digest.Encoded())
}

func verify(dir string, of spec.Descriptor) error {
	if err := of.Digest.Validate(); err != nil {
		return err
	}
	file, err := os.Open(blobPath(dir, of))
	if err != nil {
		return err
	}
	defer file.Close()
	found, err := of.Digest.Algorithm().FromReader(file)
	if err == nil && found != of.Digest {
		err = fmt.Errorf("blob %s has the digest %s", of.Digest, found)
	}
	return err
}

func blob(dir string, of spec.Descriptor, into any) error {
	if err := verify(dir, of); err != nil {
		return err
	}
	return decode(blobPath(dir, of), into)
}

func decode(file string, into any) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// removed marks, in a layer, a file that it takes away from those below it.
const removed = ".wh."

// unpack writes a tar file's entries into a directory, and nowhere else.
func unpack(file, dir string, compressed bool) error {
	source, err := os.Open(file)
	if err != nil {
		return err
	}
	defer source.Close()
	var stream io.Reader = source
	if compressed {
		if stream, err = gzip.NewReader(source); err != nil {
			return err
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	entries := tar.NewReader(stream)
	for {
		header, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := place(root, header, entries); err != nil {
			return fmt.Errorf("%s: %w", header.Name, err)
		}
	}
}

func place(root *os.Root, header *tar.Header, content io.Reader) error {
	name := strings.TrimPrefix(path.Clean("/"+header.Name), "/")
	if name == "" {
		return nil
	}
	parent, base := path.Split(name)
	if strings.HasPrefix(base, removed) {
		return errors.New("layers that take files away are not supported")
	}
	if parent != "" {
		if err := root.MkdirAll(path.Clean(parent), 0o755); err != nil {
			return err
		}
	}
	mode := header.FileInfo().Mode()
	switch header.Typeflag {
	case tar.TypeDir:
		if err := root.Mkdir(name, mode.Perm()); err != nil && !os.IsExist(err) {
			return err
		}
	case tar.TypeReg:
		if err := write(root, name, content); err != nil {
			return err
		}
	case tar.TypeSymlink:
		if err := root.RemoveAll(name); err != nil {
			return err
		}
		return root.Symlink(header.Linkname, name)
	case tar.TypeLink:
		if err := root.RemoveAll(name); err != nil {
			return err
		}
		return root.Link(strings.TrimPrefix(path.Clean("/"+header.Linkname), "/"), name)
	default:
		return fmt.Errorf("entries of type %q are not supported", header.Typeflag)
	}
	// The owner first: changing it takes set-user-ID away.
	if os.Geteuid() == 0 {
		if err := root.Lchown(name, header.Uid, header.Gid); err != nil {
			return err
		}
	}
	// Whatever the umask had left of it.
	return root.Chmod(name, mode)
}

func write(root *os.Root, name string, content io.Reader) error {
	if err := root.RemoveAll(name); err != nil {
		return err
	}
	file, err := root.Create(name)
	if err != nil {
		return err
	}
	if _, err := io.Copy(file, content); err != nil {
		_ = file.Close()
		return err
	}
	return file.Close()
}
