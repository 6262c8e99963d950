package recipes

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/install"
)

func TestConfigurationNamesTheNode(t *testing.T) {
	directory := t.TempDir()
	container := Container{
		Pod:     &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "shop-dc1-default-sts-0"}},
		Spec:    &corev1.Container{Name: "server-config-init"},
		Address: "127.20.3.9",
		Volumes: map[string]string{ConfigPath: directory},
		Env: map[string]string{
			ClusterVariable: "shop", DatacenterVariable: "dc1", RackVariable: "r1", SeedVariable: "shop-dc1-default-sts-0",
		},
	}
	if err := configureCassandra(context.Background(), container); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string][]string{
		"cassandra.yaml":              {`cluster_name: "shop"`, "listen_address: 127.20.3.9", `seeds: "127.20.3.9"`},
		"cassandra-rackdc.properties": {"dc=dc1", "rack=r1"},
	} {
		text, err := os.ReadFile(filepath.Join(directory, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range want {
			if !strings.Contains(string(text), line) {
				t.Errorf("%s has no %q", file, line)
			}
		}
	}
	delete(container.Env, RackVariable)
	if err := configureCassandra(context.Background(), container); err == nil {
		t.Error("a missing rack went unnoticed")
	}
}

func TestImageThatTheProductDeploysHasARecipe(t *testing.T) {
	const source = "../../../../src/control_plane/deployment/pod/image.rs"
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	if line := `DEFAULT_IMAGE: &str = "` + MedusaImage + `";`; !strings.Contains(string(text), line) {
		t.Errorf("%s has no %s", source, line)
	}
}

func TestTagSaysWhichMedusaRuns(t *testing.T) {
	container := Container{
		Address: "127.20.3.9", Resolver: "127.0.0.53:53", Scratch: t.TempDir(),
		Paths: install.Paths{Pythons: map[string]string{"0.29.1": "older", "0.31.0": "newer"}},
	}
	for image, want := range map[string]string{
		"docker.io/k8ssandra/medusa:0.29.1": "older",
		"docker.io/k8ssandra/medusa:0.31.0": "newer",
		"medusa-fleet.test/medusa:0.29.1":   "older",
		"medusa-fleet.test/medusa:0.31.0":   "newer",
		"docker.io/k8ssandra/medusa:0.30.0": "",
		"docker.io/k8ssandra/medusa":        "",
	} {
		recipe, ok := For(image)
		if want == "" {
			if ok {
				t.Errorf("%s has a recipe", image)
			}
			continue
		}
		if !ok {
			t.Errorf("%s has no recipe", image)
			continue
		}
		launch, err := recipe.Program(container)
		if err != nil || launch.Argv[0] != want {
			t.Errorf("%s is run by %v, %v; want %s", image, launch.Argv, err, want)
		}
	}
}

func TestPortThatAcceptsIsNotYetCassandra(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.21.7.9:"+cqlPort)
	if err != nil {
		t.Skip(err)
	}
	defer listener.Close()
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			_ = connection.Close()
		}
	}()
	if err := AnswersCQL(context.Background(), "127.21.7.9"); err == nil {
		t.Error("a server that answers nothing passes for Cassandra")
	}
}
