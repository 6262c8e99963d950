// Package podrunner stands in for the kubelet and the scheduler of a test cluster: it runs the containers of its pods as
// processes of this machine and reports their status as a kubelet would.
//
// Some images it really has, and runs containers of them as a kubelet does; for others it has recipes, with probes of their
// own and without limits. It says so itself: its Node's kubelet version names it, and an image it has neither of is a
// waiting reason, not a pretence. Not there: volumes it has no directory for, sub-paths, network policies, restart policies,
// exec and port-forwarding.
package podrunner

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/pkg/kubelet/token"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/install"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/certs"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/images"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/loopback"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/runc"
)

// Config says which cluster to run pods for, and with what.
type Config struct {
	Cluster   string
	Client    *rest.Config
	Dir       string
	Addresses *loopback.Block
	DNS       *DNS
	// Recipes stand in for images, and run what is in Paths.
	Recipes bool
	Paths   install.Paths
	// Images are those that Runtime runs containers of, by the name that pods give them.
	Images  map[string]*images.Image
	Runtime *runc.Runtime
	// APIServers are the addresses of the fleet's API servers, this cluster's first; its pods reach all of them.
	APIServers func() []string
	// Certificates are the cluster's, for what the API server asks of a node.
	Certificates certs.Files
	Log          func(format string, arguments ...any)
}

// nodeAddress is the node's own address; its certificate is for this one.
const nodeAddress = "127.0.0.1"

// Runner runs the pods of one cluster.
type Runner struct {
	config  Config
	client  kubernetes.Interface
	node    string
	kubelet *kubelet
	tokens  *token.Manager

	pods       listers.PodLister
	configMaps listers.ConfigMapLister
	secrets    listers.SecretLister

	cancel  context.CancelFunc
	running sync.WaitGroup

	mutex   sync.Mutex
	workers map[types.UID]*worker
}

// Start begins to run a cluster's pods.
func Start(config Config) (*Runner, error) {
	client, err := kubernetes.NewForConfig(config.Client)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &Runner{
		config: config, client: client, node: config.Cluster + "-node",
		tokens: token.NewManager(client), cancel: cancel, workers: map[types.UID]*worker{},
	}
	if config.Runtime != nil && config.Runtime.Limitless() != "" {
		config.Log("%s: containers have no memory limits: %s", config.Cluster, config.Runtime.Limitless())
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	r.pods = factory.Core().V1().Pods().Lister()
	r.configMaps = factory.Core().V1().ConfigMaps().Lister()
	r.secrets = factory.Core().V1().Secrets().Lister()
	if err := r.join(ctx); err != nil {
		cancel()
		return nil, err
	}
	_, err = factory.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { r.observe(ctx, object.(*corev1.Pod)) },
		UpdateFunc: func(_, object any) { r.observe(ctx, object.(*corev1.Pod)) },
		DeleteFunc: r.forget,
	})
	if err != nil {
		cancel()
		return nil, err
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	return r, nil
}

// Stop kills all containers and returns when they are gone. The pods stay in the cluster.
func (r *Runner) Stop() {
	r.cancel()
	r.running.Wait()
	r.kubelet.stop()
}

// join makes the runner a node of its cluster that can be asked for logs.
func (r *Runner) join(ctx context.Context) (err error) {
	if r.kubelet, err = startKubelet(r.config.Certificates, r.routes()); err != nil {
		return fmt.Errorf("serve as a kubelet: %w", err)
	}
	if err := r.registerNode(ctx); err != nil {
		r.kubelet.stop()
		return fmt.Errorf("register node: %w", err)
	}
	return nil
}

// observe binds a pod nobody has bound and runs one that is bound to this node.
func (r *Runner) observe(ctx context.Context, pod *corev1.Pod) {
	switch pod.Spec.NodeName {
	case "":
		go r.bind(ctx, pod)
	case r.node:
		r.work(ctx, pod)
	}
}

func (r *Runner) work(ctx context.Context, pod *corev1.Pod) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if known, ok := r.workers[pod.UID]; ok {
		known.wake()
		return
	}
	if ctx.Err() != nil {
		return
	}
	w := newWorker(r, pod)
	r.workers[pod.UID] = w
	r.running.Go(func() {
		w.run(ctx)
		r.mutex.Lock()
		defer r.mutex.Unlock()
		delete(r.workers, pod.UID)
	})
}

func (r *Runner) forget(object any) {
	if tombstone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = tombstone.Obj
	}
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if w, ok := r.workers[pod.UID]; ok {
		w.wake()
	}
}

func (r *Runner) bind(ctx context.Context, pod *corev1.Pod) {
	binding := &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: r.node},
	}
	err := r.client.CoreV1().Pods(pod.Namespace).Bind(ctx, binding, metav1.CreateOptions{})
	if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) && ctx.Err() == nil {
		r.config.Log("%s: bind pod %s/%s: %v", r.config.Cluster, pod.Namespace, pod.Name, err)
	}
}

func (r *Runner) registerNode(ctx context.Context) error {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name:   r.node,
		Labels: map[string]string{"kubernetes.io/hostname": r.node, "kubernetes.io/os": "linux"},
	}}
	nodes := r.client.CoreV1().Nodes()
	if _, err := nodes.Create(ctx, node, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	return wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, 10*time.Second, true, func(ctx context.Context) (bool, error) {
		node, err := nodes.Get(ctx, r.node, metav1.GetOptions{})
		if err != nil {
			return false, nil //nolint:nilerr // polled
		}
		room := corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("256Gi"),
			corev1.ResourcePods: resource.MustParse("250"),
		}
		node.Status = corev1.NodeStatus{
			Capacity: room, Allocatable: room,
			Addresses:       []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: nodeAddress}},
			DaemonEndpoints: r.kubelet.endpoint(),
			NodeInfo:        corev1.NodeSystemInfo{KubeletVersion: "testbed-pod-runner (no kubelet)", OperatingSystem: "linux"},
			Conditions: []corev1.NodeCondition{{
				Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "PodRunner",
				Message: "a stand-in for the kubelet runs pods as local processes", LastTransitionTime: metav1.Now(),
			}},
		}
		_, err = nodes.UpdateStatus(ctx, node, metav1.UpdateOptions{})
		return err == nil, nil
	})
}

// addressOf finds a pod's address by name.
func (r *Runner) addressOf(namespace, name string) (string, bool) {
	pod, err := r.pods.Pods(namespace).Get(name)
	if err != nil || pod.DeletionTimestamp != nil {
		return "", false
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	w, ok := r.workers[pod.UID]
	if !ok {
		return "", false
	}
	return w.address, true
}

// hosts is the hosts file of a pod: a kubelet's, with the other pods too, so that reverse look-ups by the C library do
// not leave the machine.
func (r *Runner) hosts() string {
	text := "# Managed by the testbed.\n127.0.0.1\tlocalhost\n"
	pods, err := r.pods.List(labels.Everything())
	if err != nil {
		return text
	}
	for _, pod := range pods {
		if address, ok := r.addressOf(pod.Namespace, pod.Name); ok {
			text += address + "\t" + pod.Name + "\n"
		}
	}
	return text
}

// podDir is where a pod's volumes and logs are while it exists.
func (r *Runner) podDir(pod *corev1.Pod) string {
	return filepath.Join(r.config.Dir, "pods", r.config.Cluster, pod.Namespace+"_"+pod.Name+"_"+string(pod.UID))
}

func (r *Runner) claimDir(claim *corev1.PersistentVolumeClaim) (string, error) {
	name := claim.Name + "_" + string(claim.UID)
	directory := filepath.Join(r.config.Dir, "claims", r.config.Cluster, claim.Namespace, name)
	return directory, os.MkdirAll(directory, 0o755)
}
