package install

import (
	_ "embed"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed pins/requirements.txt
var medusaRequirements string

// MedusaVersion is the version in pins/requirements.in.
const MedusaVersion = "0.31.0"

// medusa installs cassandra-medusa from PyPI into a virtual environment.
func medusa() Piece {
	return Piece{
		Name: "medusa",
		What: "Medusa " + MedusaVersion + " from PyPI",
		pins: []string{medusaRequirements},
		run:  installMedusa,
	}
}

func installMedusa(step *step) error {
	python, err := findPython()
	if err != nil {
		return err
	}
	if err := step.command(step.dir, nil, python, "-m", "venv", step.dir); err != nil {
		return fmt.Errorf("%w (Debian and Ubuntu: apt-get install python3-venv)", err)
	}
	requirements, err := step.write("requirements.txt", medusaRequirements)
	if err != nil {
		return err
	}
	// The list is closed under dependencies; resolving them again would only stumble over extras.
	return step.command(step.dir, nil, filepath.Join(step.dir, "bin", "python"), "-m", "pip", "install",
		"--disable-pip-version-check", "--no-deps", "--require-hashes", "--only-binary=:all:", "--requirement", requirements)
}

// findPython finds an interpreter that Medusa's wheel accepts.
func findPython() (string, error) {
	var seen []string
	for _, name := range []string{"python3.12", "python3.11", "python3"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		output, err := exec.Command(path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").Output()
		if err != nil {
			continue // a shim of a version that is not selected
		}
		version := strings.TrimSpace(string(output))
		if version == "3.11" || version == "3.12" {
			return path, nil
		}
		seen = append(seen, fmt.Sprintf("%s is %s", path, version))
	}
	if seen == nil {
		seen = []string{"there is no python3"}
	}
	return "", fmt.Errorf("Medusa %s needs Python 3.11 or 3.12, but %s", MedusaVersion, strings.Join(seen, ", "))
}
