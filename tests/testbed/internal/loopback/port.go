// Package loopback picks addresses and ports of this machine's loopback network.
package loopback

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
)

// Ports are taken from below Linux's default range of ephemeral ports (32768 and up): there, a port that is free while
// its server is stopped could become the source port of somebody's connection.
const (
	firstPort = 20000
	lastPort  = 32000
)

// Listen listens on a TCP port of 127.0.0.1 that nobody else has.
func Listen() (net.Listener, error) {
	var last error
	for range 1000 {
		var listener net.Listener
		listener, last = net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", firstPort+rand.IntN(lastPort-firstPort)))
		if last == nil {
			return listener, nil
		}
	}
	return nil, fmt.Errorf("no free port on 127.0.0.1 between %d and %d: %w", firstPort, lastPort, last)
}

// FreePort finds a TCP port on 127.0.0.1 that nobody listens on. Somebody else may take it before it is used, so
// callers retry with another one when their server cannot bind.
func FreePort() (int, error) {
	listener, err := Listen()
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return int(netip.MustParseAddrPort(listener.Addr().String()).Port()), nil
}
