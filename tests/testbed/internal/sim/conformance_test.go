package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/protocol"
)

// testbedVariable names the testbed that has a real API server; without it, where the Makefile puts it is looked at.
const testbedVariable = "MEDUSA_FLEET_TESTBED"

const builtTestbed = "../../../../target/testbed/testbed"

// server is an API server, real or simulated, and what was read from its answers.
type server struct {
	name   string
	url    string
	client *http.Client
	// stranger is nobody's client.
	stranger *http.Client
	known    map[string]string
}

func TestAnswersAreThoseOfARealAPIServer(t *testing.T) {
	if testing.Short() {
		t.Skip("starts an API server")
	}
	begun := time.Now()
	real, simulated := realServer(t), simulatedServer(t)
	t.Logf("ready after %s", time.Since(begun).Round(time.Second))
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			want, got := real.take(t, step), simulated.take(t, step)
			if reflect.DeepEqual(want, got) {
				return
			}
			for _, line := range differences("", want, got) {
				t.Error(line)
			}
		})
	}
}

// realServer starts one, with our definitions.
func realServer(t *testing.T) *server {
	program := os.Getenv(testbedVariable)
	isNamed := program != ""
	if !isNamed {
		program = builtTestbed
	}
	if _, err := os.Stat(program); err != nil {
		if isNamed {
			t.Fatalf("%s: %v", testbedVariable, err)
		}
		t.Skipf("no testbed: %v", err)
	}
	program, err := filepath.Abs(program)
	if err != nil {
		t.Fatal(err)
	}
	up := exec.Command(program, "up", "--dir", t.TempDir(), "--data-planes", "0")
	up.Stderr = os.Stderr
	input, err := up.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := up.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = input.Close()
		_ = up.Wait()
	})
	var ready protocol.Ready
	if err := json.NewDecoder(output).Decode(&ready); err != nil || !ready.Ready {
		t.Fatalf("no API server: %v %s", err, ready.Error)
	}
	s := connect(t, "real", ready.Clusters[0].Kubeconfig)
	s.define(t)
	return s
}

func simulatedServer(t *testing.T) *server {
	fleet, err := Start(Config{Dir: t.TempDir(), Planes: 1, Definitions: definitions, Seed: Seed{Namespace: "default"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fleet.Stop)
	return connect(t, "simulated", fleet.Describe().Clusters[0].Kubeconfig)
}

func connect(t *testing.T, name, kubeconfig string) *server {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := rest.HTTPClientFor(rest.AnonymousClientConfig(config))
	if err != nil {
		t.Fatal(err)
	}
	return &server{name: name, url: config.Host, client: client, stranger: stranger, known: map[string]string{}}
}

// define installs our definitions, and waits until they are served.
func (s *server) define(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(definitions, medusaGroup+"_*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if text, err = yaml.YAMLToJSON(text); err != nil {
			t.Fatal(err)
		}
		path := "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
		response, _ := s.ask(t, http.MethodPost, path, "application/json", "", string(text), "")
		if response.StatusCode != http.StatusCreated {
			t.Fatalf("%s: %s", file, response.Status)
		}
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		served := 0
		for _, plural := range []string{"medusabackupjobs", "medusabackups", "medusabackupschedules", "medusaconfigurations"} {
			response, _ := s.ask(t, http.MethodGet, "/apis/"+medusaGroup+"/v1alpha1/"+plural, "", "", "", "")
			if response.StatusCode == http.StatusOK {
				served++
			}
		}
		_, discovered := s.ask(t, http.MethodGet, "/openapi/v3/apis/"+medusaGroup+"/v1alpha1", "", "", "", "")
		if served == 4 && bytes.Contains(discovered, []byte("MedusaTaskList")) {
			return
		}
		if time.Now().After(end) {
			t.Fatal("the definitions are not served")
		}
	}
}

// ask sends one request and reads the whole answer.
func (s *server) ask(t *testing.T, method, path, contentType, accept, body, token string) (*http.Response, []byte) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("User-Agent", "conformance/1")
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	if accept != "" {
		request.Header.Set("Accept", accept)
	}
	client := s.client
	if token != "" {
		client = s.stranger
		if token != nobody {
			request.Header.Set("Authorization", "Bearer "+token)
		}
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
	return response, text
}

// take takes a step, and returns what of the answer has to be the same everywhere.
func (s *server) take(t *testing.T, step step) map[string]any {
	fill := func(text string) string {
		for name, value := range s.known {
			text = strings.ReplaceAll(text, "<"+name+">", value)
		}
		return text
	}
	method, path, _ := strings.Cut(step.request, " ")
	contentType := step.as
	if contentType == "" && step.body != "" {
		contentType = "application/json"
	}
	response, text := s.ask(t, method, fill(path), contentType, step.accept, fill(step.body), step.token)
	answer := map[string]any{
		"code": response.StatusCode, "type": strings.Split(response.Header.Get("Content-Type"), ";")[0],
		"audited": response.Header.Get("Audit-Id") != "",
	}
	if strings.Contains(path, "watch=") && response.StatusCode == http.StatusOK {
		var events []any
		for line := range bytes.Lines(text) {
			events = append(events, s.shape(t, step, line))
		}
		answer["events"] = events
		return answer
	}
	if answer["type"] == "application/json" && method != http.MethodHead {
		answer["body"] = s.shape(t, step, text)
	} else {
		answer["body"] = string(text)
	}
	return answer
}

func (s *server) shape(t *testing.T, step step, text []byte) any {
	var value map[string]any
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatalf("%s: %v in %s", s.name, err, text)
	}
	// Masked below, but both servers have to agree on whether the version is the one that was remembered.
	isSame := dig(value, []string{"metadata", "resourceVersion"}) == s.known["rv"]
	for name, path := range step.remember {
		if found := dig(value, strings.Split(path, ".")); found != nil {
			s.known[name] = fmt.Sprint(found)
		}
	}
	if step.see != nil {
		return step.see(value)
	}
	return map[string]any{"object": masked(value), "in the version that was remembered": isSame}
}

func dig(value any, path []string) any {
	for _, step := range path {
		object, _ := value.(map[string]any)
		value = object[step]
	}
	return value
}

// Values that differ from server to server.
var theirs = map[string]bool{
	"uid": true, "resourceVersion": true, "creationTimestamp": true, "deletionTimestamp": true, "time": true, "continue": true,
}

// masked is a value without what no two servers have in common.
func masked(value any) any {
	switch value := value.(type) {
	case map[string]any:
		shape := map[string]any{}
		for key, part := range value {
			switch {
			case theirs[key] && part != nil && part != "":
				shape[key] = "*"
			case key == "message":
				// People read it, and the details say the same.
			case key == "managedFields", key == "causes":
				shape[key] = sorted(masked(part))
			default:
				shape[key] = masked(part)
			}
		}
		return shape
	case []any:
		shape := make([]any, len(value))
		for i, part := range value {
			shape[i] = masked(part)
		}
		return shape
	default:
		return value
	}
}

// sorted are managers in an order that does not depend on when they wrote, and causes in any.
func sorted(list any) any {
	entries, isList := list.([]any)
	if !isList {
		return list
	}
	order := func(entry any) string {
		fields, _ := entry.(map[string]any)
		return fmt.Sprint(fields["manager"], fields["operation"], fields["subresource"], fields["field"], fields["reason"])
	}
	slices.SortFunc(entries, func(a, b any) int { return strings.Compare(order(a), order(b)) })
	return entries
}

// differences are the places in which two values differ.
func differences(path string, want, got any) []string {
	wanted, isObject := want.(map[string]any)
	found, isToo := got.(map[string]any)
	if isObject && isToo {
		var all []string
		for key := range wanted {
			all = append(all, differences(path+"."+key, wanted[key], found[key])...)
		}
		for key := range found {
			if _, ok := wanted[key]; !ok {
				all = append(all, differences(path+"."+key, nil, found[key])...)
			}
		}
		return all
	}
	list, isList := want.([]any)
	other, isOther := got.([]any)
	if isList && isOther && len(list) == len(other) {
		var all []string
		for i := range list {
			all = append(all, differences(fmt.Sprintf("%s[%d]", path, i), list[i], other[i])...)
		}
		return all
	}
	if reflect.DeepEqual(want, got) {
		return nil
	}
	text := func(value any) string {
		bytes, _ := json.Marshal(value)
		return string(bytes)
	}
	return []string{fmt.Sprintf("%s is\n  %s in the real one, and here\n  %s", path, text(want), text(got))}
}
