package sim

import (
	"maps"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
)

// Counts are what one data plane, or all of them, have done since the beginning.
type Counts struct {
	// Requests are counted by verb and resource, such as `list secrets`; Answers by HTTP status.
	Requests map[string]uint64 `json:"requests"`
	Answers  map[string]uint64 `json:"answers"`
	// Watches and Connections are open now; Accepted are all connections that there were.
	Watches     int64  `json:"watches"`
	Connections int64  `json:"connections"`
	Accepted    uint64 `json:"accepted"`
	// BytesIn and BytesOut are those of the connections, with TLS.
	BytesIn  uint64 `json:"bytesIn"`
	BytesOut uint64 `json:"bytesOut"`
}

func (c *Counts) add(other Counts) {
	for name, n := range other.Requests {
		c.Requests[name] += n
	}
	for code, n := range other.Answers {
		c.Answers[code] += n
	}
	c.Watches += other.Watches
	c.Connections += other.Connections
	c.Accepted += other.Accepted
	c.BytesIn += other.BytesIn
	c.BytesOut += other.BytesOut
}

type counters struct {
	mutex    sync.Mutex
	requests map[string]uint64
	answers  map[string]uint64

	watches, connections       atomic.Int64
	accepted, received, posted atomic.Uint64
}

func (c *counters) request(name string) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.requests == nil {
		c.requests = map[string]uint64{}
	}
	c.requests[name]++
}

func (c *counters) answer(code int) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.answers == nil {
		c.answers = map[string]uint64{}
	}
	c.answers[strconv.Itoa(code)]++
}

func (c *counters) read() Counts {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return Counts{
		Requests: cloned(c.requests), Answers: cloned(c.answers),
		Watches: c.watches.Load(), Connections: c.connections.Load(), Accepted: c.accepted.Load(),
		BytesIn: c.received.Load(), BytesOut: c.posted.Load(),
	}
}

func cloned(counts map[string]uint64) map[string]uint64 {
	if counts == nil {
		return map[string]uint64{}
	}
	return maps.Clone(counts)
}

// counted counts how requests are answered.
type counted struct {
	http.ResponseWriter
	counters *counters
	begun    bool
}

func (c *counted) WriteHeader(code int) {
	if !c.begun {
		c.begun = true
		c.counters.answer(code)
	}
	c.ResponseWriter.WriteHeader(code)
}

func (c *counted) Write(data []byte) (int, error) {
	if !c.begun {
		c.WriteHeader(http.StatusOK)
	}
	return c.ResponseWriter.Write(data)
}

func (c *counted) Flush() {
	if flusher, ok := c.ResponseWriter.(http.Flusher); ok {
		flusher.Flush()
	}
}
