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
