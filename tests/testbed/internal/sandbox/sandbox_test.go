package sandbox_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/process"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/sandbox"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == sandbox.Command {
		_, _ = os.Stderr.WriteString(sandbox.Enter(os.Args[2]).Error() + "\n")
		os.Exit(125)
	}
	os.Exit(m.Run())
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
