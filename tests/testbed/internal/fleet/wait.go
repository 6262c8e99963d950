package fleet

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/process"
)

// StartError names the program that did not come up and the file it logged to.
type StartError struct {
	Program string
	Log     string
	Err     error
}

func (e *StartError) Error() string {
	return fmt.Sprintf("%s did not become ready: %v", e.Program, e.Err)
}

// Unwrap gives the cause.
func (e *StartError) Unwrap() error { return e.Err }

const pollInterval = 50 * time.Millisecond

var plainClient = &http.Client{Timeout: 2 * time.Second}

// waitUntil polls check until it succeeds, the program ends or the time is over.
func waitUntil(child *process.Process, timeout time.Duration, check func() error) error {
	deadline := time.After(timeout)
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-child.Done():
			return fmt.Errorf("it exited with code %d", child.ExitCode())
		case <-deadline:
			return fmt.Errorf("not ready after %s: %w", timeout, err)
		case <-time.After(pollInterval):
		}
	}
}

func get(client *http.Client, url string) error {
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(response.Body, 2048))
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", url, response.Status, body)
	}
	return nil
}
