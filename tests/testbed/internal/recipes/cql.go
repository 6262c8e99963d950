package recipes

import (
	"fmt"
	"os"
	"os/exec"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/install"
)

// CQL runs statements against a node with the driver that Medusa itself uses.
func CQL(paths install.Paths, address string, arguments ...string) error {
	script, err := files.ReadFile("files/cql.py")
	if err != nil {
		return err
	}
	command := exec.Command(paths.Pythons[install.DefaultMedusa], append([]string{"-c", string(script), address}, arguments...)...)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("cql: %w", err)
	}
	return nil
}
