// Package process starts child processes that cannot outlive the testbed.
//
// Two nets hold them: Stop and a fleet's teardown signal the whole process group, and the kernel's parent-death
// signal kills each child even when the testbed itself is killed with SIGKILL.
package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Spec says what to run.
type Spec struct {
	// Argv is the program and its arguments.
	Argv []string
	// Env is added to the testbed's own environment, unless CleanEnv is set.
	Env      []string
	CleanEnv bool
	Dir      string
	// Log is the file that standard output and error are appended to.
	Log string
	// Isolated gives the child mount and UTS namespaces of its own (and a user namespace when not root, which is
	// what lets it mount).
	Isolated bool
	// Contained gives an isolated child a PID namespace too, which ends with it: what it starts cannot outlive it.
	Contained bool
	// Files are open in the child from descriptor 3 on.
	Files []*os.File
}

// Process is a running or finished child, leader of its own process group.
type Process struct {
	command *exec.Cmd
	done    chan struct{}
	// lives guards the process id: once it has been waited for, the kernel may give it to somebody else's child.
	lives  sync.Mutex
	reaped bool
}

// Start runs a child.
func Start(spec Spec) (*Process, error) {
	log, err := os.OpenFile(spec.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer log.Close()
	command := exec.Command(spec.Argv[0], spec.Argv[1:]...)
	command.Dir = spec.Dir
	command.Stdout, command.Stderr = log, log
	if spec.CleanEnv {
		command.Env = append([]string{}, spec.Env...)
	} else {
		command.Env = append(os.Environ(), spec.Env...)
	}
	command.ExtraFiles = spec.Files
	command.SysProcAttr = attributes(spec.Isolated)
	if spec.Contained {
		command.SysProcAttr.Cloneflags |= syscall.CLONE_NEWPID
	}
	if err := startOnSpawner(command); err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Argv[0], err)
	}
	process := &Process{command: command, done: make(chan struct{})}
	go process.reap()
	return process, nil
}

// reap waits until the child has ended, kills what is left of its process group and frees its process id.
func (p *Process) reap() {
	for {
		err := unix.Waitid(unix.P_PID, p.PID(), nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.lives.Lock()
	_ = syscall.Kill(-p.PID(), syscall.SIGKILL)
	_ = p.command.Wait()
	p.reaped = true
	p.lives.Unlock()
	close(p.done)
}

func attributes(isolated bool) *syscall.SysProcAttr {
	attributes := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if !isolated {
		return attributes
	}
	attributes.Cloneflags = syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS
	if os.Geteuid() != 0 {
		attributes.Cloneflags |= syscall.CLONE_NEWUSER
		attributes.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		attributes.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return attributes
}

// PID is the child's process id, also its process group's.
func (p *Process) PID() int { return p.command.Process.Pid }

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running tells whether the child has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// ExitCode is valid once Done is closed; a child that died by a signal counts 128 + the signal, as shells do.
func (p *Process) ExitCode() int {
	status, ok := p.command.ProcessState.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return p.command.ProcessState.ExitCode()
}

// Signal signals the whole process group.
func (p *Process) Signal(signal syscall.Signal) error {
	p.lives.Lock()
	defer p.lives.Unlock()
	if p.reaped {
		return errors.New("process has ended")
	}
	return syscall.Kill(-p.PID(), signal)
}

// Stop asks the process group to end, kills it after the grace period and waits until it is gone.
func (p *Process) Stop(grace time.Duration) {
	if grace > 0 && p.Signal(syscall.SIGTERM) == nil {
		// A stopped process would never see the TERM.
		_ = p.Signal(syscall.SIGCONT)
		select {
		case <-p.done:
		case <-time.After(grace):
		}
	}
	_ = p.Signal(syscall.SIGKILL)
	<-p.done
}

// spawner is the one thread that starts children. The parent-death signal fires when the *thread* that forked ends,
// so that thread must live exactly as long as the testbed: it is locked to a goroutine that never returns.
var spawner = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for run := range work {
			run()
		}
	}()
	return work
})

func startOnSpawner(command *exec.Cmd) error {
	result := make(chan error, 1)
	spawner() <- func() { result <- command.Start() }
	return <-result
}
