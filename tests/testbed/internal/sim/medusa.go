package sim

import (
	"fmt"
	"log"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// medusa is the controller of the Medusa kinds of one data plane.
type medusa struct {
	store *store
	takes time.Duration
}

// hear is told of each change, under the store's lock.
func (m *medusa) hear(k *kind, e event) {
	if k.Group != medusaGroup || e.before != nil || e.object == nil {
		return
	}
	switch k.Kind {
	case "MedusaBackupJob", "MedusaTask", "MedusaRestoreJob":
		made := e.object
		go m.begin(k, made)
	}
}

// run is one backup, or one task, under way.
type run struct {
	namespace, name, datacenter, cluster, backup, kind string
	uid                                                types.UID
	labels                                             map[string]any
	pods                                               []string
	started, ended                                     time.Time
}

// begin starts what was asked for, if there is such a datacenter.
func (m *medusa) begin(k *kind, made *object) {
	job := made.open(k)
	text := func(path ...string) string {
		value, _, _ := unstructured.NestedString(job.Object, path...)
		return value
	}
	datacenters := m.store.kinds.find("cassandra.datastax.com", "v1beta1", "cassandradatacenters")
	name := text("spec", "cassandraDatacenter")
	found, err := m.store.get(datacenters, made.namespace, name)
	if err != nil {
		return
	}
	datacenter := found.open(datacenters)
	cluster, _, _ := unstructured.NestedString(datacenter.Object, "spec", "clusterName")
	size, _, _ := unstructured.NestedInt64(datacenter.Object, "spec", "size")
	r := run{
		namespace: made.namespace, name: made.name, uid: made.uid, datacenter: name, cluster: cluster, backup: made.name,
		kind: text("spec", "backupType"), labels: ours(made), pods: pods(cluster, name, int(size)), started: time.Now(),
	}
	owner := map[string]any{
		"apiVersion": datacenter.GetAPIVersion(), "kind": datacenter.GetKind(), "name": name, "uid": string(found.uid),
	}
	if !m.own(k, r, owner) {
		return
	}
	m.write(k, r, map[string]any{
		"startTime": stamp(r.started), "inProgress": list(r.pods),
		"conditions": conditions(r.started, "Unknown", "False", "Running", fmt.Sprintf("asks %d pods", len(r.pods))),
	})
	time.AfterFunc(m.takes, func() { m.end(k, r) })
}

// own makes the datacenter the object's owner; says whether the object is still there.
func (m *medusa) own(k *kind, r run, owner map[string]any) bool {
	w := write{manager: dataPlane}
	change := change{make: func(live *unstructured.Unstructured) (*unstructured.Unstructured, error) {
		u := live.DeepCopy()
		if live.GetUID() != r.uid {
			return nil, fmt.Errorf("it is another object")
		}
		if len(u.GetOwnerReferences()) == 0 {
			_ = unstructured.SetNestedSlice(u.Object, []any{owner}, "metadata", "ownerReferences")
		}
		return k.overwrite(live, u, w)
	}}
	_, _, err := m.store.update(k, r.namespace, r.name, change, w)
	return err == nil
}

// end writes the MedusaBackup, and then that the run is over.
func (m *medusa) end(k *kind, r run) {
	made, err := m.store.get(k, r.namespace, r.name)
	if err != nil || made.uid != r.uid {
		return
	}
	r.ended = time.Now()
	told := fmt.Sprintf("%d pods", len(r.pods))
	var finished any = list(r.pods)
	switch k.Kind {
	case "MedusaRestoreJob":
		m.write(k, r, r.restored())
		return
	case "MedusaBackupJob":
		if err := m.backup(r); err != nil {
			log.Printf("%s/%s: %v", r.namespace, r.name, err)
			return
		}
		told = fmt.Sprintf("%d nodes, %d files, %s", len(r.pods), files*len(r.pods), size)
	default:
		var results []any
		for _, pod := range r.pods {
			results = append(results, map[string]any{"podName": pod})
		}
		finished = results
	}
	m.write(k, r, map[string]any{
		"startTime": stamp(r.started), "finishTime": stamp(r.ended), "finished": finished,
		"conditions": conditions(r.ended, "True", "False", "Succeeded", told),
	})
	if operation, _, _ := unstructured.NestedString(made.open(k).Object, "spec", "operation"); operation == "purge" {
		m.follow(k, r)
	}
	m.expire(k, r)
}

// follow makes the sync that comes after a purge.
func (m *medusa) follow(k *kind, r run) {
	content := map[string]any{
		"apiVersion": medusaGroup + "/v1alpha1", "kind": "MedusaTask",
		"metadata": map[string]any{"name": r.name + "-sync", "labels": r.labels},
		"spec":     map[string]any{"cassandraDatacenter": r.datacenter, "operation": "sync"},
	}
	_, err := m.store.create(k, r.namespace, &unstructured.Unstructured{Object: content}, write{manager: dataPlane})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		log.Printf("the sync after %s/%s: %v", r.namespace, r.name, err)
	}
}

// restored is the status of a restore in place that has ended.
func (r run) restored() map[string]any {
	hosts := map[string]any{}
	for _, pod := range r.pods {
		hosts[pod] = map[string]any{"source": []any{pod}, "seed": false}
	}
	return map[string]any{
		"startTime": stamp(r.started), "restoreKey": string(r.uid), "restorePrepared": true, "datacenterStopped": stamp(r.started),
		"restoreMapping": map[string]any{"in_place": true, "host_map": hosts}, "finishTime": stamp(r.ended),
		"finished":   list(r.pods),
		"conditions": conditions(r.ended, "True", "False", "Succeeded", fmt.Sprintf("%d pods restored", len(r.pods))),
	}
}

// expire deletes a job ttlSecondsAfterFinished after its end.
func (m *medusa) expire(k *kind, r run) {
	found, err := m.store.get(k, r.namespace, r.name)
	if err != nil {
		return
	}
	seconds, ok, _ := unstructured.NestedInt64(found.open(k).Object, "spec", "ttlSecondsAfterFinished")
	if !ok {
		return
	}
	time.AfterFunc(time.Duration(seconds)*time.Second, func() {
		only := &metav1.Preconditions{UID: &r.uid}
		_, _, _ = m.store.delete(k, r.namespace, r.name, metav1.DeleteOptions{Preconditions: only})
	})
}

func (m *medusa) write(k *kind, r run, status map[string]any) {
	err := m.store.writeStatus(k, r.namespace, r.name, status, dataPlane)
	if err != nil && !apierrors.IsNotFound(err) {
		log.Printf("status of %s %s/%s: %v", k.Kind, r.namespace, r.name, err)
	}
}

// backup makes the MedusaBackup of a run, or completes the one that is there.
func (m *medusa) backup(r run) error {
	k := m.store.kinds.find(medusaGroup, "v1alpha1", "medusabackups")
	content := r.medusaBackup()
	status := content["status"]
	_, err := m.store.create(k, r.namespace, &unstructured.Unstructured{Object: content}, write{manager: dataPlane})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	return m.store.writeStatus(k, r.namespace, r.backup, status, dataPlane)
}

// What Medusa says of every backup.
const (
	files = 13
	size  = "127.50 KB"
)

// medusaBackup is what the run has made.
func (r run) medusaBackup() map[string]any {
	labels := map[string]any{}
	for key, value := range r.labels {
		labels[key] = value
	}
	labels["cassandra.datastax.com/cluster"] = r.cluster
	labels["cassandra.datastax.com/datacenter"] = r.datacenter
	kind := r.kind
	if kind == "" {
		kind = "differential"
	}
	var nodes []any
	for i, pod := range r.pods {
		nodes = append(nodes, map[string]any{
			"host": pod, "tokens": []any{int64(i)}, "datacenter": r.datacenter, "rack": "default",
		})
	}
	total := int64(len(r.pods))
	return map[string]any{
		"apiVersion": medusaGroup + "/v1alpha1", "kind": "MedusaBackup",
		"metadata": map[string]any{"name": r.backup, "namespace": r.namespace, "labels": labels},
		"spec":     map[string]any{"cassandraDatacenter": r.datacenter, "backupType": kind},
		"status": map[string]any{
			"startTime": stamp(r.started), "finishTime": stamp(r.ended), "totalNodes": total, "finishedNodes": total,
			"nodes": nodes, "totalFiles": files * total, "totalSize": size, "status": "SUCCESS",
		},
	}
}

// ours are the labels of medusa-fleet.
func ours(o *object) map[string]any {
	const domain = "fleet.k8ssandra.io/"
	found := map[string]any{}
	for key, value := range o.labels {
		if len(key) > len(domain) && key[:len(domain)] == domain {
			found[key] = value
		}
	}
	return found
}

func conditions(at time.Time, complete, failed, reason, message string) []any {
	condition := func(kind, status string) map[string]any {
		return map[string]any{
			"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": stamp(at),
			"observedGeneration": int64(1),
		}
	}
	return []any{condition("Complete", complete), condition("Failed", failed)}
}

func stamp(at time.Time) string { return at.UTC().Format(time.RFC3339) }

func list(words []string) []any {
	var items []any
	for _, word := range words {
		items = append(items, word)
	}
	return items
}
