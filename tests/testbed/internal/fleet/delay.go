package fleet

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/loopback"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/protocol"
)

// proxy is a TCP proxy that holds every byte back for a fixed time, as a long wire does: bytes that follow each other
// closely arrive closely, so neither throughput nor concurrency suffers.
type proxy struct {
	listener net.Listener
	target   string
	oneWay   time.Duration
}

// newProxy listens on a port of its own and adds roundTrip to each round trip, half of it in either direction.
func newProxy(target string, roundTrip time.Duration) (*proxy, error) {
	listener, err := loopback.Listen()
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: listener, target: target, oneWay: roundTrip / 2}
	go p.accept()
	return p, nil
}

func (p *proxy) close() { _ = p.listener.Close() }

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.join(client)
	}
}

func (p *proxy) join(client net.Conn) {
	server, err := net.Dial("tcp4", p.target)
	if err != nil {
		_ = client.Close()
		return
	}
	go p.carry(server, client)
	p.carry(client, server)
}

type chunk struct {
	due  time.Time
	data []byte
}

// inFlight bounds the chunks on one connection's way in one direction. At 32 KiB each it is far above the product of
// bandwidth and delay of any test.
const inFlight = 4096

// carry moves bytes from one side to the other until either ends, then closes the receiving side for writing.
func (p *proxy) carry(to, from net.Conn) {
	wire := make(chan chunk, inFlight)
	go func() {
		defer close(wire)
		for {
			data := make([]byte, 32<<10)
			n, err := from.Read(data)
			if n > 0 {
				wire <- chunk{due: time.Now().Add(p.oneWay), data: data[:n]}
			}
			if err != nil {
				return
			}
		}
	}()
	for next := range wire {
		time.Sleep(time.Until(next.due))
		if _, err := to.Write(next.data); err != nil {
			_ = from.Close()
			_, _ = io.Copy(io.Discard, from)
			break
		}
	}
	if half, ok := to.(*net.TCPConn); ok {
		_ = half.CloseWrite()
	}
	for range wire { // lets the reader end
	}
}

// delay puts a proxy in front of a cluster's API server, with a kubeconfig that goes through it.
func (f *Fleet) delay(cluster *Cluster, millis int) (protocol.Answer, error) {
	p, err := newProxy(strings.TrimPrefix(cluster.URL(), "https://"), time.Duration(millis)*time.Millisecond)
	if err != nil {
		return protocol.Answer{}, err
	}
	f.proxies = append(f.proxies, p)
	server := "https://" + p.listener.Addr().String()
	kubeconfig := filepath.Join(f.config.Dir, fmt.Sprintf("%s.delayed-%dms.kubeconfig", cluster.Name, millis))
	if err := writeKubeconfig(kubeconfig, cluster.Name, server, cluster.files); err != nil {
		return protocol.Answer{}, err
	}
	return protocol.Answer{Server: server, Kubeconfig: kubeconfig}, nil
}
