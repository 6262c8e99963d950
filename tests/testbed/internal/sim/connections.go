package sim

import (
	"net"
	"sync"
)

// listener counts a data plane's connections and what they carry, and can cut them.
type listener struct {
	net.Listener
	counters *counters
	faults   *faults
	mutex    sync.Mutex
	open     map[*connection]struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &connection{Conn: accepted, listener: l, closed: make(chan struct{})}
	l.counters.accepted.Add(1)
	l.counters.connections.Add(1)
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.open == nil {
		l.open = map[*connection]struct{}{}
	}
	l.open[c] = struct{}{}
	return c, nil
}

// cut closes all connections, without a word.
func (l *listener) cut() {
	l.mutex.Lock()
	open := make([]*connection, 0, len(l.open))
	for c := range l.open {
		open = append(open, c)
	}
	l.mutex.Unlock()
	for _, c := range open {
		if plain, ok := c.Conn.(*net.TCPConn); ok {
			_ = plain.SetLinger(0)
		}
		_ = c.Close()
	}
}

type connection struct {
	net.Conn
	listener *listener
	once     sync.Once
	closed   chan struct{}
}

// hold waits for as long as the data plane is stopped.
func (c *connection) hold() {
	for {
		fault, changed := c.listener.faults.now()
		if fault.Name != Stop {
			return
		}
		select {
		case <-changed:
		case <-c.closed:
			return
		}
	}
}

func (c *connection) Read(data []byte) (int, error) {
	n, err := c.Conn.Read(data)
	c.hold()
	c.listener.counters.received.Add(uint64(n))
	return n, err
}

func (c *connection) Write(data []byte) (int, error) {
	c.hold()
	n, err := c.Conn.Write(data)
	c.listener.counters.posted.Add(uint64(n))
	return n, err
}

func (c *connection) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.listener.counters.connections.Add(-1)
		c.listener.mutex.Lock()
		defer c.listener.mutex.Unlock()
		delete(c.listener.open, c)
	})
	return c.Conn.Close()
}
