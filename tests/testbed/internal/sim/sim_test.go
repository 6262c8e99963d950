package sim

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
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

// What is answered is answered long before late, also on a busy machine; what is not is not waited for longer than soon.
const soon, late = time.Second, 20 * time.Second

func TestFaults(t *testing.T) {
	r := start(t, 2)
	const path, watch = "/api/v1/namespaces/kube-system", "/api/v1/secrets?watch=true&resourceVersion=1000"
	_, _, healthy, err := r.get(path, late)
	if err != nil {
		t.Fatal(err)
	}
	expect := func(name string, ok bool, got ...any) {
		t.Helper()
		if !ok {
			t.Errorf("%s: %v", name, got)
		}
	}
	r.fault(`{"fault":"hang"}`)
	_, _, _, err = r.get(path, soon)
	expect("hang", os.IsTimeout(err), err)
	r.fault(`{"fault":"delay","millis":60000}`)
	_, _, _, err = r.get(path, soon)
	expect("delay", os.IsTimeout(err), err)
	begun := time.Now()
	r.fault(`{"fault":"delay","millis":50}`)
	_, _, text, err := r.get(path, late)
	expect("a short delay", text == healthy && time.Since(begun) >= 50*time.Millisecond, text, err)
	r.fault(`{"fault":"slow-body","millis":60000}`)
	code, _, _, err := r.get(path, soon)
	expect("slow-body", code == http.StatusOK && err != nil, code, err)
	r.fault(`{"fault":"trickle","bytesPerSecond":20}`)
	code, _, text, err = r.get(path, soon)
	expect("trickle", code == http.StatusOK && err != nil && text != "" && strings.HasPrefix(healthy, text), code, text, err)
	r.fault(`{"fault":"busy","retryAfter":7}`)
	code, header, _, err := r.get(path, late)
	expect("busy", code == http.StatusTooManyRequests && header.Get("Retry-After") == "7", code, err)
	r.fault(`{"fault":"busy","share":0.000000001}`)
	code, _, _, err = r.get(path, late)
	expect("hardly ever busy", code == http.StatusOK, code, err)
	r.fault(`{"fault":"broken","code":502}`)
	code, _, text, _ = r.get(path, late)
	expect("broken", code == http.StatusBadGateway && strings.Contains(text, `"kind":"Status"`), code, text)
	r.fault(`{"fault":"html"}`)
	code, _, text, _ = r.get(path, late)
	expect("html", code == http.StatusOK && strings.HasPrefix(text, "<html>"), code, text)
	r.fault(`{"fault":"other-uid"}`)
	_, _, text, _ = r.get(path, late)
	expect("other-uid", text != healthy && len(text) == len(healthy), text)
	_, _, page, err := r.get("/api/v1/namespaces?limit=1", late)
	var first metav1.List
	expect("a page", err == nil && json.Unmarshal([]byte(page), &first) == nil && first.Continue != "", page, err)
	next := "/api/v1/namespaces?limit=1&continue=" + first.Continue
	code, _, text, _ = r.get(next, late)
	expect("the next page", code == http.StatusOK, code, text)
	r.fault(`{"fault":"gone"}`)
	_, _, text, err = r.get(watch, late)
	expect("gone", strings.Contains(text, `"code":410`), text, err)
	code, _, text, _ = r.get(next, late)
	expect("a list that is gone", code == http.StatusGone, code, text)
	r.fault(`{"fault":"truncate"}`)
	_, _, text, err = r.get(watch, late)
	expect("truncate", err != nil && !strings.HasSuffix(text, "\n"), text, err)
	r.fault(`{"fault":"cut"}`)
	_, _, _, err = r.get(path, late)
	expect("cut", err != nil && !os.IsTimeout(err), err)
	r.fault(`{"fault":"none"}`)
	_, _, text, err = r.get(path, late)
	expect("none", text == healthy, text, err)
}

func TestAWatchGoesOnAfterAHang(t *testing.T) {
	r := start(t, 1)
	response, err := r.client.client.Get(r.client.url + "/apis/" + medusaGroup + "/v1alpha1/medusabackupjobs?watch=true")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewReader(response.Body)
	line := make(chan string, 1)
	go func() {
		text, _ := lines.ReadString('\n')
		line <- text
	}()
	r.fault(`{"fault":"hang"}`)
	r.fleet.planes[0].job(t, "b1")
	select {
	case text := <-line:
		t.Fatalf("it hangs, and sends %s", text)
	case <-time.After(soon):
	}
	r.fault(`{"fault":"none"}`)
	select {
	case text := <-line:
		if !strings.HasPrefix(text, `{"type":"ADDED"`) {
			t.Errorf("it sends %q", text)
		}
	case <-time.After(late):
		t.Error("it still hangs")
	}
}

func TestATrickleEndsWithItsFault(t *testing.T) {
	r := start(t, 1)
	r.fault(`{"fault":"trickle","bytesPerSecond":1}`)
	client := *r.client.client
	client.Timeout = late
	response, err := client.Get(r.client.url + "/api/v1/namespaces/kube-system")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	r.fault(`{"fault":"none"}`)
	if text, err := io.ReadAll(response.Body); err != nil || !strings.HasSuffix(string(text), "}\n") {
		t.Errorf("%v after %s", err, text)
	}
}

func TestASimulationEndsWhileADataPlaneIsStopped(t *testing.T) {
	fleet := startFleet(t, 2)
	r := running{T: t, fleet: fleet, client: connect(t, "simulated", fleet.Describe().Clusters[0].Kubeconfig)}
	if status, _, _, err := r.get("/version", late); status != http.StatusOK {
		t.Fatal(status, err)
	}
	r.fault(`{"fault":"stop"}`)
	ended := make(chan struct{})
	go func() {
		fleet.Stop()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(late):
		t.Error("it does not end")
	}
}

func TestASimulationOfNothingHasNoObjects(t *testing.T) {
	fleet := startFleet(t, 0)
	defer fleet.Stop()
	var objects struct {
		Sum    map[string]int `json:"sum"`
		Planes map[string]any `json:"planes"`
	}
	running{T: t, fleet: fleet}.read("/objects", &objects)
	if len(objects.Sum) != 0 || objects.Planes == nil || len(objects.Planes) != 0 {
		t.Errorf("%+v", objects)
	}
}

func TestAStoppedDataPlaneSaysNothingEvenAboutItsConnections(t *testing.T) {
	r := start(t, 1)
	if status, _, _, err := r.get("/version", late); status != http.StatusOK {
		t.Fatal(status, err)
	}
	r.fault(`{"fault":"stop"}`)
	if _, _, _, err := r.get("/version", soon); err == nil {
		t.Error("the connection that is there is answered")
	}
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
	dialling, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	if _, err := dialer.DialContext(dialling, "tcp", strings.TrimPrefix(r.client.url, "https://")); err == nil {
		t.Error("a new connection is answered")
	}
	r.fault(`{"fault":"none"}`)
	if status, _, _, err := r.get("/version", late); status != http.StatusOK {
		t.Error(status, err)
	}
}

func TestAFractionOfThePlanesIsSpreadEvenly(t *testing.T) {
	f := &Fleet{}
	for n := range 10 {
		f.planes = append(f.planes, &plane{name: fmt.Sprint(n)})
	}
	chosen, err := f.choose(order{Fraction: 0.3})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range chosen {
		names = append(names, p.name)
	}
	if !slices.Equal(names, []string{"3", "6", "9"}) {
		t.Errorf("it is %v", names)
	}
	for _, wrong := range []order{{Fraction: 2}, {Planes: []string{"x"}}} {
		if _, err := f.choose(wrong); err == nil {
			t.Errorf("%v is taken", wrong)
		}
	}
}

func TestFaultsThatMakeNoSenseAreRefused(t *testing.T) {
	wrong := []Fault{{Name: "x"}, {}, {Name: Delay}, {Name: Broken, Code: 200}, {Name: Busy, Share: 2}, {Name: Busy, Share: -1}}
	for _, name := range []string{None, Hang, Stop, Truncate, Gone, OtherUID, Cut} {
		if _, err := (Fault{Name: name}).complete(); err != nil {
			t.Error(err)
		}
		wrong = append(wrong, Fault{Name: name, Share: 0.5})
	}
	for _, fault := range wrong {
		if _, err := fault.complete(); err == nil {
			t.Errorf("%v is taken", fault)
		}
	}
	if _, err := (Fault{Name: Busy, Share: 0.5}).complete(); err != nil {
		t.Error(err)
	}
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
