package sim

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Names of faults.
const (
	// None is no fault.
	None = "none"
	// Hang answers nothing, and sends nothing on watches that are open.
	Hang = "hang"
	// Stop is a process that is stopped, or a network that is gone: connections are made, and nothing is read or sent on any.
	Stop = "stop"
	// Delay answers after Millis.
	Delay = "delay"
	// SlowBody sends an answer's head at once and its body after Millis.
	SlowBody = "slow-body"
	// Trickle sends bodies at BytesPerSecond.
	Trickle = "trickle"
	// Busy answers 429 with Retry-After.
	Busy = "busy"
	// Broken answers Code, a status above 499.
	Broken = "broken"
	// HTML answers Code with a page for browsers.
	HTML = "html"
	// Truncate breaks watches off in the middle of an event.
	Truncate = "truncate"
	// Gone answers watches, and pages of lists that go on, with 410.
	Gone = "gone"
	// OtherUID shows another kube-system namespace.
	OtherUID = "other-uid"
	// Cut closes connections: all that are open, and each as soon as something is asked on it.
	Cut = "cut"
)

// Fault is what is wrong with a data plane.
type Fault struct {
	Name           string `json:"fault"`
	Millis         int    `json:"millis,omitempty"`
	BytesPerSecond int    `json:"bytesPerSecond,omitempty"`
	RetryAfter     int    `json:"retryAfter,omitempty"`
	Code           int    `json:"code,omitempty"`
	// Share is how many of the requests meet the fault; zero is all of them.
	Share float64 `json:"share,omitempty"`
}

// complete checks a fault and puts in what was left out.
func (f Fault) complete() (Fault, error) {
	switch f.Name {
	case None, Hang, Stop, Truncate, Gone, OtherUID, Cut:
		if f.Share != 0 {
			return f, fmt.Errorf("%s: share is for delay, slow-body, trickle, busy, broken and html only", f.Name)
		}
	case Delay, SlowBody:
		if f.Millis <= 0 {
			return f, fmt.Errorf("%s: millis must be above 0", f.Name)
		}
	case Trickle:
		if f.BytesPerSecond <= 0 {
			f.BytesPerSecond = 100
		}
	case Busy:
		if f.RetryAfter <= 0 {
			f.RetryAfter = 1
		}
	case Broken:
		if f.Code == 0 {
			f.Code = http.StatusServiceUnavailable
		}
		if f.Code < 500 || f.Code > 599 {
			return f, fmt.Errorf("%s: code must be between 500 and 599", f.Name)
		}
	case HTML:
		if f.Code == 0 {
			f.Code = http.StatusOK
		}
	default:
		return f, fmt.Errorf("fault %q is unknown", f.Name)
	}
	if f.Share < 0 || f.Share > 1 {
		return f, fmt.Errorf("share must be between 0 and 1")
	}
	return f, nil
}

// faults holds what is wrong with one data plane now.
type faults struct {
	mutex   sync.Mutex
	fault   Fault
	changed chan struct{}
	// uid is the kube-system namespace's while it is another one.
	uid types.UID
}

// now is the fault, and a channel that is closed when there is another.
func (f *faults) now() (Fault, <-chan struct{}) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if f.changed == nil {
		f.changed = make(chan struct{})
	}
	return f.fault, f.changed
}

func (f *faults) set(fault Fault, uid types.UID) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.fault, f.uid = fault, uid
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

func (f *faults) forgets() bool {
	fault, _ := f.now()
	return fault.Name == Gone
}

// meet applies the fault to a request. It returns what the answer is to be written to, and false when the fault has
// answered already.
func (f *faults) meet(w http.ResponseWriter, r *http.Request, p *plane) (http.ResponseWriter, bool) {
	fault, changed := f.now()
	if fault.Share > 0 && rand.Float64() >= fault.Share {
		return w, true
	}
	switch fault.Name {
	case Hang:
		select {
		case <-changed:
			return f.meet(w, r, p)
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	case Cut:
		p.listener.cut()
		panic(http.ErrAbortHandler)
	case Delay:
		wait(r, changed, time.Duration(fault.Millis)*time.Millisecond)
	case SlowBody:
		return &slow{ResponseWriter: w, r: r, changed: changed, before: time.Duration(fault.Millis) * time.Millisecond}, true
	case Trickle:
		return &slow{ResponseWriter: w, r: r, changed: changed, each: time.Second / time.Duration(fault.BytesPerSecond)}, true
	case Busy:
		w.Header().Set("Retry-After", strconv.Itoa(fault.RetryAfter))
		http.Error(w, "Too many requests, please try again later.", http.StatusTooManyRequests)
		return w, false
	case Broken:
		refuse(w, newStatusError(fault.Code, metav1.StatusReasonInternalError, "the simulator was told to fail"))
		return w, false
	case HTML:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(fault.Code)
		_, _ = w.Write([]byte("<html><body><h1>Sign in</h1></body></html>\n"))
		return w, false
	}
	return w, true
}

// suffer applies the fault to an open watch, and says whether the watch goes on.
func (w *watching) suffer(fault Fault) bool {
	switch fault.Name {
	case Truncate:
		_, _ = w.w.Write([]byte(`{"type":"MODIFIED","object":` + w.kind.prefix + `"metadata":{"na`))
		w.flush()
		panic(http.ErrAbortHandler)
	case Gone:
		w.expire(w.version)
		return false
	}
	return true
}

// disguise returns the object as it is shown: under OtherUID, the kube-system namespace has another uid.
func (f *faults) disguise(k *kind, o *object) *object {
	if k.Kind != "Namespace" || o.name != kubeSystem {
		return o
	}
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if f.fault.Name != OtherUID {
		return o
	}
	u := o.open(k)
	u.SetUID(f.uid)
	other, err := seal(u, o.version)
	if err != nil {
		return o
	}
	return other
}

// wait lets time pass, and says whether all of it has: it ends early with the fault or the request.
func wait(r *http.Request, changed <-chan struct{}, how time.Duration) bool {
	select {
	case <-time.After(how):
		return true
	case <-changed:
	case <-r.Context().Done():
	}
	return false
}

// slow sends a body late, or byte by byte, until the fault ends.
type slow struct {
	http.ResponseWriter
	r            *http.Request
	changed      <-chan struct{}
	before, each time.Duration
}

func (s *slow) Write(data []byte) (int, error) {
	if s.before > 0 {
		s.Flush()
		wait(s.r, s.changed, s.before)
		s.before = 0
	}
	written := 0
	for s.each > 0 && written < len(data) {
		if _, err := s.ResponseWriter.Write(data[written : written+1]); err != nil {
			return written, err
		}
		written++
		s.Flush()
		if !wait(s.r, s.changed, s.each) {
			s.each = 0
		}
	}
	n, err := s.ResponseWriter.Write(data[written:])
	return written + n, err
}

func (s *slow) Flush() {
	if flusher, ok := s.ResponseWriter.(http.Flusher); ok {
		flusher.Flush()
	}
}
