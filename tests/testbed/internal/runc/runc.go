// Package runc runs containers of images with runc, under what their pods ask for.
package runc

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/process"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/sandbox"
)

// Runtime runs containers.
type Runtime struct {
	program string
	// state is where runc keeps what it knows.
	state string
	// limitless is why there are no memory limits; empty when there are.
	limitless string
}

// New finds runc. Nothing in dir is of a container that still runs: they end with their testbed.
func New(dir string) (*Runtime, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("containers of images need root")
	}
	program, err := exec.LookPath("runc")
	if err != nil {
		// Debian has it in a folder that is not on every path.
		if program, err = exec.LookPath("/usr/sbin/runc"); err != nil {
			return nil, errors.New("runc is missing; Debian has it in its package runc")
		}
	}
	sweepCgroups()
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return &Runtime{program: program, state: dir, limitless: withoutMemoryLimits()}, nil
}

// Limitless is why memory limits are not kept on this machine; empty when they are.
func (r *Runtime) Limitless() string { return r.limitless }

// Close takes away what is left when all containers have ended.
func (r *Runtime) Close() { removeCgroups(os.Getpid()) }

// Running is a container that was started.
type Running struct {
	runtime *Runtime
	id      string
	// Process passes SIGTERM on to the container, takes it along when it is killed, and ends as it does.
	Process *process.Process
}

// Configure writes what runc is told into the container's directory.
func (r *Runtime) Configure(bundle string, container Container, id string) error {
	spec, err := container.spec()
	if err != nil {
		return err
	}
	spec.Linux.CgroupsPath = cgroupPath(id)
	if r.limitless != "" {
		spec.Linux.Resources.Memory = nil
	}
	data, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(bundle, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(bundle, "config.json"), data, 0o600)
}

// Start runs a configured container in a network. id is its own alone.
func (r *Runtime) Start(bundle, id string, network *os.File, log string) (*Running, error) {
	argv, err := sandbox.Write(filepath.Join(bundle, "sandbox.json"), sandbox.Spec{
		Hostname: "runc", Scratch: bundle, Processes: true, Network: 3,
		// Kept when it has ended, for its cgroup says why.
		Argv: []string{r.program, "--root", r.state, "run", "--keep", "--bundle", bundle, id},
	})
	if err != nil {
		return nil, err
	}
	started, err := process.Start(process.Spec{
		Argv: argv, Env: []string{"PATH=" + os.Getenv("PATH")}, CleanEnv: true, Dir: bundle, Log: log,
		Isolated: true, Contained: true, Files: []*os.File{network},
	})
	if err != nil {
		return nil, err
	}
	return &Running{runtime: r, id: id, Process: started}, nil
}

// Remove takes away what is left of a container that has ended, and tells whether it was killed for its memory.
func (c *Running) Remove() (outOfMemory bool, err error) {
	outOfMemory = killedForMemory(c.id)
	output, err := exec.Command(c.runtime.program, "--root", c.runtime.state, "delete", "--force", c.id).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("runc delete: %w: %s", err, output)
	}
	return outOfMemory, err
}
