package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// marking is how often a watch that allows bookmarks gets one.
const marking = time.Minute

// watching is one watch under way.
type watching struct {
	request
	which selection
	// version is that of the last change that was sent.
	version   uint64
	bookmarks bool
	flush     func()
}

func (q request) watch() error {
	query := q.r.URL.Query()
	watch := watching{request: q, bookmarks: isTrue(query, "allowWatchBookmarks"), flush: func() {}}
	var err error
	if watch.which, err = selected(q.target, query); err != nil {
		return err
	}
	if watch.version, err = number(query, "resourceVersion"); err != nil {
		// An API server answers with 500 here, and with 400 to a list.
		return errors.New(err.Error())
	}
	seconds, err := number(query, "timeoutSeconds")
	if err != nil {
		return err
	}
	streamed := query.Has("sendInitialEvents")
	if streamed && query.Get("resourceVersionMatch") != "NotOlderThan" {
		return newMatchMissing()
	}
	limit := time.Duration(seconds) * time.Second
	if limit == 0 {
		limit = 30*time.Minute + rand.N(30*time.Minute)
	}
	if flusher, ok := q.w.(http.Flusher); ok {
		watch.flush = flusher.Flush
	}
	q.w.Header().Set("Content-Type", "application/json")
	q.w.WriteHeader(http.StatusOK)
	watch.flush()
	q.plane.counters.watches.Add(1)
	defer q.plane.counters.watches.Add(-1)
	switch {
	case streamed && isTrue(query, "sendInitialEvents"):
		watch.begin(true)
	case !streamed && watch.version == 0:
		watch.begin(false)
	}
	watch.run(limit)
	return nil
}

// begin sends what is there now, and if marked, that this was all.
func (w *watching) begin(marked bool) {
	found := w.plane.store.list(w.kind, w.which, nil, 0)
	for _, o := range found.objects {
		w.send("ADDED", o)
	}
	w.version = found.version
	if marked {
		w.mark(`,"annotations":{"k8s.io/initial-events-end":"true"}`)
	}
	w.flush()
}

// run sends what changes until the time is up.
func (w *watching) run(limit time.Duration) {
	news := make(chan struct{}, 1)
	defer w.plane.store.follow(w.kind, news)()
	// As an API server does, a bookmark is sent just before the end.
	end, next := time.Now().Add(limit), time.NewTimer(w.pause(limit))
	defer next.Stop()
	over := time.NewTimer(limit)
	defer over.Stop()
	for {
		fault, changed := w.plane.faults.now()
		if fault.Name == Hang {
			select {
			case <-changed:
				continue
			case <-w.r.Context().Done():
				return
			}
		}
		if !w.suffer(fault) || !w.deliver() {
			return
		}
		select {
		case <-news:
		case <-changed:
		case <-w.r.Context().Done():
			return
		case <-over.C:
			return
		case <-next.C:
			if w.bookmarks {
				w.mark("")
				w.flush()
			}
			next.Reset(w.pause(time.Until(end)))
		}
	}
}

func (w *watching) pause(left time.Duration) time.Duration {
	if before := left - 2*time.Second; before > 0 && before < marking {
		return before
	}
	return marking
}

// deliver sends what has happened since; says whether the watch goes on.
func (w *watching) deliver() bool {
	events, now, tooOld := w.plane.store.since(w.kind, w.version)
	if tooOld {
		w.expire(now)
		return false
	}
	for _, e := range events {
		w.tell(e)
	}
	w.version = now
	if len(events) > 0 {
		w.flush()
	}
	return w.r.Context().Err() == nil
}

// tell sends a change as it looks through the selection.
func (w *watching) tell(e event) {
	was := e.before != nil && w.which.matches(e.before)
	is := e.object != nil && w.which.matches(e.object)
	switch {
	case was && is:
		w.send("MODIFIED", e.object)
	case is:
		w.send("ADDED", e.object)
	case was:
		last := e.before
		if last.version != e.version {
			last = last.at(w.kind, e.version)
		}
		w.send("DELETED", last)
	}
}

func (w *watching) send(what string, o *object) {
	line := append(make([]byte, 0, 64+len(o.body)), `{"type":"`+what+`","object":`...)
	line = o.write(line, w.kind, w.shown, false)
	_, _ = w.w.Write(append(line, "}\n"...))
}

// mark sends a bookmark; more is further metadata.
func (w *watching) mark(more string) {
	prefix := w.kind.prefix
	if w.shown == onlyMetadata {
		prefix = partialPrefix
	}
	line := `{"type":"BOOKMARK","object":` + prefix + `"metadata":{"resourceVersion":"` +
		strconv.FormatUint(w.version, 10) + `","creationTimestamp":null` + more + "}}}\n"
	_, _ = w.w.Write([]byte(line))
}

// expire ends the watch: what it asks for is not known any more.
func (w *watching) expire(now uint64) {
	status := statusOf(apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", w.version, now)))
	text, _ := json.Marshal(status)
	_, _ = w.w.Write([]byte(`{"type":"ERROR","object":` + string(text) + "}\n"))
	w.flush()
}
