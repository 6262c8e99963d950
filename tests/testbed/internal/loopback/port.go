// Package loopback picks addresses and ports of this machine's loopback network.
package loopback

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports are taken from below Linux's default range of ephemeral ports (32768 and up): there, a port that is free while
// its server is stopped could become the source port of somebody's connection.
const (
	firstPort = 20000
	lastPort  = 32000
)

// FreePort finds a TCP port on 127.0.0.1 that nobody listens on. Somebody else may take it before it is used, so
// callers retry with another one when their server cannot bind.
func FreePort() (int, error) {
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if free(net.JoinHostPort("127.0.0.1", fmt.Sprint(port))) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free port on 127.0.0.1 between %d and %d", firstPort, lastPort)
}

func free(address string) bool {
	listener, err := net.Listen("tcp4", address)
	if err != nil {
		return false
	}
	_ = listener.Close()
	return true
}
