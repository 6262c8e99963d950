package sim

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// entry is an object of Medusa's kinds that was made or deleted in a data plane.
type entry struct {
	at      time.Time
	plane   string
	kind    *kind
	deleted bool
	// object is what was made, or what was there last.
	object *object
}

// journal remembers which objects of Medusa's kinds were made and deleted, MedusaBackups excepted: what a data plane holds
// in the end does not say whether something was made twice.
type journal struct {
	mutex   sync.Mutex
	entries []entry
}

// hear is told of each change, under the store's lock.
func (j *journal) hear(plane string, k *kind, e event) {
	if k.Group != medusaGroup || k.Kind == "MedusaBackup" || (e.before != nil && e.object != nil) {
		return
	}
	told := entry{at: e.at, plane: plane, kind: k, object: e.object}
	if e.object == nil {
		told.deleted, told.object = true, e.before
	}
	j.mutex.Lock()
	defer j.mutex.Unlock()
	j.entries = append(j.entries, told)
}

// since are the entries after the first so many.
func (j *journal) since(first int) []entry {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	return append([]entry(nil), j.entries[min(max(first, 0), len(j.entries)):]...)
}

// tellJournal answers with what was made and deleted after the first ?since=N entries.
func (f *Fleet) tellJournal(w http.ResponseWriter, r *http.Request) {
	type told struct {
		At        string            `json:"at"`
		Plane     string            `json:"plane"`
		Resource  string            `json:"resource"`
		Namespace string            `json:"namespace"`
		Name      string            `json:"name"`
		UID       types.UID         `json:"uid"`
		Labels    map[string]string `json:"labels"`
		Deleted   bool              `json:"deleted"`
		// Object is what was there before it was deleted.
		Object map[string]any `json:"object,omitempty"`
	}
	since, _ := strconv.Atoi(r.URL.Query().Get("since"))
	all := []told{}
	for _, e := range f.journal.since(since) {
		o := e.object
		line := told{
			At: e.at.UTC().Format(time.RFC3339Nano), Plane: e.plane, Resource: e.kind.plural,
			Namespace: o.namespace, Name: o.name, UID: o.uid, Labels: o.labels, Deleted: e.deleted,
		}
		if e.deleted {
			line.Object = o.open(e.kind).Object
		}
		all = append(all, line)
	}
	sendJSON(w, http.StatusOK, map[string]any{"entries": all})
}
