// Package install fetches what the pods of a test fleet run, each piece pinned by version and checksum, into a cache
// directory. A piece is finished when its stamp is written, so an installation that was killed half way simply starts
// that piece again, and one that is complete costs nothing.
package install

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Piece is something to install.
type Piece struct {
	Name string
	// What it is, with its version, for the progress line.
	What string
	// pins are the inputs that decide whether an earlier installation is still the right one.
	pins []string
	// tools are programs that must be there.
	tools []tool
	run   func(step *step) error
}

type tool struct{ program, why string }

// Pieces are all pieces, in the order they are installed.
func Pieces() []Piece {
	pieces := []Piece{cassandra()}
	for _, version := range MedusaVersions {
		pieces = append(pieces, medusa(version))
	}
	return append(pieces, minio())
}

// All installs every piece that is missing or outdated and writes a line per step to progress.
func All(cache string, progress io.Writer) error {
	cache, err := filepath.Abs(cache)
	if err != nil {
		return err
	}
	unlock, err := lock(cache)
	if err != nil {
		return err
	}
	defer unlock()
	for _, piece := range Pieces() {
		if err := piece.ensure(cache, progress); err != nil {
			return fmt.Errorf("install %s: %w", piece.Name, err)
		}
	}
	return nil
}

// lock keeps two installations from working in one cache; the second waits and then finds everything done.
func lock(cache string) (unlock func(), err error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(cache, "install.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
	}
	return func() { _ = file.Close() }, nil
}

func (p Piece) ensure(cache string, progress io.Writer) error {
	stamp, key := filepath.Join(cache, p.Name+".stamp"), p.key()
	if found, err := os.ReadFile(stamp); err == nil && string(found) == key {
		return nil
	}
	for _, tool := range p.tools {
		if _, err := exec.LookPath(tool.program); err != nil {
			return fmt.Errorf("%s is not on PATH: %s", tool.program, tool.why)
		}
	}
	// Without the stamp whatever lies there is of unknown state.
	dir := filepath.Join(cache, p.Name)
	for _, old := range []string{stamp, dir} {
		if err := os.RemoveAll(old); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	fmt.Fprintf(progress, "installing %s\n", p.What)
	start := time.Now()
	log := filepath.Join(cache, p.Name+".log")
	if err := p.run(&step{dir: dir, log: log}); err != nil {
		return fmt.Errorf("%w (its log: %s)", err, log)
	}
	fmt.Fprintf(progress, "installed %s in %s\n", p.What, time.Since(start).Round(time.Second))
	return os.WriteFile(stamp, []byte(key), 0o644)
}

func (p Piece) key() string {
	hash := sha256.New()
	for _, pin := range p.pins {
		fmt.Fprintf(hash, "%d\n%s", len(pin), pin)
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// step is where one piece is being installed.
type step struct{ dir, log string }

// command runs a program, with its output in the step's log.
func (s *step) command(dir string, env []string, argv ...string) error {
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	fmt.Fprintf(log, "\n$ %s\n", strings.Join(argv, " "))
	command := exec.Command(argv[0], argv[1:]...)
	command.Dir, command.Env = dir, append(os.Environ(), env...)
	command.Stdout, command.Stderr = log, log
	if err := command.Run(); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(argv[0]), err)
	}
	return nil
}

func (s *step) write(name, content string) (path string, err error) {
	path = filepath.Join(s.dir, name)
	return path, os.WriteFile(path, []byte(content), 0o644)
}
