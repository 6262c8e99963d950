package recipes

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
	"time"
)

//go:embed files
var files embed.FS

// Mount paths of a cass-operator pod that the recipes rely on.
const (
	ConfigPath = "/etc/cassandra"
	DataPath   = "/var/lib/cassandra"
	LogPath    = "/var/log/cassandra"
)

// Environment of the configuration container.
const (
	ClusterVariable    = "CLUSTER_NAME"
	DatacenterVariable = "DATACENTER_NAME"
	RackVariable       = "RACK_NAME"
	// SeedVariable names the one pod that may start a new ring. The others start after it.
	SeedVariable = "SEED_POD"
)

const cqlPort = "9042"

var templates = template.Must(template.ParseFS(files, "files/*.tmpl"))

// configureCassandra writes the configuration files, as soon as the seed has an address.
func configureCassandra(ctx context.Context, container Container) error {
	for _, name := range []string{ClusterVariable, DatacenterVariable, RackVariable} {
		if container.Env[name] == "" {
			return fmt.Errorf("%s is not set", name)
		}
	}
	seed := container.Address
	if pod := container.Env[SeedVariable]; pod != "" && pod != container.Pod.Name {
		var err error
		if seed, err = awaitSeed(ctx, container, pod, func(string) bool { return true }); err != nil {
			return err
		}
	}
	directory, err := container.path(ConfigPath)
	if err != nil {
		return err
	}
	values := map[string]string{
		"Cluster": container.Env[ClusterVariable], "Datacenter": container.Env[DatacenterVariable],
		"Rack": container.Env[RackVariable], "Address": container.Address, "Seed": seed,
	}
	for _, name := range []string{"cassandra.yaml", "cassandra-rackdc.properties", "logback.xml"} {
		var text bytes.Buffer
		if err := templates.ExecuteTemplate(&text, name+".tmpl", values); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(directory, name), text.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// awaitSeed waits for the seed's pod to have an address that will do.
func awaitSeed(ctx context.Context, container Container, pod string, will func(address string) bool) (string, error) {
	for {
		if address, ok := container.AddressOf(pod); ok && will(address) {
			return address, nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("seed %s: %w", pod, ctx.Err())
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// cassandra starts a node once the seed answers: cass-operator, which starts Cassandra in pods that run already, starts
// the seeds first.
func cassandra(container Container) (Launch, error) {
	java, err := findJava()
	if err != nil {
		return Launch{}, err
	}
	flags, err := files.ReadFile("files/jvm.flags")
	if err != nil {
		return Launch{}, err
	}
	argv := []string{java}
	for line := range strings.Lines(string(flags)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			argv = append(argv, line)
		}
	}
	argv = append(argv,
		"-javaagent:"+filepath.Join(container.Paths.Lib, "jamm-0.4.0.jar"),
		"-Dtestbed.management.address="+container.Address,
		"-Dcassandra.config=file://"+ConfigPath+"/cassandra.yaml",
		"-Dlogback.configurationFile="+ConfigPath+"/logback.xml",
		"-Dcassandra.storagedir="+DataPath,
		"-Dcassandra.logdir="+LogPath,
		"-cp", ConfigPath+":"+container.Paths.Classes+":"+container.Paths.Jars,
		"TestbedNode",
	)
	launch := Launch{Argv: argv, Ready: func(ctx context.Context) error { return AnswersCQL(ctx, container.Address) }}
	if pod := container.Env[SeedVariable]; pod != "" && pod != container.Pod.Name {
		launch.Await = func(ctx context.Context) error {
			_, err := awaitSeed(ctx, container, pod, func(address string) bool { return AnswersCQL(ctx, address) == nil })
			return err
		}
	}
	return launch, nil
}

func findJava() (string, error) {
	if home := os.Getenv("JAVA_HOME"); home != "" {
		return filepath.Join(home, "bin", "java"), nil
	}
	return exec.LookPath("java")
}

// AnswersCQL sends OPTIONS and expects SUPPORTED, the first exchange of every driver.
func AnswersCQL(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	connection, err := new(net.Dialer).DialContext(ctx, "tcp4", net.JoinHostPort(address, cqlPort))
	if err != nil {
		return err
	}
	defer connection.Close()
	deadline, _ := ctx.Deadline()
	_ = connection.SetDeadline(deadline)
	const version, options, supported, response = 4, 0x05, 0x06, 0x80
	// Version, flags, stream (two bytes), opcode, length of the body (four bytes).
	if _, err := connection.Write([]byte{version, 0, 0, 0, options, 0, 0, 0, 0}); err != nil {
		return err
	}
	header := make([]byte, 9)
	if _, err := connection.Read(header); err != nil {
		return err
	}
	if header[0]&response == 0 || header[4] != supported {
		return errors.New("the server does not answer OPTIONS with SUPPORTED")
	}
	return nil
}
