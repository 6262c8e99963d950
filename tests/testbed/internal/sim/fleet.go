package sim

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/certs"
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
	f := &Fleet{byName: map[string]*plane{}, dir: config.Dir, begun: time.Now(), done: make(chan struct{})}
	for n := range config.Planes {
		p, err := newPlane(fmt.Sprintf("sim-%d", n+1), kinds, config)
		if err == nil {
			p.store.heard = func(k *kind, e event) {
				p.medusa.hear(k, e)
				f.journal.hear(p.name, k, e)
			}
		}
		if err == nil {
			err = p.start(certificate)
		}
		if err == nil {
			err = p.writeKubeconfig(f.kubeconfig(p), authority)
		}
		if err != nil {
			f.Stop()
			return nil, err
		}
		f.planes, f.byName[p.name] = append(f.planes, p), p
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
	for _, p := range f.planes {
		p.stop()
	}
	if f.admin != nil {
		_ = f.admin.Close()
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

func (p *plane) writeKubeconfig(path string, authority []byte) error {
	config := clientcmdapi.NewConfig()
	config.Clusters[p.name] = &clientcmdapi.Cluster{Server: p.url(), CertificateAuthorityData: authority}
	config.AuthInfos[p.name] = &clientcmdapi.AuthInfo{Token: p.token}
	config.Contexts[p.name] = &clientcmdapi.Context{Cluster: p.name, AuthInfo: p.name}
	config.CurrentContext = p.name
	data, err := clientcmd.Write(*config)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}
