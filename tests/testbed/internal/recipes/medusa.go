package recipes

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

const (
	entrypoint     = "medusa_entrypoint.py"
	medusaGRPCPort = "50051"
)

// medusa runs the modules of one version of Medusa in the two ways of its image, by MEDUSA_MODE: GRPC and RESTORE.
func medusa(version string) func(Container) (Launch, error) {
	return func(container Container) (Launch, error) { return launchMedusa(container, version) }
}

func launchMedusa(container Container, version string) (Launch, error) {
	script, err := files.ReadFile("files/" + entrypoint)
	if err != nil {
		return Launch{}, err
	}
	path := filepath.Join(container.Scratch, entrypoint)
	if err := os.WriteFile(path, script, 0o644); err != nil {
		return Launch{}, err
	}
	host, port, err := net.SplitHostPort(container.Resolver)
	if err != nil {
		return Launch{}, fmt.Errorf("resolver: %w", err)
	}
	target := net.JoinHostPort(container.Address, medusaGRPCPort)
	return Launch{
		Argv: []string{container.Paths.Pythons[version], "-u", path},
		Env: []string{
			"TESTBED_ADDRESS=" + container.Address, "TESTBED_DNS_HOST=" + host, "TESTBED_DNS_PORT=" + port,
			"PYTHONDONTWRITEBYTECODE=1", "TZ=UTC",
		},
		Ready: func(ctx context.Context) error { return AnswersHealth(ctx, target) },
	}, nil
}

// AnswersHealth asks the standard gRPC health service, over a connection of its own: gRPC's reconnection waits longer and
// longer, and a probe must see at once that a server is back.
func AnswersHealth(ctx context.Context, target string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	// While nobody listens, gRPC would log that.
	listening, err := new(net.Dialer).DialContext(ctx, "tcp4", target)
	if err != nil {
		return err
	}
	_ = listening.Close()
	credentials := grpc.WithTransportCredentials(insecure.NewCredentials())
	connection, err := grpc.NewClient("passthrough:///"+target, credentials)
	if err != nil {
		return err
	}
	defer connection.Close()
	answer, err := healthpb.NewHealthClient(connection).Check(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		return err
	}
	if answer.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		return fmt.Errorf("gRPC health is %s", answer.GetStatus())
	}
	return nil
}
