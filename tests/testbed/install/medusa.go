package install

import (
	"embed"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed pins/medusa-*.txt
var medusaPins embed.FS

// DefaultMedusa is the version in the product's default image.
const DefaultMedusa = "0.29.1"

// MedusaVersions are those that are installed, side by side; each has its list in pins.
var MedusaVersions = []string{DefaultMedusa, "0.31.0"}

// medusa installs one version of cassandra-medusa from PyPI into a virtual environment of its own.
func medusa(version string) Piece {
	requirements := medusaRequirements(version)
	return Piece{
		Name: medusaPiece(version),
		What: "Medusa " + version + " from PyPI",
		pins: []string{requirements},
		run:  func(step *step) error { return installMedusa(step, requirements) },
	}
}

func medusaPiece(version string) string { return "medusa-" + version }

func medusaRequirements(version string) string {
	list, err := medusaPins.ReadFile("pins/medusa-" + version + ".txt")
	if err != nil {
		panic(err) // built without the list of a version
	}
	return string(list)
}

func installMedusa(step *step, requirements string) error {
	python, err := findPython()
	if err != nil {
		return err
	}
	if err := step.command(step.dir, nil, python, "-m", "venv", step.dir); err != nil {
		return fmt.Errorf("%w (Debian and Ubuntu: apt-get install python3-venv)", err)
	}
	list, err := step.write("requirements.txt", requirements)
	if err != nil {
		return err
	}
	// The list is closed under dependencies; resolving them again would only stumble over extras.
	return step.command(step.dir, nil, filepath.Join(step.dir, "bin", "python"), "-m", "pip", "install",
		"--disable-pip-version-check", "--no-deps", "--require-hashes", "--only-binary=:all:", "--requirement", list)
}

// findPython finds an interpreter that the wheels of every version of Medusa accept.
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
	return "", fmt.Errorf("Medusa needs Python 3.11 or 3.12, but %s", strings.Join(seen, ", "))
}
