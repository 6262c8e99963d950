// Package sandbox gives a container's process the file system it expects: the pod's volumes at the container's mount
// paths, the pod's host name and hosts file. It is no isolation; everything else is this machine's.
package sandbox

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Command is the testbed's hidden sub-command that [Enter] serves.
const Command = "container-init"

// Spec is what to set up before the container's program takes over the process.
type Spec struct {
	Hostname string   `json:"hostname"`
	Mounts   []Mount  `json:"mounts"`
	Argv     []string `json:"argv"`
	// Scratch is an empty directory of this container.
	Scratch string `json:"scratch"`
	// Processes says that the process has a PID namespace of its own, and is to see it in /proc.
	Processes bool `json:"processes,omitempty"`
	// Network is the descriptor of the network namespace that the process goes on in; none when it is 0.
	Network int `json:"network,omitempty"`
}

// Mount puts a directory or file of this machine at a path of the container.
type Mount struct {
	Source string `json:"source"`
	Target string `json:"target"`
}

// Write stores a spec and returns the command line that enters it. The process must have been started in a mount and a
// UTS namespace of its own.
func Write(path string, spec Spec) (argv []string, err error) {
	data, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return []string{self, Command, path}, os.WriteFile(path, data, 0o600)
}

// Enter sets this process up as a spec says and becomes its program. It returns only if that fails.
func Enter(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var spec Spec
	if err := json.Unmarshal(data, &spec); err != nil {
		return err
	}
	// The parent-death signal is a thread's, and so is a network namespace; the program gets those of the thread that becomes
	// it, which need not be the one that this process was started with.
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("set parent-death signal: %w", err)
	}
	// Mounts made here must not reach the machine's own namespace.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := syscall.Sethostname([]byte(spec.Hostname)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	if err := mountAll(spec); err != nil {
		return err
	}
	if spec.Processes {
		if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
			return fmt.Errorf("mount /proc: %w", err)
		}
	}
	if spec.Network != 0 {
		if err := unix.Setns(spec.Network, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network: %w", err)
		}
		unix.CloseOnExec(spec.Network)
	}
	return fmt.Errorf("exec %s: %w", spec.Argv[0], syscall.Exec(spec.Argv[0], spec.Argv, os.Environ()))
}

// mountAll binds outer paths before inner ones. Paths that this machine lacks appear in a shadow of their nearest
// existing parent, so that nothing is ever created on the machine itself.
func mountAll(spec Spec) error {
	sort.SliceStable(spec.Mounts, func(i, j int) bool { return spec.Mounts[i].Target < spec.Mounts[j].Target })
	shadowed := map[string]bool{}
	for _, mount := range spec.Mounts {
		if _, err := os.Stat(mount.Target); err != nil {
			parent := existingParent(mount.Target)
			if !shadowed[parent] && !underAny(shadowed, parent) {
				staging := filepath.Join(spec.Scratch, fmt.Sprintf("shadow-%d", len(shadowed)))
				if err := shadow(parent, staging); err != nil {
					return fmt.Errorf("shadow %s: %w", parent, err)
				}
				shadowed[parent] = true
			}
			if err := makeMountPoint(mount); err != nil {
				return err
			}
		}
		if err := bind(mount.Source, mount.Target); err != nil {
			return err
		}
	}
	return nil
}

func existingParent(path string) string {
	for {
		path = filepath.Dir(path)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
}

func underAny(directories map[string]bool, path string) bool {
	for directory := range directories {
		if strings.HasPrefix(path, directory+"/") {
			return true
		}
	}
	return false
}

func makeMountPoint(mount Mount) error {
	info, err := os.Stat(mount.Source)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return os.MkdirAll(mount.Target, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(mount.Target), 0o755); err != nil {
		return err
	}
	return os.WriteFile(mount.Target, nil, 0o644)
}

// shadow replaces a directory, for this namespace, by a writable one in memory with the same entries.
func shadow(directory, staging string) error {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(staging, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", staging, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	for _, entry := range entries {
		from, to := filepath.Join(directory, entry.Name()), filepath.Join(staging, entry.Name())
		if err := mirror(entry, from, to); err != nil {
			return err
		}
	}
	return bind(staging, directory)
}

func mirror(entry os.DirEntry, from, to string) error {
	switch {
	case entry.IsDir():
		if err := os.Mkdir(to, 0o755); err != nil {
			return err
		}
		return bind(from, to)
	case entry.Type()&os.ModeSymlink != 0:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	default:
		if err := os.WriteFile(to, nil, 0o644); err != nil {
			return err
		}
		return bind(from, to)
	}
}

func bind(source, target string) error {
	if err := syscall.Mount(source, target, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s at %s: %w", source, target, err)
	}
	return nil
}
