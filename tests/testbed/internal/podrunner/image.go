package podrunner

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/certs"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/images"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/podnet"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/process"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/recipes"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/runc"
)

// apiServerPort is that of the Service `kubernetes`.
const apiServerPort = "443"

// recipe finds what stands in for an image. Its error is meant for the container's status.
func (r *Runner) recipe(image string) (recipes.Recipe, error) {
	var known []string
	if r.config.Recipes {
		recipe, ok := recipes.For(image)
		if ok {
			return recipe, nil
		}
		known = recipes.Names()
	}
	for name := range r.config.Images {
		known = append(known, name)
	}
	sort.Strings(known)
	return recipes.Recipe{}, fmt.Errorf("the testbed pulls no images: it has %s here, and not %q",
		strings.Join(known, ", "), image)
}

// connect gives a pod with containers of images its network, and keeps it able to reach what came later.
func (w *worker) connect() error {
	containers := slices.Concat(w.pod.Spec.InitContainers, w.pod.Spec.Containers)
	if !slices.ContainsFunc(containers, func(container corev1.Container) bool {
		return w.runner.config.Images[container.Image] != nil
	}) {
		return nil
	}
	servers := w.runner.config.APIServers()
	own := portsOf(w.pod)
	if w.network == nil {
		network, err := podnet.New(certs.APIServerService)
		if err != nil {
			return err
		}
		err = network.Serve(net.JoinHostPort(certs.APIServerService.String(), apiServerPort), servers[0])
		for _, port := range own {
			err = errors.Join(err, network.Publish(net.JoinHostPort(w.address, strconv.Itoa(port))))
		}
		if err != nil {
			network.Close()
			return err
		}
		w.network = network
	}
	var outward []int
	for _, server := range servers {
		_, port, _ := net.SplitHostPort(server)
		number, err := strconv.Atoi(port)
		if err != nil {
			return err
		}
		outward = append(outward, number)
	}
	pods, err := w.runner.pods.List(labels.Everything())
	if err != nil {
		return err
	}
	for _, pod := range pods {
		outward = append(outward, portsOf(pod)...)
	}
	for _, port := range outward {
		if slices.Contains(own, port) {
			continue
		}
		if err := w.network.Reach(port); err != nil {
			w.log("%v", err)
		}
	}
	return nil
}

// portsOf are those that a pod declares.
func portsOf(pod *corev1.Pod) []int {
	var ports []int
	for _, container := range pod.Spec.Containers {
		for _, port := range container.Ports {
			if port.Protocol == corev1.ProtocolTCP {
				ports = append(ports, int(port.ContainerPort))
			}
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// runImage runs a container of an image once.
func (c *container) runImage(ctx context.Context, image *images.Image) *corev1.ContainerStateTerminated {
	c.runs++
	id := fmt.Sprintf("%s-%s-%d", c.worker.pod.UID, c.spec.Name, c.runs)
	bundle := filepath.Join(c.worker.dir, "containers", c.spec.Name)
	probes, err := c.probes()
	if err != nil {
		return c.cannot("CreateContainerConfigError", err)
	}
	if err := c.configure(image, bundle, id); err != nil {
		return c.cannot("CreateContainerConfigError", err)
	}
	log, err := c.newLog()
	if err != nil {
		return c.cannot("RunContainerError", err)
	}
	started := now()
	running, err := c.startImage(bundle, id, log)
	if err != nil {
		return c.cannot("RunContainerError", err)
	}
	if running == nil {
		return nil // stopped in between
	}
	c.mutex.Lock()
	c.starting, c.imageID = probes.startup != nil, image.Digest
	c.mutex.Unlock()
	c.set(corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: started}})
	c.attend(ctx, running.Process, probes)
	outOfMemory, err := running.Remove()
	if err != nil {
		c.worker.log("container %s: %v", c.spec.Name, err)
	}
	how := exit{code: running.Process.ExitCode()}
	if outOfMemory {
		how.reason = "OOMKilled"
	}
	return c.ended(started, how)
}

func (c *container) configure(image *images.Image, bundle, id string) error {
	environment, err := c.worker.environment(c.spec, map[string]string{
		"KUBERNETES_SERVICE_HOST":       certs.APIServerService.String(),
		"KUBERNETES_SERVICE_PORT":       apiServerPort,
		"KUBERNETES_SERVICE_PORT_HTTPS": apiServerPort,
	})
	if err != nil {
		return err
	}
	mounts, err := c.mounts()
	if err != nil {
		return err
	}
	mounts = append(mounts, runc.Mount{Source: c.worker.hostsFile(), Target: "/etc/hosts", ReadOnly: true})
	return c.worker.runner.config.Runtime.Configure(bundle, runc.Container{
		Image: image, Pod: c.worker.pod, Spec: c.spec, Env: environment, Mounts: mounts,
	}, id)
}

// startImage starts the container, unless the pod is ending.
func (c *container) startImage(bundle, id, log string) (running *runc.Running, err error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.stopping {
		return nil, nil
	}
	running, err = c.worker.runner.config.Runtime.Start(bundle, id, c.worker.network.Namespace(), log)
	if err == nil {
		c.process = running.Process
	}
	return running, err
}

// attend probes a running container until it has ended.
func (c *container) attend(ctx context.Context, child *process.Process, probes probes) {
	probing, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.ask(probing, child, probes)
	}()
	select {
	case <-child.Done():
	case <-ctx.Done():
		child.Stop(0)
	}
	cancel()
	<-ended
}
