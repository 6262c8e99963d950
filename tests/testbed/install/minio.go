package install

import (
	_ "embed"
	"path/filepath"
)

var (
	//go:embed pins/minio.mod
	minioModule string
	//go:embed pins/minio.sum
	minioSums string
)

// minio builds the object store from the Go module proxy. Its module file pins the version of MinIO and of everything
// below it, its sum file their contents.
func minio() Piece {
	return Piece{
		Name:  "minio",
		What:  "MinIO from the Go module proxy",
		pins:  []string{minioModule, minioSums},
		tools: []tool{{"go", "MinIO is built from source (https://go.dev/doc/install)"}},
		run:   installMinIO,
	}
}

func installMinIO(step *step) error {
	if _, err := step.write("go.mod", minioModule); err != nil {
		return err
	}
	if _, err := step.write("go.sum", minioSums); err != nil {
		return err
	}
	return step.command(step.dir, []string{"CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off"}, "go", "build",
		"-buildvcs=false", "-ldflags=-s -w", "-o", filepath.Join(step.dir, "minio"), "github.com/minio/minio")
}
