package podrunner

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/process"
)

// probes are those of one container; nil where it has none of a kind.
type probes struct{ startup, readiness, liveness *probe }

// probe asks a container one question again and again.
type probe struct {
	spec   *corev1.Probe
	client *http.Client
	url    string
}

// probes are what a container's spec asks for. Kinds that the testbed does not know are refused.
func (c *container) probes() (found probes, err error) {
	if found.startup, err = c.probe(c.spec.StartupProbe); err != nil {
		return found, err
	}
	if found.readiness, err = c.probe(c.spec.ReadinessProbe); err != nil {
		return found, err
	}
	found.liveness, err = c.probe(c.spec.LivenessProbe)
	return found, err
}

func (c *container) probe(spec *corev1.Probe) (*probe, error) {
	if spec == nil {
		return nil, nil
	}
	get := spec.HTTPGet
	if get == nil || len(get.HTTPHeaders) > 0 {
		return nil, errors.New("the testbed has httpGet probes, without headers")
	}
	port := get.Port.IntValue()
	if get.Port.Type == intstr.String {
		for _, declared := range c.spec.Ports {
			if declared.Name == get.Port.StrVal {
				port = int(declared.ContainerPort)
			}
		}
	}
	scheme, host := "http", get.Host
	if get.Scheme == corev1.URISchemeHTTPS {
		scheme = "https"
	}
	if host == "" {
		host = c.worker.address
	}
	return &probe{
		spec: spec,
		url:  fmt.Sprintf("%s://%s/%s", scheme, net.JoinHostPort(host, strconv.Itoa(port)), trimSlash(get.Path)),
		client: &http.Client{
			Timeout: time.Duration(spec.TimeoutSeconds) * time.Second,
			Transport: &http.Transport{
				DisableKeepAlives: true,
				TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // as a kubelet has it
				DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
					return c.worker.network.Dial(ctx, address)
				},
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

func trimSlash(path string) string {
	if path != "" && path[0] == '/' {
		return path[1:]
	}
	return path
}

// answers asks once.
func (p *probe) answers(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", "kube-probe/testbed")
	response, err := p.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode < 200 || response.StatusCode >= 400 {
		return fmt.Errorf("HTTP probe failed with statuscode: %d", response.StatusCode)
	}
	return nil
}

// run asks every period, and tells settled of each answer that came often enough in a row, until it wants no more.
func (p *probe) run(ctx context.Context, settled func(err error) bool) {
	pause := time.Duration(p.spec.InitialDelaySeconds) * time.Second
	var row streak
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		err := p.answers(ctx)
		if ctx.Err() != nil || row.settles(p.spec, err == nil) && !settled(err) {
			return
		}
		pause = time.Duration(p.spec.PeriodSeconds) * time.Second
	}
}

// streak counts answers that are alike.
type streak struct {
	good   bool
	length int32
}

// settles takes one answer, and tells whether there were as many like it in a row as the probe asks for.
func (s *streak) settles(spec *corev1.Probe, good bool) bool {
	if s.good != good {
		*s = streak{good: good}
	}
	s.length++
	if good {
		return s.length >= spec.SuccessThreshold
	}
	return s.length >= spec.FailureThreshold
}

// ask asks a running container all it has probes for, until it has ended: the startup probe first, and while that has not
// succeeded no other. A container without a readiness probe is ready when it has started.
func (c *container) ask(ctx context.Context, child *process.Process, probes probes) {
	if c.init {
		return // it has none, and is ready when it has ended well
	}
	if probes.startup != nil {
		probes.startup.run(ctx, func(err error) bool {
			if err != nil {
				c.kill(child, "startup", err)
			}
			return false
		})
		if ctx.Err() != nil || !child.Running() {
			return
		}
		c.mutex.Lock()
		c.starting = false
		c.mutex.Unlock()
		c.worker.wake()
	}
	var both sync.WaitGroup
	defer both.Wait()
	if probes.liveness != nil {
		both.Go(func() {
			probes.liveness.run(ctx, func(err error) bool {
				if err != nil {
					c.kill(child, "liveness", err)
				}
				return err == nil
			})
		})
	}
	if probes.readiness == nil {
		c.setReady(true)
		return
	}
	both.Go(func() {
		probes.readiness.run(ctx, func(err error) bool {
			c.setReady(err == nil)
			return true
		})
	})
}

// kill ends a container that a probe has given up, within its pod's grace period; it is started again then.
func (c *container) kill(child *process.Process, kind string, err error) {
	c.worker.log("container %s failed its %s probe and is restarted: %v", c.spec.Name, kind, err)
	var grace time.Duration
	if seconds := c.worker.pod.Spec.TerminationGracePeriodSeconds; seconds != nil {
		grace = time.Duration(*seconds) * time.Second
	}
	child.Stop(grace)
}
