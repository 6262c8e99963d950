package runc

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	spec "github.com/opencontainers/image-spec/specs-go/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/images"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/podnet"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/sandbox"
)

// TestMain lets this binary also be what runs in the containers, and what enters their namespaces.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) == 3 && os.Args[1] == sandbox.Command:
		fmt.Fprintln(os.Stderr, sandbox.Enter(os.Args[2]))
		os.Exit(1)
	case len(os.Args) == 3 && os.Args[1] == "contained":
		contained(os.Args[2])
	}
	os.Exit(m.Run())
}

// contained is the containers' program.
func contained(what string) {
	switch what {
	case "describe":
		status, _ := os.ReadFile("/proc/self/status")
		fmt.Printf("%s\nPID: %d\nWORD: %s\n", status, os.Getpid(), os.Getenv("WORD"))
		fmt.Println("written:", os.WriteFile("/file", nil, 0o600) == nil)
		content, err := os.ReadFile("/volume/file")
		fmt.Println("volume:", string(content), err)
		os.Exit(3)
	case "eat":
		var eaten [][]byte
		for {
			bite := make([]byte, 1<<20)
			for i := range bite {
				bite[i] = 1
			}
			eaten = append(eaten, bite)
		}
	case "wait":
		ended := make(chan os.Signal, 1)
		signal.Notify(ended, syscall.SIGTERM)
		fmt.Println("waiting")
		<-ended
		os.Exit(7)
	}
}

// pod is one whose container asks for what our charts ask for.
func pod(words ...string) Container {
	yes, no := true, false
	container := &corev1.Container{
		Name: "main", Args: words,
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
		Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}},
	}
	return Container{
		Image: &images.Image{Config: spec.ImageConfig{User: "65532:65532", Entrypoint: []string{"/program", "contained"}}},
		Spec:  container,
		Pod: &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "pod"},
			Spec: corev1.PodSpec{
				Containers: []corev1.Container{*container},
				SecurityContext: &corev1.PodSecurityContext{
					RunAsNonRoot: &yes, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
				},
			},
		},
	}
}

// start runs a container; what it says is in the file.
func start(t *testing.T, container Container) (running *Running, log string) {
	t.Helper()
	runtime, err := New(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(runtime.Close)
	container.Image.Root = t.TempDir()
	if err := os.Chmod(container.Image.Root, 0o755); err != nil {
		t.Fatal(err)
	}
	copyProgram(t, filepath.Join(container.Image.Root, "program"))
	network, err := podnet.New(net.IPv4(10, 96, 0, 1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(network.Close)
	bundle := t.TempDir()
	log = filepath.Join(t.TempDir(), "log")
	id := fmt.Sprintf("test-%d", time.Now().UnixNano())
	if err := runtime.Configure(bundle, container, id); err != nil {
		t.Fatal(err)
	}
	if running, err = runtime.Start(bundle, id, network.Namespace(), log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { running.Process.Stop(0) })
	return running, log
}

func copyProgram(t *testing.T, to string) {
	t.Helper()
	from, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	file, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := io.Copy(file, from); err != nil {
		t.Fatal(err)
	}
}

func TestAContainerIsWhatItsPodAsksFor(t *testing.T) {
	container := pod("describe")
	container.Env = map[string]string{"WORD": "given"}
	volume := t.TempDir()
	if err := os.WriteFile(filepath.Join(volume, "file"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(volume), 0o755); err != nil {
		t.Fatal(err)
	}
	container.Mounts = []Mount{{Source: volume, Target: "/volume", ReadOnly: true}}
	running, log := start(t, container)
	<-running.Process.Done()
	said, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if code := running.Process.ExitCode(); code != 3 {
		t.Errorf("it ended with %d", code)
	}
	text := strings.ReplaceAll(string(said), "\t", " ")
	for _, want := range []string{
		"Uid: 65532 65532 65532 65532\n", "Gid: 65532 65532 65532 65532\n", "CapBnd: 0000000000000000\n",
		"NoNewPrivs: 1\n", "Seccomp: 2\n", "PID: 1\n", "WORD: given\n", "written: false\n", "volume: content <nil>\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	if outOfMemory, err := running.Remove(); err != nil || outOfMemory {
		t.Errorf("removed: %v, %v", outOfMemory, err)
	}
}

func TestAContainerThatEatsMoreThanItsLimitIsKilled(t *testing.T) {
	running, _ := start(t, pod("eat"))
	if why := running.runtime.Limitless(); why != "" {
		t.Skip(why)
	}
	select {
	case <-running.Process.Done():
	case <-time.After(30 * time.Second):
		t.Fatal("it goes on")
	}
	if outOfMemory, err := running.Remove(); err != nil || !outOfMemory || running.Process.ExitCode() != 137 {
		t.Errorf("out of memory: %v, %v, exit code %d", outOfMemory, err, running.Process.ExitCode())
	}
}

func TestAContainerEndsInItsOwnTimeOrIsKilled(t *testing.T) {
	for grace, want := range map[time.Duration]int{20 * time.Second: 7, 0: 137} {
		running, log := start(t, pod("wait"))
		for said := ""; !strings.Contains(said, "waiting"); time.Sleep(10 * time.Millisecond) {
			text, _ := os.ReadFile(log)
			if said = string(text); !running.Process.Running() {
				t.Fatal(said)
			}
		}
		running.Process.Stop(grace)
		if code := running.Process.ExitCode(); code != want {
			t.Errorf("after %s: %d, want %d", grace, code, want)
		}
		if _, err := running.Remove(); err != nil {
			t.Error(err)
		}
		if left := cgroupsOf(fmt.Sprint(os.Getpid())); len(left) > 0 {
			children, _ := filepath.Glob(left[0] + "/" + running.id)
			if len(children) > 0 {
				t.Errorf("left behind: %v", children)
			}
		}
	}
}

func TestWhatCannotBeKeptIsRefused(t *testing.T) {
	yes, no, root := true, false, int64(0)
	for want, change := range map[string]func(*Container){
		"will run as root": func(c *Container) { c.Image.Config.User = "" },
		"runAsNonRoot":     func(c *Container) { c.Spec.SecurityContext.RunAsUser = &root },
		"non-numeric":      func(c *Container) { c.Image.Config.User = "nobody" },
		"read-only":        func(c *Container) { c.Spec.SecurityContext.ReadOnlyRootFilesystem = &no },
		"privileged":       func(c *Container) { c.Spec.SecurityContext.Privileged = &yes },
	} {
		container := pod()
		change(&container)
		if _, err := container.spec(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

func TestAPodsCommandTakesThePlaceOfTheImages(t *testing.T) {
	for _, one := range []struct{ command, args, want []string }{
		{nil, nil, []string{"/program", "contained", "image"}},
		{nil, []string{"$(WORD)", "$$(WORD)", "$(OTHER)"}, []string{"/program", "contained", "given", "$(WORD)", "$(OTHER)"}},
		{[]string{"/other"}, nil, []string{"/other"}},
		{[]string{"/other"}, []string{"a"}, []string{"/other", "a"}},
	} {
		container := pod()
		container.Image.Config.Cmd = []string{"image"}
		container.Env = map[string]string{"WORD": "given"}
		container.Spec.Command, container.Spec.Args = one.command, one.args
		spec, err := container.spec()
		if err != nil || fmt.Sprint(spec.Process.Args) != fmt.Sprint(one.want) {
			t.Errorf("%q %q: %q, %v", one.command, one.args, spec.Process.Args, err)
		}
	}
}
