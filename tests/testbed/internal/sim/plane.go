package sim

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net/http"
	"time"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/loopback"
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
	p.faults.fault.Name = None
	p.medusa = medusa{store: p.store, takes: config.MedusaTakes}
	if err := p.seed(config.Seed); err != nil {
		return nil, fmt.Errorf("objects of %s: %w", name, err)
	}
	p.store.forget()
	p.store.heard = p.medusa.hear
	return p, nil
}

// start serves until stop.
func (p *plane) start(certificate tls.Certificate) error {
	port, err := loopback.Listen()
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
	if p.server == nil {
		return
	}
	// Under the fault `stop`, connections would wait for its end before they close.
	p.faults.set(Fault{Name: None}, "")
	_ = p.server.Close()
}

func (p *plane) url() string { return "https://" + p.listener.Addr().String() }
