package sim

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/loopback"
)

// serveAdmin answers on a port of 127.0.0.1, without TLS:
//
//	GET  /planes    name, server, kubeconfig, uid and fault of each data plane
//	GET  /counters  what was asked of them, how much is open, and what the simulator itself takes; ?sum=true without planes
//	GET  /objects   numbers of objects by resource; ?sum=true likewise
//	GET  /journal   which objects of Medusa's kinds were made and deleted, after the first ?since=N of them
//	POST /faults    {"fault":"delay","millis":500,"planes":["sim-1"]} or with "fraction":0.1; of all when neither is given
func (f *Fleet) serveAdmin() error {
	port, err := loopback.Listen()
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /planes", f.tellPlanes)
	mux.HandleFunc("GET /counters", f.tellCounters)
	mux.HandleFunc("GET /objects", f.tellObjects)
	mux.HandleFunc("GET /journal", f.tellJournal)
	mux.HandleFunc("POST /faults", f.setFaults)
	f.url = "http://" + port.Addr().String()
	f.admin = &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { _ = f.admin.Serve(port) }()
	return nil
}

func (f *Fleet) tellPlanes(w http.ResponseWriter, _ *http.Request) {
	type told struct {
		Name       string `json:"name"`
		Server     string `json:"server"`
		Kubeconfig string `json:"kubeconfig"`
		UID        string `json:"uid"`
		Fault      Fault  `json:"fault"`
	}
	all := []told{}
	for _, p := range f.planes {
		fault, _ := p.faults.now()
		uid := ""
		if found, err := p.store.get(p.kinds.namespaces(), "", kubeSystem); err == nil {
			uid = string(found.uid)
		}
		all = append(all, told{p.name, p.url(), f.kubeconfig(p), uid, fault})
	}
	sendJSON(w, http.StatusOK, map[string]any{"planes": all})
}

func (f *Fleet) tellCounters(w http.ResponseWriter, r *http.Request) {
	sum := Counts{Requests: map[string]uint64{}, Answers: map[string]uint64{}}
	planes := map[string]Counts{}
	for _, p := range f.planes {
		planes[p.name] = p.counters.read()
		sum.add(planes[p.name])
	}
	told := map[string]any{
		"at": time.Now().UTC().Format(time.RFC3339Nano), "seconds": time.Since(f.begun).Seconds(), "sum": sum, "process": process(),
	}
	if !isTrue(r.URL.Query(), "sum") {
		told["planes"] = planes
	}
	sendJSON(w, http.StatusOK, told)
}

func (f *Fleet) tellObjects(w http.ResponseWriter, r *http.Request) {
	// The sums are asked for many times a second while something is measured.
	sum := map[string]int64{}
	for _, k := range f.kinds.all {
		if n := k.there.Load(); n > 0 {
			sum[k.String()] = n
		}
	}
	told := map[string]any{"sum": sum}
	if !isTrue(r.URL.Query(), "sum") {
		planes := map[string]map[string]int{}
		for _, p := range f.planes {
			planes[p.name] = p.store.counts()
		}
		told["planes"] = planes
	}
	sendJSON(w, http.StatusOK, told)
}

// process is what the simulator itself takes.
func process() map[string]any {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	resident := 0
	if text, err := os.ReadFile("/proc/self/statm"); err == nil {
		if words := strings.Fields(string(text)); len(words) > 1 {
			resident, _ = strconv.Atoi(words[1])
		}
	}
	return map[string]any{
		"pid": os.Getpid(), "residentBytes": resident * os.Getpagesize(), "goroutines": runtime.NumGoroutine(),
		"cpuSeconds": seconds(usage.Utime) + seconds(usage.Stime),
	}
}

// order is what is posted to /faults.
type order struct {
	Fault
	Planes   []string `json:"planes"`
	Fraction float64  `json:"fraction"`
}

func (f *Fleet) setFaults(w http.ResponseWriter, r *http.Request) {
	fail := func(err error) {
		sendJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
	}
	var asked order
	decoder := json.NewDecoder(io.LimitReader(r.Body, longest))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&asked); err != nil {
		fail(err)
		return
	}
	fault, err := asked.complete()
	if err != nil {
		fail(err)
		return
	}
	planes, err := f.choose(asked)
	if err != nil {
		fail(err)
		return
	}
	names := []string{}
	for _, p := range planes {
		p.faults.set(fault, uuid.NewUUID())
		if fault.Name == Cut {
			p.listener.cut()
		}
		names = append(names, p.name)
	}
	sendJSON(w, http.StatusOK, map[string]any{"fault": fault, "planes": names})
}

// choose returns the planes that are named, or the fraction, or all. A fraction is spread evenly and is always the same.
func (f *Fleet) choose(asked order) ([]*plane, error) {
	var chosen []*plane
	switch {
	case len(asked.Planes) > 0:
		for _, name := range asked.Planes {
			p := f.byName[name]
			if p == nil {
				return nil, fmt.Errorf("there is no data plane %q", name)
			}
			chosen = append(chosen, p)
		}
		return chosen, nil
	case asked.Fraction < 0 || asked.Fraction > 1:
		return nil, fmt.Errorf("fraction must be between 0 and 1")
	case asked.Fraction > 0:
		// Rounded, as three tenths are a little less than that.
		due := func(n int) int { return int(math.Round(asked.Fraction*float64(n)*1e6) / 1e6) }
		for i, p := range f.planes {
			if due(i+1) > due(i) {
				chosen = append(chosen, p)
			}
		}
		return chosen, nil
	default:
		return f.planes, nil
	}
}
