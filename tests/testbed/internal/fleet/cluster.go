package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/certs"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/loopback"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/process"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/programs"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/protocol"
)

const (
	apiServerTimeout = 120 * time.Second
	stopGrace        = 5 * time.Second
)

// Cluster is one Kubernetes cluster: an API server, and what runs against it.
type Cluster struct {
	Name       string
	Kubeconfig string

	etcdURL string
	// accounts says that pods get their ServiceAccounts.
	accounts bool
	dir      string // keys, certificates and the port
	log      string
	files    certs.Files
	port     int
	manager  *process.Process

	// running guards what follows: an API server that ends by itself is started again while commands come in.
	running sync.Mutex
	server  *process.Process
	// stopped says that the API server has been told to end.
	stopped bool
}

func newCluster(config Config, name, etcdURL string) (*Cluster, error) {
	cluster := &Cluster{
		Name:       name,
		Kubeconfig: filepath.Join(config.Dir, name+".kubeconfig"),
		etcdURL:    etcdURL,
		accounts:   config.ServiceAccounts,
		dir:        filepath.Join(config.Dir, name),
		log:        filepath.Join(config.Dir, name+".kube-apiserver.log"),
	}
	files, err := certs.Ensure(cluster.dir)
	if err != nil {
		return nil, fmt.Errorf("certificates of %s: %w", name, err)
	}
	cluster.files = files
	return cluster, nil
}

// URL is where the API server listens.
func (c *Cluster) URL() string { return "https://" + c.Address() }

// Address is host and port of the API server.
func (c *Cluster) Address() string { return fmt.Sprintf("127.0.0.1:%d", c.port) }

// Describe is the cluster as the protocol shows it.
func (c *Cluster) Describe() protocol.Cluster {
	c.running.Lock()
	defer c.running.Unlock()
	return protocol.Cluster{Name: c.Name, Kubeconfig: c.Kubeconfig, Server: c.URL(), PID: c.server.PID(), Log: c.log}
}

// Certificates are the cluster's keys and certificates.
func (c *Cluster) Certificates() certs.Files { return c.files }

// Config is an administrator's client configuration, without client-side rate limiting.
func (c *Cluster) Config() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	return config, nil
}

// start finds a port and brings the API server up. A fleet that is started again in the same directory tries the port
// of its earlier run first, for the kubeconfigs that were given out.
func (c *Cluster) start(ctx context.Context) error {
	c.running.Lock()
	defer c.running.Unlock()
	var err error
	for range bindAttempts {
		if c.port = c.earlierPort(); c.port == 0 {
			if c.port, err = loopback.FreePort(); err != nil {
				return err
			}
		}
		if err = writeKubeconfig(c.Kubeconfig, c.Name, c.URL(), c.files); err != nil {
			return err
		}
		if err = c.startServer(ctx); err == nil {
			return os.WriteFile(c.portFile(), []byte(strconv.Itoa(c.port)), 0o600)
		}
		_ = os.Remove(c.portFile())
		if !errors.Is(err, errExited) {
			break
		}
	}
	return &StartError{Program: programs.KubeAPIServer + " of " + c.Name, Log: c.log, Err: err}
}

func (c *Cluster) portFile() string { return filepath.Join(c.dir, "port") }

func (c *Cluster) earlierPort() int {
	data, err := os.ReadFile(c.portFile())
	if err != nil {
		return 0
	}
	port, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	return port
}

// startServer starts the API server on the cluster's port and waits until it is ready.
func (c *Cluster) startServer(ctx context.Context) error {
	argv, err := programs.Command(programs.KubeAPIServer)
	if err != nil {
		return err
	}
	c.server, err = process.Start(process.Spec{
		Argv: append(argv[:len(argv):len(argv)], c.serverFlags()...),
		Env:  thrift(),
		Log:  c.log,
	})
	if err != nil {
		return err
	}
	if err := waitUntil(ctx, c.server, apiServerTimeout, c.check); err != nil {
		c.server.Stop(0)
		return err
	}
	go c.mind(c.server)
	return nil
}

// mind starts the API server again when it ends without having been told to, as a kubelet would, and says on standard
// error that and how it ended: a test that meets the gap is not to be left guessing.
func (c *Cluster) mind(server *process.Process) {
	<-server.Done()
	c.running.Lock()
	defer c.running.Unlock()
	if c.stopped || c.server != server {
		return
	}
	fmt.Fprintf(os.Stderr, "the API server of %s ended by itself with code %d (log: %s); it is started again\n",
		c.Name, server.ExitCode(), c.log)
	if err := c.startServer(context.Background()); err != nil {
		fmt.Fprintf(os.Stderr, "the API server of %s could not be started again: %v\n", c.Name, err)
	}
}

// thrift trades processor time for memory, as twenty API servers must fit one machine; GOGC in the testbed's own environment
// says otherwise.
func thrift() []string { return []string{"GOGC=" + cmp.Or(os.Getenv("GOGC"), "50")} }

func (c *Cluster) serverFlags() []string {
	return []string{
		"--etcd-servers=" + c.etcdURL,
		"--etcd-prefix=/" + c.Name,
		"--bind-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(c.port),
		"--tls-cert-file=" + c.files.ServingCert,
		"--tls-private-key-file=" + c.files.ServingKey,
		"--client-ca-file=" + c.files.CA,
		// For `kubectl logs`: how it asks the pod runner of the pod's node.
		"--kubelet-certificate-authority=" + c.files.CA,
		"--kubelet-client-certificate=" + c.files.KubeletClientCert,
		"--kubelet-client-key=" + c.files.KubeletClientKey,
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.files.ServiceAccountKey,
		"--service-account-signing-key-file=" + c.files.ServiceAccountKey,
		"--authorization-mode=RBAC",
		"--service-cluster-ip-range=" + certs.APIServerService.String() + "/24",
		"--allow-privileged",
		// A loopback address is no legal endpoint of the `kubernetes` Service.
		"--endpoint-reconciler-type=none",
		"--disable-admission-plugins=" + strings.Join(c.unwanted(), ","),
		// Its queues and its objects cost start-up time and memory, and a test's burst is not to be shaped.
		"--enable-priority-and-fairness=false",
		"--profiling=false",
	}
}

// unwanted are the admission plugins that are off.
func (c *Cluster) unwanted() []string {
	// They add taints and finalizers that only controllers which do not run here would take away again.
	plugins := []string{"TaintNodesByCondition", "StorageObjectInUseProtection"}
	if !c.accounts {
		// It would refuse pods until a controller has made the account.
		plugins = append(plugins, "ServiceAccount")
	}
	return plugins
}

// check asks for readiness, and for the namespace whose uid identifies a cluster: it appears just after.
func (c *Cluster) check(ctx context.Context) error {
	config, err := c.Config()
	if err != nil {
		return err
	}
	config.Timeout = 5 * time.Second
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return err
	}
	if err := get(ctx, client, c.URL()+"/readyz"); err != nil {
		return err
	}
	return get(ctx, client, c.URL()+"/api/v1/namespaces/kube-system")
}

// restart brings a stopped API server back on its port.
func (c *Cluster) restart(ctx context.Context) error {
	c.running.Lock()
	defer c.running.Unlock()
	if !c.stopped {
		return fmt.Errorf("the API server of %s is running", c.Name)
	}
	c.stopped = false
	if err := c.startServer(ctx); err != nil {
		return &StartError{Program: programs.KubeAPIServer + " of " + c.Name, Log: c.log, Err: err}
	}
	return nil
}

func (c *Cluster) signal(signal syscall.Signal) error {
	c.running.Lock()
	defer c.running.Unlock()
	return c.server.Signal(signal)
}

// stopServer ends the API server; it holds no state, so without grace.
func (c *Cluster) stopServer() {
	c.running.Lock()
	defer c.running.Unlock()
	c.stopped = true
	if c.server != nil {
		c.server.Stop(0)
	}
}

// stop ends the cluster's programs.
func (c *Cluster) stop() {
	if c.manager != nil {
		c.manager.Stop(0)
	}
	c.stopServer()
}
