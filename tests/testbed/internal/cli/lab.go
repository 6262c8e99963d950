package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/install"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/datacenter"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/objectstore"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/recipes"
)

// cacheFlag defaults to the directory of this binary, which is where the Makefile puts both.
func cacheFlag(flags *flag.FlagSet, cache *string) {
	beside := "."
	if self, err := os.Executable(); err == nil {
		beside = filepath.Dir(self)
	}
	flags.StringVar(cache, "cache", beside, "directory of what `testbed install` installs")
}

func installPieces(args []string) error {
	var cache string
	flags := flag.NewFlagSet("install", flag.ExitOnError)
	cacheFlag(flags, &cache)
	_ = flags.Parse(args)
	return install.All(cache, os.Stderr)
}

func createDatacenter(args []string) error {
	var kubeconfig, racks, labels string
	var timeout time.Duration
	var request datacenter.Request
	var medusa datacenter.Medusa
	flags := flag.NewFlagSet("datacenter", flag.ExitOnError)
	flags.StringVar(&kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "kubeconfig of the data plane")
	flags.StringVar(&request.Namespace, "namespace", "default", "namespace, created if it is missing")
	flags.StringVar(&request.Cluster, "cluster", "shop", "name of the Cassandra cluster")
	flags.StringVar(&request.Name, "datacenter", "dc1", "name of the datacenter")
	flags.IntVar(&request.Size, "size", 1, "number of nodes")
	flags.StringVar(&racks, "racks", "", "names of racks, separated by commas")
	flags.StringVar(&labels, "labels", "", "labels of the CassandraDatacenter, name=value, separated by commas")
	flags.StringVar(&medusa.Secret, "bucket-secret", "", "bucket Secret; without it there is no Medusa container")
	flags.StringVar(&medusa.Image, "medusa-image", recipes.MedusaImage, "image of the Medusa container")
	flags.StringVar(&medusa.Endpoint, "s3-endpoint", "", "URL of the object store")
	flags.StringVar(&medusa.Bucket, "bucket", objectstore.Bucket, "name of the bucket")
	flags.StringVar(&medusa.Prefix, "prefix", "", "prefix in the bucket (default: the cluster's name)")
	flags.DurationVar(&timeout, "wait", 0, "how long to wait until the datacenter is ready")
	_ = flags.Parse(args)
	if racks != "" {
		request.Racks = strings.Split(racks, ",")
	}
	var err error
	if request.Labels, err = parseLabels(labels); err != nil {
		return err
	}
	if medusa.Prefix == "" {
		medusa.Prefix = request.Cluster
	}
	if medusa.Secret != "" {
		request.Medusa = &medusa
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := datacenter.Create(ctx, config, request); err != nil {
		return fmt.Errorf("create datacenter %s: %w", request.Name, err)
	}
	if timeout == 0 {
		return nil
	}
	return datacenter.AwaitReady(ctx, config, request.Namespace, request.Name, timeout)
}

func parseLabels(text string) (map[string]string, error) {
	labels := map[string]string{}
	if text == "" {
		return labels, nil
	}
	for _, pair := range strings.Split(text, ",") {
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, fmt.Errorf("label %q is not name=value", pair)
		}
		labels[name] = value
	}
	return labels, nil
}

func runCQL(args []string) error {
	var cache, address string
	flags := flag.NewFlagSet("cql", flag.ExitOnError)
	cacheFlag(flags, &cache)
	flags.StringVar(&address, "address", "", "address of the node (required)")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "testbed cql --address IP (load ROWS | count | execute STATEMENT…)")
		flags.PrintDefaults()
	}
	_ = flags.Parse(args)
	if address == "" || flags.NArg() == 0 {
		flags.Usage()
		return errors.New("cql: --address or what to do is missing")
	}
	paths, err := install.Find(cache)
	if err != nil {
		return err
	}
	return recipes.CQL(paths, address, flags.Args()...)
}

// listObjects prints each object as a line of JSON, or one line of totals per name below the prefix.
func listObjects(args []string) error {
	var location objectstore.Location
	var prefix string
	var summary bool
	flags := flag.NewFlagSet("objects", flag.ExitOnError)
	flags.StringVar(&location.Endpoint, "endpoint", "", "URL of the object store (required)")
	flags.StringVar(&location.Bucket, "bucket", objectstore.Bucket, "name of the bucket")
	flags.StringVar(&location.AccessKey, "access-key", os.Getenv("AWS_ACCESS_KEY_ID"), "access key (or $AWS_ACCESS_KEY_ID)")
	flags.StringVar(&location.SecretKey, "secret-key", os.Getenv("AWS_SECRET_ACCESS_KEY"), "secret key (or $AWS_SECRET_ACCESS_KEY)")
	flags.StringVar(&prefix, "prefix", "", "only objects whose key starts with this")
	flags.BoolVar(&summary, "summary", false, "print numbers per directory instead of every object")
	_ = flags.Parse(args)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	objects, err := objectstore.List(ctx, location, prefix)
	if err != nil {
		return err
	}
	if summary {
		fmt.Print(objectstore.Summary(objects))
		return nil
	}
	out := json.NewEncoder(os.Stdout)
	for _, object := range objects {
		if err := out.Encode(object); err != nil {
			return err
		}
	}
	return nil
}
