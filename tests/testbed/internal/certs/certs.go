// Package certs makes the keys and certificates of one cluster: a CA of its own, so that a credential of one cluster
// is worth nothing in another, serving certificates for loopback, client certificates of an administrator and of the API
// server when it asks a kubelet, and the key that signs service account tokens.
package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// lifetime is long against any test run and short enough that a forgotten key is soon useless.
const lifetime = 30 * 24 * time.Hour

// Files are the PEM files of one cluster.
type Files struct {
	CA, ServingCert, ServingKey, AdminCert, AdminKey, ServiceAccountKey string
	// What a kubelet serves with, and what the API server shows it.
	KubeletCert, KubeletKey, KubeletClientCert, KubeletClientKey string
}

// APIServerService is the address of the Service `kubernetes`: the first of fleet's range of such addresses.
var APIServerService = net.IPv4(10, 96, 0, 1)

// KubeletClient is the common name by which a kubelet knows the API server.
const KubeletClient = "kube-apiserver-kubelet-client"

// Ensure makes the files of a cluster in dir, or finds those of an earlier run there: a fleet that is started again
// in the same directory must still accept the tokens and kubeconfigs it gave out.
func Ensure(dir string) (Files, error) {
	files := Files{
		CA:                filepath.Join(dir, "ca.crt"),
		ServingCert:       filepath.Join(dir, "serving.crt"),
		ServingKey:        filepath.Join(dir, "serving.key"),
		AdminCert:         filepath.Join(dir, "admin.crt"),
		AdminKey:          filepath.Join(dir, "admin.key"),
		ServiceAccountKey: filepath.Join(dir, "service-account.key"),
		KubeletCert:       filepath.Join(dir, "kubelet.crt"),
		KubeletKey:        filepath.Join(dir, "kubelet.key"),
		KubeletClientCert: filepath.Join(dir, "kubelet-client.crt"),
		KubeletClientKey:  filepath.Join(dir, "kubelet-client.key"),
	}
	// Written last, so that it stands for all of them.
	if _, err := os.Stat(files.KubeletClientCert); err == nil {
		return files, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return files, err
	}
	return files, generate(files, time.Now())
}

func generate(files Files, now time.Time) error {
	authority, err := newAuthority(now)
	if err != nil {
		return err
	}
	if err := writePEM(files.CA, "CERTIFICATE", authority.certificate.Raw); err != nil {
		return err
	}
	serving := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), APIServerService},
		DNSNames:    []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"},
	}
	if err := authority.issue(serving, files.ServingCert, files.ServingKey, now); err != nil {
		return err
	}
	admin := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "testbed-admin", Organization: []string{"system:masters"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if err := authority.issue(admin, files.AdminCert, files.AdminKey, now); err != nil {
		return err
	}
	if _, err := newKey(files.ServiceAccountKey); err != nil {
		return err
	}
	kubelet := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "testbed-kubelet"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if err := authority.issue(kubelet, files.KubeletCert, files.KubeletKey, now); err != nil {
		return err
	}
	client := &x509.Certificate{
		Subject:     pkix.Name{CommonName: KubeletClient},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	return authority.issue(client, files.KubeletClientCert, files.KubeletClientKey, now)
}

type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(now time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "testbed-ca"},
		NotBefore:             now.Add(-time.Minute),
		NotAfter:              now.Add(lifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return &authority{certificate: certificate, key: key}, err
}

func (a *authority) issue(template *x509.Certificate, certFile, keyFile string, now time.Time) error {
	key, err := newKey(keyFile)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	template.SerialNumber = serial
	template.NotBefore, template.NotAfter = now.Add(-time.Minute), now.Add(lifetime)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return fmt.Errorf("issue %s: %w", certFile, err)
	}
	return writePEM(certFile, "CERTIFICATE", der)
}

func newKey(file string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, writePEM(file, "EC PRIVATE KEY", der)
}

func writePEM(file, kind string, der []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
