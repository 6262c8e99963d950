package sim

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Seed is what a data plane has in the beginning.
type Seed struct {
	// Namespace is where its datacenters are.
	Namespace string
	// Datacenters are so many, dc1 and so on, each of a Cassandra cluster of its own and with so many nodes.
	Datacenters, Nodes int
	// Backups are the MedusaBackups of each, an hour after each other, the last one an hour ago.
	Backups int
}

const (
	cassOperator = "cass-operator"
	dataPlane    = "medusa-fleet/data-plane"
	// leaseNamespace is where Medusa's controller says that it runs.
	leaseNamespace = "medusa-fleet"
)

// seed makes what the plane has in the beginning.
func (p *plane) seed(seed Seed) error {
	for _, name := range []string{"default", kubeSystem, leaseNamespace, seed.Namespace} {
		if p.store.hasNamespace(name) {
			continue
		}
		namespace := map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name}}
		if err := p.make(namespace, "", "kube-apiserver"); err != nil {
			return err
		}
	}
	now := time.Now()
	if err := p.make(lease(now), leaseNamespace, dataPlane); err != nil {
		return err
	}
	for n := range seed.Datacenters {
		name := fmt.Sprintf("dc%d", n+1)
		cluster := p.name
		if n > 0 {
			cluster = fmt.Sprintf("%s-%d", p.name, n+1)
		}
		datacenter := datacenter(seed.Namespace, cluster, name, seed.Nodes)
		if err := p.make(datacenter, seed.Namespace, cassOperator); err != nil {
			return err
		}
		for b := range seed.Backups {
			started := now.Add(-time.Duration(seed.Backups-b) * time.Hour)
			run := run{
				namespace: seed.Namespace, datacenter: name, cluster: cluster, backup: fmt.Sprintf("%s-%d", name, started.Unix()),
				kind: "full", pods: pods(cluster, name, seed.Nodes), started: started, ended: started.Add(time.Minute),
			}
			if err := p.make(run.medusaBackup(), seed.Namespace, dataPlane); err != nil {
				return err
			}
		}
	}
	return nil
}

// make creates an object and writes its status.
func (p *plane) make(content map[string]any, namespace, manager string) error {
	u := &unstructured.Unstructured{Object: content}
	gvk := u.GroupVersionKind()
	for _, k := range p.kinds.all {
		if k.GroupVersionKind != gvk {
			continue
		}
		status := content["status"]
		made, err := p.store.create(k, namespace, u, write{manager: manager})
		if err != nil || status == nil || !k.status {
			return err
		}
		return p.store.writeStatus(k, namespace, made.name, status, manager)
	}
	return fmt.Errorf("%s is not served", gvk)
}

// writeStatus replaces an object's status.
func (s *store) writeStatus(k *kind, namespace, name string, status any, manager string) error {
	w := write{manager: manager, status: true}
	change := change{make: func(live *unstructured.Unstructured) (*unstructured.Unstructured, error) {
		u := live.DeepCopy()
		u.Object["status"] = status
		return k.overwrite(live, u, w)
	}}
	_, _, err := s.update(k, namespace, name, change, w)
	return err
}

// datacenter is a CassandraDatacenter whose nodes all run.
func datacenter(namespace, cluster, name string, nodes int) map[string]any {
	container := func(name, image string) map[string]any { return map[string]any{"name": name, "image": image} }
	states := map[string]any{}
	for i, pod := range pods(cluster, name, nodes) {
		states[pod] = map[string]any{"hostID": fmt.Sprintf("00000000-0000-4000-8000-%012d", i), "ip": fmt.Sprintf("10.0.0.%d", i%250+1)}
	}
	return map[string]any{
		"apiVersion": "cassandra.datastax.com/v1beta1", "kind": "CassandraDatacenter",
		"metadata": map[string]any{"name": name, "namespace": namespace},
		"spec": map[string]any{
			"clusterName": cluster, "serverType": "cassandra", "serverVersion": "5.0.4", "size": int64(nodes),
			"podTemplateSpec": map[string]any{"spec": map[string]any{
				"containers": []any{
					container("cassandra", "medusa-fleet.test/cassandra:5.0.4"), container("medusa", "medusa-fleet.test/medusa:0.31.0"),
				},
				"initContainers": []any{container("medusa-restore", "medusa-fleet.test/medusa:0.31.0")},
			}},
		},
		"status": map[string]any{
			"cassandraOperatorProgress": "Ready", "observedGeneration": int64(1), "nodeStatuses": states,
			"conditions": []any{map[string]any{
				"type": "Ready", "status": "True", "lastTransitionTime": time.Now().UTC().Format(time.RFC3339), "reason": "", "message": "",
			}},
		},
	}
}

// pods are the names of a datacenter's pods, as cass-operator gives them.
func pods(cluster, datacenter string, nodes int) []string {
	var names []string
	for i := range nodes {
		names = append(names, fmt.Sprintf("%s-%s-default-sts-%d", cluster, datacenter, i))
	}
	return names
}
