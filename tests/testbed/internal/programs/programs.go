// Package programs holds the Kubernetes programs a test fleet runs: the real ones, compiled into this binary from
// their published modules, or those of a KUBEBUILDER_ASSETS folder.
package programs

import (
	"fmt"
	"os"
	"path/filepath"
)

// Names of the programs, as sub-commands, as argv[0] and as files in KUBEBUILDER_ASSETS.
const (
	Etcd                  = "etcd"
	KubeAPIServer         = "kube-apiserver"
	KubeControllerManager = "kube-controller-manager"
	Kubectl               = "kubectl"
	Helm                  = "helm"
)

// AssetsVariable is the environment variable of controller-runtime's envtest that names a folder of programs.
const AssetsVariable = "KUBEBUILDER_ASSETS"

// RunIfNamed runs the embedded program that args ask for, by argv[0] or by sub-command, and does not return then.
// It returns when args ask for none of them.
func RunIfNamed(args []string) {
	if run, ok := embedded[filepath.Base(args[0])]; ok {
		run()
		os.Exit(0)
	}
	if len(args) < 2 {
		return
	}
	if run, ok := embedded[args[1]]; ok {
		os.Args = args[1:]
		run()
		os.Exit(0)
	}
}

// Command is the argv prefix that runs a program: from KUBEBUILDER_ASSETS if it is there, else embedded.
func Command(name string) ([]string, error) {
	if assets := os.Getenv(AssetsVariable); assets != "" {
		path := filepath.Join(assets, name)
		if _, err := os.Stat(path); err == nil {
			return []string{path}, nil
		}
	}
	if _, ok := embedded[name]; ok {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find own binary: %w", err)
		}
		return []string{self, name}, nil
	}
	return nil, fmt.Errorf("%s: not in $%s and this testbed was built without it (tag assets)", name, AssetsVariable)
}
