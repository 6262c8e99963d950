package podrunner

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/certs"
)

// kubelet serves what the API server asks a node for: the logs of containers. It has the API server's client certificate
// shown, as a kubelet does.
type kubelet struct {
	server *http.Server
	port   int
}

func startKubelet(files certs.Files, handler http.Handler) (*kubelet, error) {
	certificate, err := tls.LoadX509KeyPair(files.KubeletCert, files.KubeletKey)
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(files.CA)
	if err != nil {
		return nil, err
	}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(authority)
	listener, err := tls.Listen("tcp4", net.JoinHostPort(nodeAddress, "0"), &tls.Config{
		Certificates: []tls.Certificate{certificate},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    clients,
		VerifyConnection: func(state tls.ConnectionState) error {
			if name := state.PeerCertificates[0].Subject.CommonName; name != certs.KubeletClient {
				return fmt.Errorf("%q is not the API server", name)
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	k := &kubelet{
		server: &http.Server{
			Handler: handler, ReadHeaderTimeout: 10 * time.Second,
			// A connection that breaks is no news for the testbed's own log.
			ErrorLog: log.New(io.Discard, "", 0),
		},
		port: listener.Addr().(*net.TCPAddr).Port,
	}
	go func() { _ = k.server.Serve(listener) }()
	return k, nil
}

func (k *kubelet) stop() { _ = k.server.Close() }

// routes are the paths of a kubelet that the runner has.
func (r *Runner) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", r.serveLog)
	return mux
}

func (r *Runner) serveLog(response http.ResponseWriter, request *http.Request) {
	query := request.URL.Query()
	options, err := parseLogOptions(query)
	if err != nil {
		http.Error(response, err.Error(), http.StatusBadRequest)
		return
	}
	namespace, name := request.PathValue("namespace"), request.PathValue("pod")
	c := r.containerOf(namespace, name, request.PathValue("container"))
	if c == nil {
		http.Error(response, fmt.Sprintf("pod %s/%s does not run here", namespace, name), http.StatusNotFound)
		return
	}
	file, err := c.logFile(options.previous)
	if err != nil {
		http.Error(response, err.Error(), http.StatusBadRequest)
		return
	}
	text, err := os.ReadFile(file)
	if err != nil {
		http.Error(response, err.Error(), http.StatusInternalServerError)
		return
	}
	response.Header().Set("Content-Type", "text/plain")
	_, _ = response.Write(options.cut(text))
}

// containerOf finds a container of the pod that has this name now.
func (r *Runner) containerOf(namespace, podName, name string) *container {
	pod, err := r.pods.Pods(namespace).Get(podName)
	if err != nil {
		return nil
	}
	r.mutex.Lock()
	w, ok := r.workers[pod.UID]
	r.mutex.Unlock()
	if !ok {
		return nil
	}
	for _, c := range append(w.inits[:len(w.inits):len(w.inits)], w.containers...) {
		if c.spec.Name == name {
			return c
		}
	}
	return nil
}

// logPath is where a start of a container logs to, counted from 0: the kubelet's layout. It stays when the pod is gone.
func (c *container) logPath(start int32) string {
	r, pod := c.worker.runner, c.worker.pod
	return filepath.Join(r.config.Dir, "logs", r.config.Cluster, pod.Namespace, pod.Name+"_"+string(pod.UID),
		c.spec.Name, fmt.Sprintf("%d.log", start))
}

// newLog makes the file that the next start of the container logs to. It is empty, also when the same pod was run by an
// earlier testbed.
func (c *container) newLog() (string, error) {
	c.mutex.Lock()
	path := c.logPath(c.restarts)
	c.mutex.Unlock()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, nil, 0o644)
}

// logFile is the log of the container's present start, or of its last one while it waits to be started again; with
// previous, of the one before the present.
func (c *container) logFile(previous bool) (string, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	start, name, pod := c.restarts, c.spec.Name, c.worker.pod.Name
	started := c.state.Running != nil || c.state.Terminated != nil
	if !started || previous {
		start--
	}
	switch {
	case start >= 0:
		return c.logPath(start), nil
	case previous:
		return "", fmt.Errorf("previous terminated container %q in pod %q not found", name, pod)
	}
	reason := "PodInitializing"
	if c.state.Waiting != nil {
		reason = c.state.Waiting.Reason
	}
	return "", fmt.Errorf("container %q in pod %q is waiting to start: %s", name, pod, reason)
}

// logOptions are those of PodLogOptions that are supported.
type logOptions struct {
	previous              bool
	tailLines, limitBytes int // below 0: everything
}

func parseLogOptions(query url.Values) (logOptions, error) {
	options := logOptions{tailLines: -1, limitBytes: -1}
	for name := range query {
		var err error
		switch value := query.Get(name); name {
		case "previous":
			options.previous, err = strconv.ParseBool(value)
		case "tailLines":
			options.tailLines, err = strconv.Atoi(value)
		case "limitBytes":
			options.limitBytes, err = strconv.Atoi(value)
		default:
			err = errors.New("the testbed's logs have previous, tailLines and limitBytes")
		}
		if err != nil {
			return options, fmt.Errorf("log option %s: %w", name, err)
		}
	}
	return options, nil
}

// cut is what is asked for of a log: the last lines, and of them the first bytes.
func (o logOptions) cut(text []byte) []byte {
	if o.tailLines >= 0 {
		end := bytes.TrimSuffix(text, []byte("\n"))
		for range o.tailLines {
			if end = end[:max(bytes.LastIndexByte(end, '\n'), 0)]; len(end) == 0 {
				break
			}
		}
		switch {
		case o.tailLines == 0:
			text = nil
		case len(end) > 0:
			text = text[len(end)+1:]
		}
	}
	if o.limitBytes >= 0 && o.limitBytes < len(text) {
		text = text[:o.limitBytes]
	}
	return text
}

func (k *kubelet) endpoint() corev1.NodeDaemonEndpoints {
	return corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: int32(k.port)}}
}
