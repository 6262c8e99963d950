package podrunner

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/recipes"
)

func TestAnswersCountInARow(t *testing.T) {
	spec := &corev1.Probe{SuccessThreshold: 2, FailureThreshold: 3}
	var row streak
	for i, one := range []struct{ good, settled bool }{
		{false, false}, {false, false}, {true, false}, {false, false}, {false, false}, {false, true}, {false, true},
		{true, false}, {true, true}, {true, true}, {false, false},
	} {
		if settled := row.settles(spec, one.good); settled != one.settled {
			t.Errorf("answer %d settles: %v", i, settled)
		}
	}
}

func TestProbesAskWhatTheSpecSays(t *testing.T) {
	healthy := true
	server := httptest.NewServer(http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		if request.URL.Path != "/readyz" || !healthy {
			response.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	port := server.Listener.Addr().(*net.TCPAddr).Port
	get := &corev1.HTTPGetAction{Path: "/readyz", Port: intstr.FromString("http"), Scheme: corev1.URISchemeHTTP}
	c := newContainer(&worker{address: "127.0.0.1", runner: &Runner{}, pod: &corev1.Pod{}}, &corev1.Container{
		Ports:         []corev1.ContainerPort{{Name: "http", ContainerPort: int32(port)}},
		LivenessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: get}, TimeoutSeconds: 1},
	}, false)
	found, err := c.probes()
	if err != nil || found.startup != nil || found.readiness != nil || found.liveness == nil {
		t.Fatalf("%+v, %v", found, err)
	}
	// There is no pod's network here.
	found.liveness.client.Transport = http.DefaultTransport
	if err := found.liveness.answers(t.Context()); err != nil {
		t.Error(err)
	}
	healthy = false
	if err := found.liveness.answers(t.Context()); err == nil {
		t.Error("503 is taken for an answer")
	}
	c.spec.ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{}}}
	if _, err := c.probes(); err == nil {
		t.Error("a kind of probe that is not there is ignored")
	}
}

func TestAProbeGoesOnUntilNoMoreIsWanted(t *testing.T) {
	c := newContainer(&worker{address: "127.0.0.1", pod: &corev1.Pod{}}, &corev1.Container{}, false)
	p := &probe{spec: &corev1.Probe{SuccessThreshold: 1, FailureThreshold: 2}, url: "http://127.0.0.1:1/", client: &http.Client{}}
	var settled int
	p.run(t.Context(), func(err error) bool {
		settled++
		return err != nil && settled < 3
	})
	if settled != 3 {
		t.Errorf("settled %d times", settled)
	}
	c.state = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(time.Now())}}
	c.starting = true
	if report := c.report(""); *report.Started {
		t.Error("it has started before its startup probe says so")
	}
}

func TestPortsOfAPodAreThoseItDeclares(t *testing.T) {
	tcp := func(number int32) corev1.ContainerPort {
		return corev1.ContainerPort{ContainerPort: number, Protocol: corev1.ProtocolTCP}
	}
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{
		{Ports: []corev1.ContainerPort{tcp(8080), tcp(9042)}},
		{Ports: []corev1.ContainerPort{tcp(8080), {ContainerPort: 53, Protocol: corev1.ProtocolUDP}}},
	}}}
	if ports := portsOf(pod); len(ports) != 2 || ports[0] != 8080 || ports[1] != 9042 {
		t.Errorf("%v", ports)
	}
}

func TestAnImageThatIsNotHereSaysWhatIs(t *testing.T) {
	r := &Runner{config: Config{Recipes: true}}
	_, err := r.recipe("docker.io/library/nginx:1")
	if err == nil || !strings.Contains(err.Error(), "nginx") || !strings.Contains(err.Error(), recipes.CassandraImage) {
		t.Errorf("%v", err)
	}
}
