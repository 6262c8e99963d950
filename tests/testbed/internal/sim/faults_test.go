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
)

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
