package fleet

import (
	"context"
	"errors"
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

// errExited is worth another try on another port: most likely somebody else has taken the first one.
var errExited = errors.New("it exited")

// waitUntil polls check until it succeeds, the program ends or the time is over.
func waitUntil(ctx context.Context, child *process.Process, timeout time.Duration, check func(context.Context) error) error {
	deadline := time.After(timeout)
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-child.Done():
			return fmt.Errorf("%w with code %d", errExited, child.ExitCode())
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline:
			return fmt.Errorf("not ready after %s: %w", timeout, err)
		case <-time.After(pollInterval):
		}
	}
}

func get(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
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
