// Package recipes knows, for each image a test pod may name, which local program stands in for it.
package recipes

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/install"
)

// Registry is the made-up registry of images that have a recipe.
const Registry = "medusa-fleet.test"

// Images that have a recipe.
const (
	CassandraImage = Registry + "/cassandra:" + install.CassandraVersion
	// ConfigImage renders Cassandra's configuration into /etc/cassandra, as cass-operator's server-config-init does.
	ConfigImage = Registry + "/cassandra-config:" + install.CassandraVersion
	// MedusaImage is the product's default image.
	MedusaImage = medusaRepository + ":" + install.DefaultMedusa

	medusaRepository = "docker.io/k8ssandra/medusa"
)

// Container is what a recipe may know about the container it is for.
type Container struct {
	Pod     *corev1.Pod
	Spec    *corev1.Container
	Address string
	// Env holds the environment the pod asks for, resolved.
	Env map[string]string
	// Volumes maps mount paths to directories of this machine.
	Volumes map[string]string
	// Resolver is the address (host:port, UDP) of the cluster's DNS.
	Resolver string
	Paths    install.Paths
	// Scratch is a directory of this container that outlives its restarts.
	Scratch string
	// AddressOf finds another pod of the same namespace.
	AddressOf func(pod string) (string, bool)
}

// Launch is how to run a container.
type Launch struct {
	Argv []string
	Env  []string
	// Await, if set, holds the program back while its container already counts as running. It fails only when the
	// pod ends.
	Await func(ctx context.Context) error
	// Ready fails until the program answers what its clients will ask.
	Ready func(ctx context.Context) error
}

// Recipe stands in for an image, either as a program or, for short work on files, as a function.
type Recipe struct {
	Program  func(Container) (Launch, error)
	Function func(context.Context, Container) error
}

var recipes = all()

func all() map[string]Recipe {
	recipes := map[string]Recipe{
		CassandraImage: {Program: cassandra},
		ConfigImage:    {Function: configureCassandra},
	}
	for _, version := range install.MedusaVersions {
		for _, repository := range []string{medusaRepository, Registry + "/medusa"} {
			recipes[repository+":"+version] = Recipe{Program: medusa(version)}
		}
	}
	return recipes
}

// For finds an image's recipe.
func For(image string) (Recipe, bool) {
	recipe, ok := recipes[image]
	return recipe, ok
}

// Names are those of the images that have a recipe.
func Names() []string { return slices.Sorted(maps.Keys(recipes)) }

// path finds what a path of the container is on this machine.
func (c Container) path(path string) (string, error) {
	for mount, directory := range c.Volumes {
		if rest, ok := strings.CutPrefix(path, mount); ok && (rest == "" || strings.HasPrefix(rest, "/")) {
			return filepath.Join(directory, rest), nil
		}
	}
	return "", fmt.Errorf("container %s mounts no volume at %s", c.Spec.Name, path)
}
