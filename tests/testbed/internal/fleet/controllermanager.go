package fleet

import (
	"path/filepath"
	"strings"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/process"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/programs"
)

// controllers are those a fleet's tests depend on. Node and volume controllers are left out on purpose: the pod runner
// stands in for what they would watch over.
var controllers = []string{
	"deployment-controller",
	"disruption-controller",
	"garbage-collector-controller",
	"namespace-controller",
	"replicaset-controller",
	"root-ca-certificate-publisher-controller",
	"serviceaccount-controller",
	"serviceaccount-token-controller",
	"statefulset-controller",
}

func (c *Cluster) startControllerManager(dir string) error {
	argv, err := programs.Command(programs.KubeControllerManager)
	if err != nil {
		return err
	}
	c.manager, err = process.Start(process.Spec{
		Argv: append(argv[:len(argv):len(argv)],
			"--kubeconfig="+c.Kubeconfig,
			"--controllers="+strings.Join(controllers, ","),
			"--service-account-private-key-file="+c.files.ServiceAccountKey,
			"--root-ca-file="+c.files.CA,
			"--leader-elect=false",
			"--secure-port=0",
		),
		Env: thrift(),
		Log: filepath.Join(dir, c.Name+".kube-controller-manager.log"),
	})
	return err
}
