package install

import (
	"fmt"
	"os"
	"path/filepath"
)

// Paths says where the installed pieces are.
type Paths struct {
	// Jars is a Java class path with wildcard, Classes the directory of the compiled TestbedNode.
	Jars, Classes, Lib string
	// Pythons are interpreters with Medusa, by its version.
	Pythons map[string]string
	MinIO   string
}

// Find gives the paths in a cache, or says what is missing there.
func Find(cache string) (Paths, error) {
	cache, err := filepath.Abs(cache)
	if err != nil {
		return Paths{}, err
	}
	for _, piece := range Pieces() {
		found, err := os.ReadFile(filepath.Join(cache, piece.Name+".stamp"))
		if err != nil || string(found) != piece.key() {
			return Paths{}, fmt.Errorf("%s is not installed in %s: run `testbed install --cache %s`",
				piece.What, cache, cache)
		}
	}
	pythons := map[string]string{}
	for _, version := range MedusaVersions {
		pythons[version] = filepath.Join(cache, medusaPiece(version), "bin", "python")
	}
	lib := filepath.Join(cache, "cassandra", "lib")
	return Paths{
		Jars:    filepath.Join(lib, "*"),
		Classes: filepath.Join(cache, "cassandra", "classes"),
		Lib:     lib,
		Pythons: pythons,
		MinIO:   filepath.Join(cache, "minio", "minio"),
	}, nil
}
