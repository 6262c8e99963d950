package sim

import (
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const (
	leaseName = "medusa-fleet-data-plane"
	// renewal is how often Medusa's controller renews its Lease.
	renewal = 15 * time.Second
	// medusaVersion is the controller's.
	medusaVersion = "0.1.0"
	// microTime is how a Lease has times.
	microTime = "2006-01-02T15:04:05.000000Z07:00"
)

// lease says that Medusa's controller runs.
func lease(now time.Time) map[string]any {
	at := now.UTC().Format(microTime)
	return map[string]any{
		"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
		"metadata": map[string]any{"name": leaseName, "namespace": leaseNamespace, "labels": map[string]any{
			"app.kubernetes.io/name": "medusa-fleet", "app.kubernetes.io/component": "data-plane",
			"app.kubernetes.io/version": medusaVersion,
		}},
		"spec": map[string]any{
			"holderIdentity": "medusa-fleet-data-plane-1", "acquireTime": at, "renewTime": at,
			"leaseDurationSeconds": int64(4 * renewal / time.Second),
		},
	}
}

// renew writes the Lease anew, if nobody has deleted it.
func (p *plane) renew(now time.Time) {
	k := p.kinds.find("coordination.k8s.io", "v1", "leases")
	change := change{make: func(live *unstructured.Unstructured) (*unstructured.Unstructured, error) {
		// The fields that are written are the same as ever, and so are their managers.
		return live, unstructured.SetNestedField(live.Object, now.UTC().Format(microTime), "spec", "renewTime")
	}}
	_, _, _ = p.store.update(k, leaseNamespace, leaseName, change, write{})
}

// renewLeases renews the Leases of all planes, one after the other, until done.
func renewLeases(planes []*plane, done <-chan struct{}) {
	if len(planes) == 0 {
		return
	}
	const step = 250 * time.Millisecond
	ticker := time.NewTicker(step)
	defer ticker.Stop()
	var due float64
	next := 0
	for {
		select {
		case <-done:
			return
		case now := <-ticker.C:
			for due += float64(len(planes)) * float64(step) / float64(renewal); due >= 1; due-- {
				planes[next].renew(now)
				next = (next + 1) % len(planes)
			}
		}
	}
}
