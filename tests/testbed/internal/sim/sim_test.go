package sim

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const definitions = "../../../../crds"

func newTestPlane(t testing.TB, seed Seed) *plane {
	t.Helper()
	kinds, err := load(definitions)
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPlane("sim-1", kinds, Config{Seed: seed, MedusaTakes: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func BenchmarkStatusIsWritten(b *testing.B) {
	p := newTestPlane(b, Seed{Namespace: "cassandra", Datacenters: 1, Nodes: 3, Backups: 1})
	k := p.kinds.find(medusaGroup, "v1alpha1", "medusabackupjobs")
	job := map[string]any{
		"apiVersion": medusaGroup + "/v1alpha1", "kind": "MedusaBackupJob",
		"metadata": map[string]any{"name": "b"}, "spec": map[string]any{"cassandraDatacenter": "none"},
	}
	if _, err := p.store.create(k, "cassandra", &unstructured.Unstructured{Object: job}, write{manager: "m"}); err != nil {
		b.Fatal(err)
	}
	n := 0
	for b.Loop() {
		n++
		if err := p.store.writeStatus(k, "cassandra", "b", map[string]any{"message": fmt.Sprint(n)}, dataPlane); err != nil {
			b.Fatal(err)
		}
	}
}
