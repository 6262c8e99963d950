// Package objectstore runs an S3-compatible store on loopback and lists what lies in it.
package objectstore

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
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

	program, dir string
	process      *process.Process
}

// Start runs MinIO on a port of its own, with credentials of its own unless an earlier run left some in dir.
func Start(program, dir string) (*Store, error) {
	store := &Store{Log: filepath.Join(dir, "minio.log"), program: program, dir: dir}
	// A directory of the drive's root is a bucket.
	if err := os.MkdirAll(filepath.Join(store.data(), Bucket), 0o755); err != nil {
		return nil, err
	}
	if data, err := os.ReadFile(store.credentials()); err == nil {
		if _, err := fmt.Sscan(string(data), &store.AccessKey, &store.SecretKey); err != nil {
			return nil, err
		}
	} else if err := store.newCredentials(); err != nil {
		return nil, err
	}
	var err error
	for range bindAttempts {
		var port int
		if port, err = loopback.FreePort(); err != nil {
			return nil, err
		}
		if err = store.start(fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return store, nil
		}
	}
	return nil, err
}

// Rotate starts MinIO again, at the same address, with credentials that are new; the old ones work no more.
func (s *Store) Rotate() error {
	s.Stop()
	if err := s.newCredentials(); err != nil {
		return err
	}
	return s.start(strings.TrimPrefix(s.Endpoint, "http://"))
}

func (s *Store) data() string        { return filepath.Join(s.dir, "minio") }
func (s *Store) credentials() string { return filepath.Join(s.dir, "minio.credentials") }

func (s *Store) newCredentials() error {
	s.AccessKey, s.SecretKey = rand.Text()[:16], rand.Text()
	return os.WriteFile(s.credentials(), []byte(s.AccessKey+" "+s.SecretKey+"\n"), 0o600)
}

func (s *Store) start(address string) error {
	data := s.data()
	s.Endpoint = "http://" + address
	var err error
	s.process, err = process.Start(process.Spec{
		Argv: []string{s.program, "server", "--quiet", "--address", address, "--console-address", "127.0.0.1:0", data},
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
