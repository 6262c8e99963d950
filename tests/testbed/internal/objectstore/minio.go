// Package objectstore runs an S3-compatible store on loopback and lists what lies in it.
package objectstore

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/loopback"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/process"
)

// Bucket is the bucket that exists from the start.
const Bucket = "medusa-backups"

const (
	bindAttempts = 5
	readyTimeout = 30 * time.Second
	stopGrace    = 5 * time.Second
)

// Store is a running MinIO.
type Store struct {
	Endpoint, AccessKey, SecretKey, Log string

	process *process.Process
}

// Start runs MinIO on a port of its own, with credentials of its own unless an earlier run left some in dir.
func Start(program, dir string) (*Store, error) {
	store := &Store{Log: filepath.Join(dir, "minio.log")}
	data := filepath.Join(dir, "minio")
	// A directory of the drive's root is a bucket.
	if err := os.MkdirAll(filepath.Join(data, Bucket), 0o755); err != nil {
		return nil, err
	}
	if err := store.credentials(filepath.Join(dir, "minio.credentials")); err != nil {
		return nil, err
	}
	var err error
	for range bindAttempts {
		if err = store.start(program, data); err == nil {
			return store, nil
		}
	}
	return nil, err
}

func (s *Store) credentials(path string) error {
	if data, err := os.ReadFile(path); err == nil {
		_, err = fmt.Sscan(string(data), &s.AccessKey, &s.SecretKey)
		return err
	}
	s.AccessKey, s.SecretKey = rand.Text()[:16], rand.Text()
	return os.WriteFile(path, []byte(s.AccessKey+" "+s.SecretKey+"\n"), 0o600)
}

func (s *Store) start(program, data string) error {
	port, err := loopback.FreePort()
	if err != nil {
		return err
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	s.Endpoint = "http://" + address
	s.process, err = process.Start(process.Spec{
		Argv: []string{program, "server", "--quiet", "--address", address, "--console-address", "127.0.0.1:0", data},
		Env: []string{
			"MINIO_ROOT_USER=" + s.AccessKey, "MINIO_ROOT_PASSWORD=" + s.SecretKey,
			"MINIO_BROWSER=off", "MINIO_UPDATE=off", "HOME=" + data, "GOGC=50",
		},
		Log: s.Log,
	})
	if err != nil {
		return err
	}
	if err := s.awaitHealth(); err != nil {
		s.process.Stop(0)
		return err
	}
	return nil
}

func (s *Store) awaitHealth() error {
	deadline := time.After(readyTimeout)
	for {
		response, err := http.Get(s.Endpoint + "/minio/health/ready")
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-s.process.Done():
			return fmt.Errorf("MinIO exited with code %d", s.process.ExitCode())
		case <-deadline:
			return errors.New("MinIO did not become ready")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// PID is MinIO's process id.
func (s *Store) PID() int { return s.process.PID() }

// Stop ends MinIO.
func (s *Store) Stop() { s.process.Stop(stopGrace) }
