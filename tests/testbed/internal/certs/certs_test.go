package certs

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"testing"
)

func TestServingCertificateVerifiesForLoopbackOnly(t *testing.T) {
	files, err := Ensure(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(load(t, files.CA))
	serving := load(t, files.ServingCert)
	for name, want := range map[string]bool{"127.0.0.1": true, "localhost": true, "127.0.0.2": false, "example.org": false} {
		_, err := serving.Verify(x509.VerifyOptions{Roots: roots, DNSName: name})
		if (err == nil) != want {
			t.Errorf("verify for %s: %v, want accepted = %v", name, err, want)
		}
	}
}

func TestAdministratorIsInSystemMasters(t *testing.T) {
	files, err := Ensure(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	subject := load(t, files.AdminCert).Subject
	if len(subject.Organization) != 1 || subject.Organization[0] != "system:masters" {
		t.Errorf("organization %v", subject.Organization)
	}
}

func TestSecondRunKeepsTheFiles(t *testing.T) {
	dir := t.TempDir()
	files, err := Ensure(dir)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(files.CA)
	if _, err := Ensure(dir); err != nil {
		t.Fatal(err)
	}
	after, _ := os.ReadFile(files.CA)
	if string(before) != string(after) {
		t.Error("the CA changed")
	}
}

func load(t *testing.T, file string) *x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}
