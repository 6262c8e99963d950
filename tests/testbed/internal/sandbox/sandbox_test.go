package sandbox_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/process"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/sandbox"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == sandbox.Command {
		// Not on the thread that this process began with: whatever is a thread's own must be taken along.
		runtime.LockOSThread()
		go func() {
			_, _ = os.Stderr.WriteString(sandbox.Enter(os.Args[2]).Error() + "\n")
			os.Exit(125)
		}()
		select {}
	}
	if spec := os.Getenv(parentVariable); spec != "" {
		if _, err := process.Start(process.Spec{
			Argv: []string{os.Args[0], sandbox.Command, spec}, Log: spec + ".log", Isolated: true, Contained: true,
		}); err != nil {
			panic(err)
		}
		time.Sleep(time.Hour)
	}
	os.Exit(m.Run())
}

// parentVariable makes this binary a testbed that has started the container of that spec and is about to be killed.
const parentVariable = "TESTBED_SANDBOX_TEST_PARENT"

func TestAContainerDiesWithTheTestbed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a PID namespace needs root")
	}
	dir := t.TempDir()
	spec := filepath.Join(dir, "spec.json")
	// It becomes the program of the container, and starts another.
	alive := filepath.Join(dir, "alive")
	script := "(while sleep 0.05; do date +%N > " + alive + "; done) & wait"
	if _, err := sandbox.Write(spec, sandbox.Spec{
		Hostname: "pod-0", Argv: []string{"/bin/sh", "-c", script}, Scratch: dir, Processes: true,
	}); err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), parentVariable+"="+spec)
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	written := func() string {
		text, _ := os.ReadFile(alive)
		return string(text)
	}
	for deadline := time.Now().Add(20 * time.Second); written() == ""; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not run")
		}
	}
	_ = parent.Process.Kill()
	_ = parent.Wait()
	time.Sleep(200 * time.Millisecond)
	before := written()
	time.Sleep(300 * time.Millisecond)
	if written() != before {
		t.Error("the container outlived the testbed")
	}
}

// run runs a shell script in a sandbox and returns what it and the sandbox printed.
func run(t *testing.T, script string, mounts ...sandbox.Mount) string {
	t.Helper()
	scratch := t.TempDir()
	argv, err := sandbox.Write(filepath.Join(scratch, "spec.json"), sandbox.Spec{
		Hostname: "pod-0", Mounts: mounts, Argv: []string{"/bin/sh", "-ec", script}, Scratch: scratch,
	})
	if err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(scratch, "log")
	child, err := process.Start(process.Spec{Argv: argv, Log: log, Isolated: true})
	if err != nil {
		t.Skipf("this machine allows no namespaces: %v", err)
	}
	<-child.Done()
	output, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if code := child.ExitCode(); code != 0 {
		t.Fatalf("exit code %d: %s", code, output)
	}
	return strings.TrimSpace(string(output))
}

func TestVolumesAppearWhereTheMachineHasNothing(t *testing.T) {
	volume := t.TempDir()
	if err := os.WriteFile(filepath.Join(volume, "medusa.ini"), []byte("[storage]"), 0o644); err != nil {
		t.Fatal(err)
	}
	got := run(t, "hostname; cat /etc/testbed-sandbox/medusa.ini; echo; test -e /etc/passwd; echo x > /var/lib/testbed-sandbox/made",
		sandbox.Mount{Source: volume, Target: "/etc/testbed-sandbox"},
		sandbox.Mount{Source: volume, Target: "/var/lib/testbed-sandbox"})
	if got != "pod-0\n[storage]" {
		t.Errorf("got %q", got)
	}
	if _, err := os.Stat(filepath.Join(volume, "made")); err != nil {
		t.Error("what the container wrote is not in its volume")
	}
	for _, path := range []string{"/etc/testbed-sandbox", "/var/lib/testbed-sandbox"} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is on the machine itself", path)
		}
	}
}

func TestHostsFileIsThePodsAndFollowsIt(t *testing.T) {
	hosts := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(hosts, []byte("127.20.0.2\tpod-0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := run(t, "cat /etc/hosts", sandbox.Mount{Source: hosts, Target: "/etc/hosts"}); got != "127.20.0.2\tpod-0" {
		t.Errorf("got %q", got)
	}
}
