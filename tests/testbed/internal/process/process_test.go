package process

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

const parentVariable = "TESTBED_PROCESS_TEST_PARENT"

// TestMain lets this binary also be a testbed that has started a child and is about to be killed.
func TestMain(m *testing.M) {
	if log := os.Getenv(parentVariable); log != "" {
		child, err := Start(Spec{Argv: []string{"sleep", "600"}, Log: log})
		if err != nil {
			panic(err)
		}
		fmt.Println(child.PID())
		time.Sleep(time.Hour)
	}
	os.Exit(m.Run())
}

func TestChildDiesWithItsParent(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), parentVariable+"="+filepath.Join(t.TempDir(), "log"))
	output, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(output)
	lines.Scan()
	var child int
	if _, err := fmt.Sscan(lines.Text(), &child); err != nil {
		t.Fatal(err)
	}
	_ = parent.Process.Kill()
	_ = parent.Wait()
	for range 100 {
		if gone(child) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	_ = syscall.Kill(child, syscall.SIGKILL)
	t.Error("the child outlived its parent")
}

// gone tells whether a process has ended; one that only waits to be reaped has.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	var state byte
	_, err = fmt.Sscanf(string(stat), "%d (sleep) %c", new(int), &state)
	return err == nil && state == 'Z'
}

func TestStopKillsWhatIgnoresTERM(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	child, err := Start(Spec{Argv: []string{"sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	for text, _ := os.ReadFile(log); len(text) == 0; text, _ = os.ReadFile(log) {
		time.Sleep(10 * time.Millisecond)
	}
	child.Stop(200 * time.Millisecond)
	if child.Running() || child.ExitCode() != 128+int(syscall.SIGKILL) {
		t.Errorf("running %v, exit code %d", child.Running(), child.ExitCode())
	}
}

func TestStopReachesAPausedProcess(t *testing.T) {
	child, err := Start(Spec{Argv: []string{"sleep", "600"}, Log: filepath.Join(t.TempDir(), "log")})
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	child.Stop(10 * time.Second)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestWhatALeaderLeavesBehindEndsWithIt(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	child, err := Start(Spec{Argv: []string{"sh", "-c", "sleep 600 & echo $!"}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	<-child.Done()
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var left int
	if _, err := fmt.Sscan(string(text), &left); err != nil {
		t.Fatal(err)
	}
	if err := child.Signal(syscall.SIGKILL); err == nil {
		t.Error("its process id is somebody else's by now")
	}
	for range 100 {
		if gone(left) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	_ = syscall.Kill(left, syscall.SIGKILL)
	t.Error("what it started outlived it")
}
