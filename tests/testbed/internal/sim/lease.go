package sim

import (
	"bytes"
	"slices"
	"strconv"
	"time"
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

// renew writes the Lease anew, if nobody has deleted it. With a thousand planes that is done all the time, so only the text
// is changed: the fields that are written are the same as ever, and so are their managers.
func (p *plane) renew(now time.Time) {
	k := p.kinds.find("coordination.k8s.io", "v1", "leases")
	p.store.mutex.Lock()
	defer p.store.mutex.Unlock()
	_, before := p.store.collections[k.index].place(leaseNamespace, leaseName)
	if before == nil {
		return
	}
	after := *before
	after.version = p.store.version + 1
	after.body = withText(before.body, "renewTime", now.UTC().Format(microTime))
	after.body = withText(after.body, "resourceVersion", strconv.FormatUint(after.version, 10))
	p.store.commit(k, before, &after, after.version)
}

// withText is a JSON text with another string in the place of the one under the first key of that name.
func withText(body []byte, key, text string) []byte {
	head, rest, ok := bytes.Cut(body, []byte(`"`+key+`":"`))
	_, tail, whole := bytes.Cut(rest, []byte{'"'})
	if !ok || !whole {
		return body
	}
	return slices.Concat(head, []byte(`"`+key+`":"`+text+`"`), tail)
}

// renewLeases renews the Leases of all planes, one after the other, until done.
func renewLeases(planes []*plane, done <-chan struct{}) {
	if len(planes) == 0 {
		return
	}
	const step = 250 * time.Millisecond
	ticker := time.NewTicker(step)
	defer ticker.Stop()
	perStep := float64(len(planes)) * float64(step) / float64(renewal)
	due, next := 0.0, 0
	for {
		select {
		case <-done:
			return
		case now := <-ticker.C:
			due += perStep
			for due >= 1 {
				planes[next].renew(now)
				next = (next + 1) % len(planes)
				due--
			}
		}
	}
}
