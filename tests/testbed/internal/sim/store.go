package sim

import (
	"sort"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// A watch can start from a change for so long, as with an etcd that is compacted.
const kept = 5 * time.Minute

// A watch can start from so many changes of a kind.
const most = 1000

// event is one change of an object.
type event struct {
	version uint64
	at      time.Time
	// object is nil when it was deleted; before is nil when it was made.
	object, before *object
}

// collection holds the objects of one kind, in order, and their latest changes.
type collection struct {
	objects []*object
	log     []event
	// lost is the version of the newest change that is not in log any more.
	lost uint64
	// watchers are told that there is news.
	watchers map[chan struct{}]struct{}
}

// store is what one API server keeps.
type store struct {
	kinds *kinds
	// heard is told of every change, under the lock.
	heard func(*kind, event)

	mutex       sync.RWMutex
	version     uint64
	collections []collection
}

func newStore(ks *kinds) *store {
	return &store{kinds: ks, version: 1, collections: make([]collection, len(ks.all)), heard: func(*kind, event) {}}
}

// place is where an object is or would be.
func (c *collection) place(namespace, name string) (int, *object) {
	at := sort.Search(len(c.objects), func(i int) bool { return c.objects[i].compare(namespace, name) >= 0 })
	if at < len(c.objects) && c.objects[at].compare(namespace, name) == 0 {
		return at, c.objects[at]
	}
	return at, nil
}

// commit puts after in the place of before; either may be nil.
func (s *store) commit(k *kind, before, after *object, version uint64) {
	c := &s.collections[k.index]
	switch {
	case before == nil:
		at, _ := c.place(after.namespace, after.name)
		c.objects = append(c.objects, nil)
		copy(c.objects[at+1:], c.objects[at:])
		c.objects[at] = after
		k.there.Add(1)
	case after == nil:
		at, _ := c.place(before.namespace, before.name)
		copy(c.objects[at:], c.objects[at+1:])
		c.objects[len(c.objects)-1] = nil
		c.objects = c.objects[:len(c.objects)-1]
		k.there.Add(-1)
	default:
		at, _ := c.place(after.namespace, after.name)
		c.objects[at] = after
	}
	s.version = version
	c.remember(event{version: version, at: time.Now(), object: after, before: before})
	s.heard(k, c.log[len(c.log)-1])
	for watcher := range c.watchers {
		select {
		case watcher <- struct{}{}:
		default:
		}
	}
}

// remember adds a change to the log, and forgets the oldest.
func (c *collection) remember(e event) {
	old := 0
	for old < len(c.log) && (len(c.log)-old >= most || e.at.Sub(c.log[old].at) > kept) {
		c.lost = c.log[old].version
		old++
	}
	if old > 0 {
		left := copy(c.log, c.log[old:])
		clear(c.log[left:])
		c.log = c.log[:left]
	}
	c.log = append(c.log, e)
}

// forget drops all changes: no watch can start before now.
func (s *store) forget() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for i := range s.collections {
		c := &s.collections[i]
		c.log, c.lost = nil, s.version
	}
}

// since returns the changes after a version, and the version after them; tooOld says that some have been forgotten.
func (s *store) since(k *kind, version uint64) (events []event, now uint64, tooOld bool) {
	s.mutex.RLock()
	defer s.mutex.RUnlock()
	c := &s.collections[k.index]
	if version < c.lost {
		return nil, s.version, true
	}
	first := sort.Search(len(c.log), func(i int) bool { return c.log[i].version > version })
	if first == len(c.log) {
		return nil, max(s.version, version), false
	}
	return append(events, c.log[first:]...), s.version, false
}

// follow signals changes of a kind on the channel until the returned function is called.
func (s *store) follow(k *kind, news chan struct{}) func() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	c := &s.collections[k.index]
	if c.watchers == nil {
		c.watchers = map[chan struct{}]struct{}{}
	}
	c.watchers[news] = struct{}{}
	return func() {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		delete(c.watchers, news)
	}
}

func (s *store) get(k *kind, namespace, name string) (*object, error) {
	s.mutex.RLock()
	defer s.mutex.RUnlock()
	if _, found := s.collections[k.index].place(namespace, name); found != nil {
		return found, nil
	}
	return nil, apierrors.NewNotFound(k.resource(), name)
}

// page is a part of a list.
type page struct {
	objects []*object
	version uint64
	// next is where the list goes on, after namespace and name, when more is there; left is how many.
	next *object
	left int
}

// list returns the selected objects in order, at most limit of them, from after an object's place on.
func (s *store) list(k *kind, selected selection, after *object, limit int) page {
	s.mutex.RLock()
	defer s.mutex.RUnlock()
	objects := s.collections[k.index].objects
	first := 0
	if after != nil {
		first = sort.Search(len(objects), func(i int) bool { return objects[i].compare(after.namespace, after.name) > 0 })
	}
	found := page{version: s.version}
	for _, o := range objects[first:] {
		if !selected.matches(o) {
			continue
		}
		if limit > 0 && len(found.objects) == limit {
			found.left++
			continue
		}
		found.objects = append(found.objects, o)
	}
	if found.left > 0 {
		found.next = found.objects[limit-1]
	}
	return found
}

// counts are the numbers of objects by resource.
func (s *store) counts() map[string]int {
	s.mutex.RLock()
	defer s.mutex.RUnlock()
	counts := map[string]int{}
	for _, k := range s.kinds.all {
		if n := len(s.collections[k.index].objects); n > 0 {
			counts[k.String()] = n
		}
	}
	return counts
}
