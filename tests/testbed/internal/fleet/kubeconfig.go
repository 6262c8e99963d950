package fleet

import (
	"os"

	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/certs"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/kubeconfig"
)

// writeKubeconfig writes an administrator's kubeconfig.
func writeKubeconfig(path, name, server string, files certs.Files) error {
	ca, err := os.ReadFile(files.CA)
	if err != nil {
		return err
	}
	cert, err := os.ReadFile(files.AdminCert)
	if err != nil {
		return err
	}
	key, err := os.ReadFile(files.AdminKey)
	if err != nil {
		return err
	}
	return kubeconfig.Write(path, name, server, ca, clientcmdapi.AuthInfo{ClientCertificateData: cert, ClientKeyData: key})
}
