package fleet

import (
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/certs"
)

// writeKubeconfig writes an administrator's kubeconfig with all keys and certificates inline, as one that is to be
// pasted into a Secret must have them.
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
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: ca}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{ClientCertificateData: cert, ClientKeyData: key}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	data, err := clientcmd.Write(*config)
	if err != nil {
		return err
	}
	return replaceFile(path, data)
}

// replaceFile writes a file that readers see either as it was or complete.
func replaceFile(path string, data []byte) error {
	temporary := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.WriteFile(temporary, data, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
