package install

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

var (
	//go:embed pins/pom.xml
	cassandraPOM string
	//go:embed pins/cassandra.sha256
	cassandraChecksums string
	//go:embed java/TestbedNode.java
	nodeSource string
)

// CassandraVersion is the version in pins/pom.xml.
const CassandraVersion = "5.0.4"

// cassandra installs the server as Maven Central has it, and compiles the program that runs it.
func cassandra() Piece {
	const why = "Cassandra needs a JDK 17 and Maven (Debian and Ubuntu: apt-get install openjdk-17-jdk-headless maven)"
	return Piece{
		Name:  "cassandra",
		What:  "Apache Cassandra " + CassandraVersion + " from Maven Central",
		pins:  []string{cassandraPOM, cassandraChecksums, nodeSource},
		tools: []tool{{"mvn", why}, {"javac", why}},
		run:   installCassandra,
	}
}

func installCassandra(step *step) error {
	pom, err := step.write("pom.xml", cassandraPOM)
	if err != nil {
		return err
	}
	jars := filepath.Join(step.dir, "lib")
	err = step.command(step.dir, nil, "mvn", "--batch-mode", "--no-transfer-progress", "--strict-checksums",
		"--file", pom, "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+jars)
	if err != nil {
		return err
	}
	if err := verify(jars, cassandraChecksums); err != nil {
		return err
	}
	source, err := step.write("TestbedNode.java", nodeSource)
	if err != nil {
		return err
	}
	return step.command(step.dir, nil, "javac", "--release", "17", "-d", filepath.Join(step.dir, "classes"),
		"-cp", filepath.Join(jars, "*"), source)
}

// verify checks that a directory holds exactly the files of a sha256sum list.
func verify(dir, list string) error {
	expected := map[string]string{}
	for line := range strings.Lines(list) {
		sum, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok {
			return fmt.Errorf("checksum list: bad line %q", line)
		}
		expected[name] = sum
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		if found := hex.EncodeToString(sum[:]); found != expected[entry.Name()] {
			return fmt.Errorf("%s has sha256 %s, expected %q", entry.Name(), found, expected[entry.Name()])
		}
		delete(expected, entry.Name())
	}
	for name := range expected {
		return fmt.Errorf("%s was not fetched", name)
	}
	return nil
}
