package sim

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const definitions = "../../../../crds"

func newTestPlane(t testing.TB, seed Seed) *plane {
	t.Helper()
	kinds, err := load(definitions)
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPlane("sim-1", kinds, Config{Seed: seed, MedusaTakes: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *plane) job(t testing.TB, name string) *object {
	t.Helper()
	k := p.kinds.find(medusaGroup, "v1alpha1", "medusabackupjobs")
	job := map[string]any{
		"apiVersion": medusaGroup + "/v1alpha1", "kind": "MedusaBackupJob",
		"metadata": map[string]any{"name": name, "labels": map[string]any{"fleet.k8ssandra.io/job": "j"}},
		"spec":     map[string]any{"cassandraDatacenter": "dc1"},
	}
	made, err := p.store.create(k, "cassandra", &unstructured.Unstructured{Object: job}, write{manager: "m"})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// statusAtTheEnd waits until a run has ended.
func (p *plane) statusAtTheEnd(t *testing.T, k *kind, name string) map[string]any {
	t.Helper()
	for end := time.Now().Add(late); time.Now().Before(end); time.Sleep(time.Millisecond) {
		found, err := p.store.get(k, "cassandra", name)
		if err != nil {
			t.Fatal(err)
		}
		if status, _, _ := unstructured.NestedMap(found.open(k).Object, "status"); status["finishTime"] != nil {
			return status
		}
	}
	t.Fatalf("%s does not end", name)
	return nil
}

func TestABackupEndsWithItsMedusaBackup(t *testing.T) {
	p := newTestPlane(t, Seed{Namespace: "cassandra", Datacenters: 1, Nodes: 3})
	p.job(t, "b1")
	jobs, backups := p.kinds.find(medusaGroup, "v1alpha1", "medusabackupjobs"), p.kinds.find(medusaGroup, "v1alpha1", "medusabackups")
	status := p.statusAtTheEnd(t, jobs, "b1")
	if status["startTime"] == nil || status["inProgress"] != nil || len(status["finished"].([]any)) != 3 {
		t.Errorf("status is %v", status)
	}
	backup, err := p.store.get(backups, "cassandra", "b1")
	if err != nil {
		t.Fatal(err)
	}
	if backup.labels["fleet.k8ssandra.io/job"] != "j" || backup.labels["cassandra.datastax.com/datacenter"] != "dc1" {
		t.Errorf("labels are %v", backup.labels)
	}
	if state, _, _ := unstructured.NestedString(backup.open(backups).Object, "status", "status"); state != "SUCCESS" {
		t.Errorf("its state is %q", state)
	}
}

func TestATaskSaysHowManyPodsItAsked(t *testing.T) {
	p := newTestPlane(t, Seed{Namespace: "cassandra", Datacenters: 1, Nodes: 3})
	k := p.kinds.find(medusaGroup, "v1alpha1", "medusatasks")
	task := map[string]any{
		"apiVersion": medusaGroup + "/v1alpha1", "kind": "MedusaTask", "metadata": map[string]any{"name": "t1"},
		"spec": map[string]any{"cassandraDatacenter": "dc1", "operation": "purge"},
	}
	_, err := p.store.create(k, "cassandra", &unstructured.Unstructured{Object: task}, write{manager: "m"})
	if err != nil {
		t.Fatal(err)
	}
	conditions, _ := p.statusAtTheEnd(t, k, "t1")["conditions"].([]any)
	if len(conditions) == 0 || conditions[0].(map[string]any)["message"] != "3 pods" {
		t.Errorf("its conditions are %v", conditions)
	}
}

func TestNothingIsLeftOfANamespaceThatHadAFinalizer(t *testing.T) {
	p := newTestPlane(t, Seed{Namespace: "cassandra", Datacenters: 1, Nodes: 3, Backups: 2})
	k := p.kinds.namespaces()
	finalizers := func(names ...string) change {
		return change{make: func(live *unstructured.Unstructured) (*unstructured.Unstructured, error) {
			live.SetFinalizers(names)
			return live, nil
		}}
	}
	if _, _, err := p.store.update(k, "", "cassandra", finalizers("example.com/held"), write{}); err != nil {
		t.Fatal(err)
	}
	if _, gone, err := p.store.delete(k, "", "cassandra", metav1.DeleteOptions{}); gone || err != nil {
		t.Fatalf("gone: %v, %v", gone, err)
	}
	if _, _, err := p.store.update(k, "", "cassandra", finalizers(), write{}); err != nil {
		t.Fatal(err)
	}
	if p.store.hasNamespace("cassandra") {
		t.Error("the namespace is still there")
	}
	counts := p.store.counts()
	for _, resource := range []string{"cassandradatacenters.cassandra.datastax.com", "medusabackups." + medusaGroup} {
		if counts[resource] != 0 {
			t.Errorf("%d %s are left", counts[resource], resource)
		}
	}
}

func TestARestoreEndsAndTheJournalTellsOfIt(t *testing.T) {
	f := &Fleet{}
	p := newTestPlane(t, Seed{Namespace: "cassandra", Datacenters: 1, Nodes: 3})
	p.store.heard = func(k *kind, e event) {
		p.medusa.hear(k, e)
		f.journal.hear(p.name, k, e)
	}
	restores := p.kinds.find(medusaGroup, "v1alpha1", "medusarestorejobs")
	content := map[string]any{
		"apiVersion": medusaGroup + "/v1alpha1", "kind": "MedusaRestoreJob", "metadata": map[string]any{"name": "r1"},
		"spec": map[string]any{"cassandraDatacenter": "dc1", "backup": "b1"},
	}
	if _, err := p.store.create(restores, "cassandra", &unstructured.Unstructured{Object: content}, write{manager: "m"}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		restore, err := p.store.get(restores, "cassandra", "r1")
		if err != nil {
			t.Fatal(err)
		}
		status, _, _ := unstructured.NestedMap(restore.open(restores).Object, "status")
		if status["finishTime"] != nil {
			if status["restorePrepared"] != true || status["datacenterStopped"] == nil || len(status["finished"].([]any)) != 3 {
				t.Errorf("status is %v", status)
			}
			break
		}
		if time.Now().After(end) {
			t.Fatal("it does not end")
		}
	}
	if _, _, err := p.store.delete(restores, "cassandra", "r1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	told := f.journal.since(0)
	if len(told) != 2 || told[0].deleted || !told[1].deleted || told[0].object.uid != told[1].object.uid {
		t.Fatalf("the journal is %v", told)
	}
	if ended, _, _ := unstructured.NestedString(told[1].object.open(restores).Object, "status", "finishTime"); ended == "" {
		t.Error("of what was deleted the journal does not say how it was")
	}
	if rest := f.journal.since(1); len(rest) != 1 {
		t.Errorf("after the first there are %d", len(rest))
	}
}

func TestALeaseIsRenewedWithoutAnythingElseChanging(t *testing.T) {
	p := newTestPlane(t, Seed{Namespace: "cassandra"})
	k := p.kinds.find("coordination.k8s.io", "v1", "leases")
	before, _ := p.store.get(k, leaseNamespace, leaseName)
	at := time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC)
	p.renew(at)
	after, _ := p.store.get(k, leaseNamespace, leaseName)
	was, is := before.open(k), after.open(k)
	if renewed, _, _ := unstructured.NestedString(is.Object, "spec", "renewTime"); renewed != "2030-01-02T03:04:05.000006Z" {
		t.Errorf("renewed at %s", renewed)
	}
	if is.GetResourceVersion() == was.GetResourceVersion() || is.GetResourceVersion() != fmt.Sprint(after.version) {
		t.Errorf("its version is %s", is.GetResourceVersion())
	}
	_ = unstructured.SetNestedField(was.Object, "2030-01-02T03:04:05.000006Z", "spec", "renewTime")
	if !isSame(was, is) {
		t.Errorf("it was %v and is %v", was, is)
	}
}

func TestWhatHappenedLongAgoCannotBeWatched(t *testing.T) {
	var c collection
	begun := time.Now()
	for n := range uint64(2 * most) {
		c.remember(event{version: n + 1, at: begun})
	}
	if len(c.log) != most || c.lost != most {
		t.Errorf("%d are known, up to %d not", len(c.log), c.lost)
	}
	c.remember(event{version: 5000, at: begun.Add(kept + time.Second)})
	if len(c.log) != 1 || c.lost != 2*most {
		t.Errorf("%d are known, up to %d not", len(c.log), c.lost)
	}
	p := newTestPlane(t, Seed{Namespace: "cassandra"})
	p.job(t, "b1")
	p.store.forget()
	if _, _, tooOld := p.store.since(p.kinds.find(medusaGroup, "v1alpha1", "medusabackupjobs"), 3); !tooOld {
		t.Error("it is watched from before it was forgotten")
	}
}

// running is a simulation, and a client of its first data plane.
type running struct {
	*testing.T
	fleet  *Fleet
	client *server
}

func start(t *testing.T, planes int) running {
	fleet := startFleet(t, planes)
	t.Cleanup(fleet.Stop)
	return running{T: t, fleet: fleet, client: connect(t, "simulated", fleet.Describe().Clusters[0].Kubeconfig)}
}

func startFleet(t *testing.T, planes int) *Fleet {
	t.Helper()
	fleet, err := Start(Config{
		Dir: t.TempDir(), Planes: planes, Definitions: definitions, MedusaTakes: time.Hour,
		Seed: Seed{Namespace: "cassandra", Datacenters: 1, Nodes: 3, Backups: 2},
	})
	if err != nil {
		t.Fatal(err)
	}
	return fleet
}

func (r running) fault(order string) {
	r.Helper()
	response, err := http.Post(r.fleet.Admin()+"/faults", "application/json", strings.NewReader(order))
	if err != nil {
		r.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(response.Body)
		r.Fatalf("%s: %s", response.Status, text)
	}
}

// get asks with a time limit, and returns what came of it, whole or not.
func (r running) get(path string, limit time.Duration) (int, http.Header, string, error) {
	client := *r.client.client
	client.Timeout = limit
	response, err := client.Get(r.client.url + path)
	if err != nil {
		return 0, nil, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, response.Header, string(text), err
}

func TestProtobufIsRefusedWithAStatus(t *testing.T) {
	r := start(t, 1)
	response, body := r.client.ask(t, http.MethodPost, "/api/v1/namespaces/cassandra/secrets", "application/vnd.kubernetes.protobuf", "", "k8s", "")
	if response.StatusCode != http.StatusUnsupportedMediaType || !strings.Contains(string(body), `"kind":"Status"`) {
		t.Errorf("%s %s", response.Status, body)
	}
}

func TestCountersAndObjects(t *testing.T) {
	r := start(t, 2)
	for _, path := range []string{"/api/v1/secrets", "/api/v1/secrets", "/version", "/api/v1/namespaces/no"} {
		if _, _, _, err := r.get(path, late); err != nil {
			t.Fatal(err)
		}
	}
	var told struct {
		Sum    Counts            `json:"sum"`
		Planes map[string]Counts `json:"planes"`
	}
	r.read("/counters", &told)
	first := told.Planes["sim-1"]
	if first.Requests["list secrets"] != 2 || first.Requests["get /version"] != 1 || first.Answers["404"] != 1 ||
		first.Connections != 1 || first.BytesOut == 0 || told.Sum.Requests["list secrets"] != 2 ||
		len(told.Planes["sim-2"].Requests) != 0 {
		t.Errorf("%+v", told)
	}
	var objects struct {
		Sum map[string]int `json:"sum"`
	}
	r.read("/objects?sum=true", &objects)
	if objects.Sum["medusabackups."+medusaGroup] != 4 || objects.Sum["cassandradatacenters.cassandra.datastax.com"] != 2 {
		t.Errorf("%v", objects)
	}
}

func (r running) read(path string, into any) {
	r.Helper()
	response, err := http.Get(r.fleet.Admin() + path)
	if err == nil {
		defer response.Body.Close()
		err = json.NewDecoder(response.Body).Decode(into)
	}
	if err != nil {
		r.Fatal(err)
	}
}

func TestPagesAreTheWholeList(t *testing.T) {
	p := newTestPlane(t, Seed{Namespace: "cassandra"})
	var want []string
	for n := range 25 {
		want = append(want, p.job(t, fmt.Sprintf("b%02d", n)).name)
	}
	k := p.kinds.find(medusaGroup, "v1alpha1", "medusabackupjobs")
	all, err := selected(target{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	var after *object
	for {
		found := p.store.list(k, all, after, 10)
		for _, o := range found.objects {
			got = append(got, o.name)
		}
		if after = found.next; after == nil {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("pages have %v", got)
	}
	if _, _, err := readToken("x"); err == nil {
		t.Error("a token is taken that is none")
	}
}

func TestPathsLeadToResources(t *testing.T) {
	for path, want := range map[string]target{
		"/api/v1/namespaces":           {version: "v1", plural: "namespaces"},
		"/api/v1/namespaces/a":         {version: "v1", plural: "namespaces", name: "a"},
		"/api/v1/namespaces/a/status":  {version: "v1", plural: "namespaces", name: "a", part: "status"},
		"/api/v1/namespaces/a/secrets": {version: "v1", namespace: "a", plural: "secrets"},
		"/apis/apps/v1/namespaces/a/deployments/d": {
			group: "apps", version: "v1", namespace: "a", plural: "deployments", name: "d"},
		"/apis/medusa.k8ssandra.io/v1alpha1/medusabackups": {group: medusaGroup, version: "v1alpha1", plural: "medusabackups"},
		"/apis/medusa.k8ssandra.io/v1alpha1/namespaces/a/x/b/status": {
			group: medusaGroup, version: "v1alpha1", namespace: "a", plural: "x", name: "b", part: "status"},
	} {
		if got, ok := parse(path); !ok || got != want {
			t.Errorf("%s leads to %+v", path, got)
		}
	}
	for _, path := range []string{"/", "/version", "/api", "/api/v1", "/apis/apps/v1", "/api/v1/namespaces/a/b/c/d/e"} {
		if got, ok := parse(path); ok {
			t.Errorf("%s leads to %+v", path, got)
		}
	}
}
