package runc

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Where cgroups are: of version 1 with a directory for each controller, of version 2 with all in one.
const (
	cgroupRoot = "/sys/fs/cgroup"
	memoryV1   = cgroupRoot + "/memory"
	// ours begins the name of every testbed's cgroup, which its process id ends.
	ours = "medusa-fleet-testbed-"
)

func cgroupPath(id string) string { return fmt.Sprintf("/%s%d/%s", ours, os.Getpid(), id) }

// withoutMemoryLimits says why this machine keeps no memory limits; nothing when it does.
func withoutMemoryLimits() string {
	if unix.Access(memoryV1+"/cgroup.procs", unix.W_OK) == nil {
		return ""
	}
	controllers, err := os.ReadFile(cgroupRoot + "/cgroup.subtree_control")
	switch {
	case err != nil:
		return "there is no memory cgroup: " + err.Error()
	case !strings.Contains(" "+strings.TrimSpace(string(controllers))+" ", " memory "):
		return "the memory controller is not switched on in " + cgroupRoot + "/cgroup.subtree_control"
	case unix.Access(cgroupRoot+"/cgroup.procs", unix.W_OK) != nil:
		return cgroupRoot + " is read-only"
	}
	return ""
}

// killedForMemory tells whether the kernel killed a process of a container because of its memory limit.
func killedForMemory(id string) bool {
	for _, file := range []string{
		memoryV1 + cgroupPath(id) + "/memory.oom_control",
		cgroupRoot + cgroupPath(id) + "/memory.events",
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if name, count, _ := strings.Cut(strings.TrimSpace(line), " "); name == "oom_kill" {
				return count != "0"
			}
		}
	}
	return false
}

// sweepCgroups takes away what testbeds that were killed have left behind.
func sweepCgroups() {
	for _, directory := range cgroupsOf("*") {
		pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(directory), ours))
		if err == nil && unix.Kill(pid, 0) == unix.ESRCH {
			removeCgroups(pid)
		}
	}
}

func removeCgroups(pid int) {
	for _, directory := range cgroupsOf(strconv.Itoa(pid)) {
		// Only empty ones can be removed, so none that is in use.
		children, _ := filepath.Glob(directory + "/*/cgroup.procs")
		for _, child := range children {
			_ = unix.Rmdir(filepath.Dir(child))
		}
		_ = unix.Rmdir(directory)
	}
}

func cgroupsOf(testbed string) []string {
	one, _ := filepath.Glob(cgroupRoot + "/" + ours + testbed)
	each, _ := filepath.Glob(cgroupRoot + "/*/" + ours + testbed)
	return append(one, each...)
}
