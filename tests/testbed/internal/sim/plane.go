package sim

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"time"
)

const kubeSystem = "kube-system"

// plane is one data plane: an API server and what works there.
type plane struct {
	name, token string
	kinds       *kinds
	store       *store
	faults      faults
	counters    counters
	listener    *listener
	server      *http.Server
	medusa      medusa
}

func newPlane(name string, ks *kinds, config Config) (*plane, error) {
	secret := make([]byte, 16)
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	p := &plane{name: name, token: "sim-" + hex.EncodeToString(secret), kinds: ks, store: newStore(ks)}
	p.medusa = medusa{store: p.store, takes: config.MedusaTakes}
	if err := p.seed(config.Seed); err != nil {
		return nil, fmt.Errorf("objects of %s: %w", name, err)
	}
	p.store.forget()
	p.store.heard = p.medusa.hear
	return p, nil
}

// Ports are taken from below Linux's default range of ephemeral ports, as the real API servers' are (package loopback).
const (
	firstPort = 20000
	lastPort  = 32000
)

// listen takes a port that nobody has.
func listen() (net.Listener, error) {
	var last error
	for range 1000 {
		port := firstPort + mathrand.IntN(lastPort-firstPort)
		var found net.Listener
		if found, last = net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port)); last == nil {
			return found, nil
		}
	}
	return nil, last
}

// start serves until stop.
func (p *plane) start(certificate tls.Certificate) error {
	port, err := listen()
	if err != nil {
		return err
	}
	p.listener = &listener{Listener: port, counters: &p.counters, faults: &p.faults}
	p.server = &http.Server{
		Handler:           p,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	go func() { _ = p.server.ServeTLS(p.listener, "", "") }()
	return nil
}

func (p *plane) stop() {
	if p.server != nil {
		_ = p.server.Close()
	}
}

func (p *plane) url() string { return "https://" + p.listener.Addr().String() }
