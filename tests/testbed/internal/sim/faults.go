package sim

import (
	"bytes"
	"fmt"
	"io"
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
	Name           string  `json:"fault"`
	Millis         int     `json:"millis,omitempty"`
	BytesPerSecond int     `json:"bytesPerSecond,omitempty"`
	RetryAfter     int     `json:"retryAfter,omitempty"`
	Code           int     `json:"code,omitempty"`
	Share          float64 `json:"share,omitempty"`
}

// complete checks a fault and puts in what was left out.
func (f Fault) complete() (Fault, error) {
	switch f.Name {
	case None, Hang, Stop, Truncate, Gone, OtherUID, Cut:
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
	if f.Share == 0 {
		f.Share = 1
	}
	return f, nil
}

// isMute says whether nothing is sent on watches that are open, not even their end.
func (f Fault) isMute() bool { return f.Name == Hang }

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

// meet has a request meet the fault: says whether it is answered well all the same, and through what.
func (f *faults) meet(w http.ResponseWriter, r *http.Request, p *plane) (http.ResponseWriter, bool) {
	fault, changed := f.now()
	if fault.Name == "" || fault.Name == None || rand.Float64() >= fault.Share {
		return w, true
	}
	switch fault.Name {
	case Hang:
		// Until the body is read, nobody would notice that the client is gone.
		body, _ := io.ReadAll(io.LimitReader(r.Body, longest+1))
		r.Body = io.NopCloser(bytes.NewReader(body))
		select {
		case <-changed:
			// As a process that is stopped and goes on.
			return f.meet(w, r, p)
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	case Cut:
		p.listener.cut()
		panic(http.ErrAbortHandler)
	case Delay:
		pause(r, time.Duration(fault.Millis)*time.Millisecond)
	case SlowBody:
		return &slow{ResponseWriter: w, r: r, before: time.Duration(fault.Millis) * time.Millisecond}, true
	case Trickle:
		return &slow{ResponseWriter: w, r: r, each: time.Second / time.Duration(fault.BytesPerSecond)}, true
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

// suffer has an open watch meet the fault; says whether it goes on.
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

// disguise shows the kube-system namespace as another one, where that is the fault.
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

func pause(r *http.Request, how time.Duration) {
	select {
	case <-time.After(how):
	case <-r.Context().Done():
	}
}

// slow sends a body late, or byte by byte.
type slow struct {
	http.ResponseWriter
	r            *http.Request
	before, each time.Duration
}

func (s *slow) Write(data []byte) (int, error) {
	if s.before > 0 {
		s.Flush()
		pause(s.r, s.before)
		s.before = 0
	}
	if s.each == 0 {
		return s.ResponseWriter.Write(data)
	}
	for i := range data {
		if _, err := s.ResponseWriter.Write(data[i : i+1]); err != nil {
			return i, err
		}
		s.Flush()
		pause(s.r, s.each)
		if err := s.r.Context().Err(); err != nil {
			return i, err
		}
	}
	return len(data), nil
}

func (s *slow) Flush() {
	if flusher, ok := s.ResponseWriter.(http.Flusher); ok {
		flusher.Flush()
	}
}

// Unwrap is for http.ResponseController.
func (s *slow) Unwrap() http.ResponseWriter { return s.ResponseWriter }
