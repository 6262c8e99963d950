package datacenter

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/recipes"
)

func declared(t *testing.T, fields map[string]any) *datacenter {
	t.Helper()
	spec := map[string]any{"clusterName": "Shop_EU", "size": int64(5)}
	for name, value := range fields {
		spec[name] = value
	}
	object := &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"name": "dc1", "namespace": "shop", "generation": int64(3)}, "spec": spec,
	}}
	dc, err := parse(object)
	if err != nil {
		t.Fatal(err)
	}
	return dc
}

func TestFirstRacksGetWhatIsLeftOver(t *testing.T) {
	dc := declared(t, map[string]any{"racks": []any{
		map[string]any{"name": "r1"}, map[string]any{"name": "r2"}, map[string]any{"name": "r3"},
	}})
	want := []rack{{"r1", 2}, {"r2", 2}, {"r3", 1}}
	for i, got := range dc.racks() {
		if got != want[i] {
			t.Errorf("rack %d is %v, want %v", i, got, want[i])
		}
	}
}

func TestNamesAreThoseOfCassOperator(t *testing.T) {
	dc := declared(t, nil)
	if racks := dc.racks(); len(racks) != 1 || racks[0] != (rack{"default", 5}) {
		t.Errorf("racks %v", racks)
	}
	if got := dc.setName("default"); got != "shop-eu-dc1-default-sts" {
		t.Errorf("StatefulSet %s", got)
	}
}

// racksOf are a datacenter's StatefulSets as they would be after a time in which nothing happened.
func racksOf(t *testing.T, dc *datacenter, replicas int32) []rackSets {
	t.Helper()
	desired, err := stamp(dc.statefulSet(dc.racks()[0]))
	if err != nil {
		t.Fatal(err)
	}
	current := desired.DeepCopy()
	current.Spec.Replicas = &replicas
	current.Status = appsv1.StatefulSetStatus{Replicas: replicas, ReadyReplicas: replicas, UpdatedReplicas: replicas}
	return []rackSets{{current: current, desired: desired}}
}

func want(t *testing.T, when string, status map[string]any, progress string, conditions map[string]string) {
	t.Helper()
	if status["cassandraOperatorProgress"] != progress {
		t.Errorf("%s: progress is %v, want %s", when, status["cassandraOperatorProgress"], progress)
	}
	for kind, value := range conditions {
		if got := conditionStatus(status, kind); got != value {
			t.Errorf("%s: %s is %q, want %s", when, kind, got, value)
		}
	}
}

func TestStopChangeOfTemplateAndResume(t *testing.T) {
	running := declared(t, nil)
	status := running.status(nil, idle, racksOf(t, running, 5), nil)
	want(t, "running", status, progressReady, map[string]string{
		initializedCondition: "True", readyCondition: "True", stoppedCondition: "False", updatingCondition: "False",
	})

	stopped := declared(t, map[string]any{"stopped": true})
	racks := racksOf(t, stopped, 5)
	step := stopped.next(status, racks)
	if update := racks[0].advance(step); step != halt || *update.Spec.Replicas != 0 {
		t.Fatalf("step %v to %v", step, update)
	}
	status = stopped.status(status, step, racks, nil)
	want(t, "stopping", status, progressUpdating, map[string]string{readyCondition: "False", stoppedCondition: "True"})

	racks = racksOf(t, stopped, 0)
	if step = stopped.next(status, racks); step != idle {
		t.Fatalf("step %v of a datacenter that is stopped", step)
	}
	status = stopped.status(status, step, racks, nil)
	want(t, "stopped", status, progressReady, map[string]string{readyCondition: "False", stoppedCondition: "True"})

	racks[0].desired.Annotations[templateAnnotation] = "another"
	if step = stopped.next(status, racks); step != push || racks[0].advance(step).Annotations[templateAnnotation] != "another" {
		t.Fatalf("step %v with another template", step)
	}
	status = stopped.status(status, step, racks, nil)
	want(t, "pushing", status, progressUpdating, map[string]string{updatingCondition: "True", stoppedCondition: "True"})
	racks[0].current.Annotations[templateAnnotation] = "another"
	racks[0].current.Generation = 2
	status = stopped.status(status, stopped.next(status, racks), racks, nil)
	want(t, "not yet observed", status, progressUpdating, map[string]string{updatingCondition: "True"})
	racks[0].current.Status.ObservedGeneration = 2
	status = stopped.status(status, stopped.next(status, racks), racks, nil)
	want(t, "pushed", status, progressReady, map[string]string{updatingCondition: "False", stoppedCondition: "True"})

	racks = racksOf(t, running, 0)
	if step = running.next(status, racks); step != grow {
		t.Fatalf("step %v of a datacenter that is no longer stopped", step)
	}
	status = running.status(status, step, racks, nil)
	resuming := map[string]string{stoppedCondition: "False", resumingCondition: "True", readyCondition: "False"}
	want(t, "resuming", status, progressUpdating, resuming)
	racks = racksOf(t, running, 5)
	racks[0].current.Status.ReadyReplicas = 4
	racks[0].desired.Annotations[templateAnnotation] = "a third"
	if step = running.next(status, racks); step != idle {
		t.Fatalf("step %v while nodes start", step)
	}
	status = running.status(status, step, racks, nil)
	want(t, "4 of 5 nodes", status, progressUpdating, resuming)
	racks = racksOf(t, running, 5)
	status = running.status(status, running.next(status, racks), racks, nil)
	want(t, "resumed", status, progressReady, map[string]string{readyCondition: "True", resumingCondition: "False"})
}

func TestTemplateOfARunningDatacenterIsPushed(t *testing.T) {
	dc := declared(t, nil)
	racks := racksOf(t, dc, 5)
	status := dc.status(nil, idle, racks, nil)
	racks[0].desired.Annotations[templateAnnotation] = "another"
	step := dc.next(status, racks)
	if step != push {
		t.Fatalf("step %v", step)
	}
	want(t, "pushing", dc.status(status, step, racks, nil), progressUpdating, map[string]string{
		updatingCondition: "True", readyCondition: "True",
	})
}

func TestStatusKeepsTimesNodesAndTheGenerationThatIsDone(t *testing.T) {
	dc := declared(t, nil)
	racks := racksOf(t, dc, 5)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "n0"}, Status: corev1.PodStatus{PodIP: "127.20.3.9"}}
	racks[0].current.Status.ReadyReplicas = 4
	before := dc.status(nil, idle, racks, []*corev1.Pod{pod})
	if before["observedGeneration"] != nil {
		t.Errorf("generation %v counts as observed while nodes start", before["observedGeneration"])
	}
	racks = racksOf(t, dc, 5)
	after := dc.status(before, idle, racks, nil)
	if after["observedGeneration"] != int64(3) {
		t.Errorf("observed generation %v", after["observedGeneration"])
	}
	if findCondition(after, stoppedCondition)["lastTransitionTime"] != findCondition(before, stoppedCondition)["lastTransitionTime"] {
		t.Error("a condition that did not change has a new time")
	}
	if known, ok := after["nodeStatuses"].(map[string]any); !ok || known["n0"] == nil {
		t.Errorf("nodes %v: what is known of one went with its pod", after["nodeStatuses"])
	}
}

func TestOwnersContainersAndTheirOrderAreKept(t *testing.T) {
	request := Request{
		Namespace: "shop", Cluster: "shop", Name: "dc1", Size: 1,
		Medusa: &Medusa{
			Image: recipes.MedusaImage, Secret: "bucket", Endpoint: "http://127.0.0.1:9000", Bucket: "b", Prefix: "p",
		},
	}
	object, err := request.object()
	if err != nil {
		t.Fatal(err)
	}
	dc, err := parse(object)
	if err != nil {
		t.Fatal(err)
	}
	pod := dc.statefulSet(dc.racks()[0]).Spec.Template.Spec
	if len(pod.InitContainers) != 2 || pod.InitContainers[0].Name != ConfigContainer || pod.InitContainers[1].Name != "medusa-restore" {
		t.Errorf("init containers %v", pod.InitContainers)
	}
	if len(pod.Containers) != 2 || pod.Containers[0].Name != CassandraContainer || pod.Containers[1].Name != "medusa" {
		t.Errorf("containers %v", pod.Containers)
	}
}
