package podrunner

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/certs"
)

func TestLogOptionsCutTheLog(t *testing.T) {
	const text = "one\ntwo\nthree\n"
	for query, want := range map[string]string{
		"":                         text,
		"tailLines=2":              "two\nthree\n",
		"tailLines=9":              text,
		"tailLines=0":              "",
		"limitBytes=5":             "one\nt",
		"tailLines=2&limitBytes=3": "two",
		"limitBytes=99":            text,
	} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		options, err := parseLogOptions(values)
		if got := string(options.cut([]byte(text))); err != nil || got != want {
			t.Errorf("%q gives %q, %v, want %q", query, got, err, want)
		}
	}
	if _, err := parseLogOptions(url.Values{"follow": {"true"}}); err == nil {
		t.Error("an option that is not there is ignored")
	}
}

func TestLogIsThatOfThePresentStart(t *testing.T) {
	runner := &Runner{config: Config{Dir: t.TempDir(), Cluster: "dp-1"}}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "node-0", UID: "first"}}
	c := newContainer(&worker{runner: runner, pod: pod}, &corev1.Container{Name: "medusa-restore"}, true)
	if _, err := c.logFile(false); err == nil {
		t.Error("a container that never started has a log")
	}
	started := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	c.state = started
	first, err := c.logFile(false)
	if err != nil {
		t.Fatal(err)
	}
	c.restarts, c.state = 1, waiting("CrashLoopBackOff", "")
	if got, err := c.logFile(false); err != nil || got != first {
		t.Errorf("while it waits: %s, %v, want %s", got, err, first)
	}
	c.state = started
	if got, err := c.logFile(false); err != nil || got == first {
		t.Errorf("started again: %s, %v, want another than before", got, err)
	}
	if got, err := c.logFile(true); err != nil || got != first {
		t.Errorf("previous: %s, %v, want %s", got, err, first)
	}
	c.worker.pod = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "node-0", UID: "second"}}
	c.restarts = 0
	if got, err := c.logFile(false); err != nil || got == first {
		t.Errorf("a pod of the same name logs to %s, %v", got, err)
	}
}

func TestOnlyTheAPIServerIsAnswered(t *testing.T) {
	files, err := certs.Ensure(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	handler := http.HandlerFunc(func(response http.ResponseWriter, _ *http.Request) { _, _ = response.Write([]byte("text")) })
	k, err := startKubelet(files, handler)
	if err != nil {
		t.Fatal(err)
	}
	defer k.stop()
	authority, err := os.ReadFile(files.CA)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	ask := func(cert, key string) (string, error) {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		client := http.Client{Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}},
		}}
		response, err := client.Get(fmt.Sprintf("https://%s:%d/", nodeAddress, k.port))
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		return string(text), err
	}
	if text, err := ask(files.KubeletClientCert, files.KubeletClientKey); err != nil || text != "text" {
		t.Errorf("the API server gets %q, %v", text, err)
	}
	if text, err := ask(files.AdminCert, files.AdminKey); err == nil {
		t.Errorf("somebody else gets %q", text)
	}
}
