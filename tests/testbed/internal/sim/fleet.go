package sim

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/certs"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/kubeconfig"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/protocol"
)

// Config says what to simulate.
type Config struct {
	// Dir is where keys and kubeconfigs are written.
	Dir string
	// Planes is how many data planes there are: sim-1 and so on.
	Planes int
	// Definitions is the directory of Medusa's definitions.
	Definitions string
	// Seed is what each has in the beginning.
	Seed Seed
	// MedusaTakes is how long a backup takes.
	MedusaTakes time.Duration
}

// Fleet is a running simulation.
type Fleet struct {
	kinds   *kinds
	planes  []*plane
	byName  map[string]*plane
	dir     string
	begun   time.Time
	journal journal
	admin   *http.Server
	url     string
	done    chan struct{}
}

// Start begins a simulation.
func Start(config Config) (*Fleet, error) {
	if os.Getenv("GOGC") == "" {
		// Memory is scarcer than processor time where a thousand planes have ten connections each.
		debug.SetGCPercent(50)
	}
	kinds, err := load(config.Definitions)
	if err != nil {
		return nil, err
	}
	files, err := certs.Ensure(filepath.Join(config.Dir, "sim"))
	if err != nil {
		return nil, err
	}
	certificate, err := tls.LoadX509KeyPair(files.ServingCert, files.ServingKey)
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(files.CA)
	if err != nil {
		return nil, err
	}
	f := &Fleet{kinds: kinds, byName: map[string]*plane{}, dir: config.Dir, begun: time.Now(), done: make(chan struct{})}
	for n := range config.Planes {
		p, err := newPlane(fmt.Sprintf("sim-%d", n+1), kinds, config)
		if err == nil {
			p.store.heard = func(k *kind, e event) {
				p.medusa.hear(k, e)
				f.journal.hear(p.name, k, e)
			}
			// Stop has to find it, whatever fails from here on.
			f.planes, f.byName[p.name] = append(f.planes, p), p
			err = p.start(certificate)
		}
		if err == nil {
			err = kubeconfig.Write(f.kubeconfig(p), p.name, p.url(), authority, clientcmdapi.AuthInfo{Token: p.token})
		}
		if err != nil {
			f.Stop()
			return nil, err
		}
	}
	if err := f.serveAdmin(); err != nil {
		f.Stop()
		return nil, err
	}
	go renewLeases(f.planes, f.done)
	return f, nil
}

// Stop ends the simulation.
func (f *Fleet) Stop() {
	close(f.done)
	if f.admin != nil {
		_ = f.admin.Close()
	}
	for _, p := range f.planes {
		p.stop()
	}
}

// Admin is the address of the admin port.
func (f *Fleet) Admin() string { return f.url }

// Describe is the simulation as the protocol shows it.
func (f *Fleet) Describe() protocol.Ready {
	ready := protocol.Ready{Ready: true, Admin: f.url}
	for _, p := range f.planes {
		ready.Clusters = append(ready.Clusters, protocol.Cluster{
			Name: p.name, Kubeconfig: f.kubeconfig(p), Server: p.url(), PID: os.Getpid(),
		})
	}
	return ready
}

func (f *Fleet) kubeconfig(p *plane) string { return filepath.Join(f.dir, p.name+".kubeconfig") }
