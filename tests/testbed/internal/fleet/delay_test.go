package fleet

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestDelayIsPerRoundTripAndDoesNotQueue(t *testing.T) {
	const roundTrip, requests = 60 * time.Millisecond, 20
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }))
	defer server.Close()
	p, err := newProxy(strings.TrimPrefix(server.URL, "http://"), roundTrip)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	start := time.Now()
	var group sync.WaitGroup
	for range requests {
		group.Go(func() {
			if err := get(t.Context(), http.DefaultClient, "http://"+p.listener.Addr().String()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if took := time.Since(start); took < roundTrip || took > 5*roundTrip {
		t.Errorf("%d concurrent requests took %s, want a little above %s", requests, took, roundTrip)
	}
}

func TestDelayKeepsThroughput(t *testing.T) {
	const size = 64 << 20
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.CopyN(w, zeros{}, size)
	}))
	defer server.Close()
	p, err := newProxy(strings.TrimPrefix(server.URL, "http://"), 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	response, err := http.Get("http://" + p.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	start := time.Now()
	n, err := io.Copy(io.Discard, response.Body)
	if err != nil || n != size {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("64 MiB took %s", took)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
