package datacenter

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
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

func TestStoppedDatacenterHasNoPodsAndIsNotReady(t *testing.T) {
	dc := declared(t, map[string]any{"stopped": true})
	set := dc.statefulSet(dc.racks()[0])
	if *set.Spec.Replicas != 0 {
		t.Errorf("%d replicas", *set.Spec.Replicas)
	}
	status := dc.status(nil, []*appsv1.StatefulSet{set}, nil)
	if got := conditionStatus(status, stoppedCondition); got != "True" {
		t.Errorf("Stopped is %q", got)
	}
	if got := conditionStatus(status, readyCondition); got != "False" {
		t.Errorf("Ready is %q", got)
	}
	if status["cassandraOperatorProgress"] != progressReady {
		t.Errorf("progress %v: nothing is left to do", status["cassandraOperatorProgress"])
	}
}

func TestReadyOnceAllNodesAre(t *testing.T) {
	dc := declared(t, nil)
	set := dc.statefulSet(dc.racks()[0])
	set.Status = appsv1.StatefulSetStatus{Replicas: 5, ReadyReplicas: 4, UpdatedReplicas: 5}
	before := dc.status(nil, []*appsv1.StatefulSet{set}, nil)
	if got := conditionStatus(before, readyCondition); got != "False" {
		t.Errorf("Ready is %q with 4 of 5 nodes", got)
	}
	set.Status.ReadyReplicas = 5
	after := dc.status(before, []*appsv1.StatefulSet{set}, nil)
	if got := conditionStatus(after, readyCondition); got != "True" {
		t.Errorf("Ready is %q with all nodes", got)
	}
	if findCondition(after, stoppedCondition)["lastTransitionTime"] != findCondition(before, stoppedCondition)["lastTransitionTime"] {
		t.Error("a condition that did not change has a new time")
	}
}

func TestOwnersContainersAndTheirOrderAreKept(t *testing.T) {
	request := Request{
		Namespace: "shop", Cluster: "shop", Name: "dc1", Size: 1,
		Medusa: &Medusa{Secret: "bucket", Endpoint: "http://127.0.0.1:9000", Bucket: "b", Prefix: "p"},
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
