package runc

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/securitycontext"
	"k8s.io/kubernetes/third_party/forked/golang/expansion"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/images"
)

// defaultCapabilities are those that container runtimes give where a pod asks for nothing else.
var defaultCapabilities = []string{
	"CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
	"NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
}

// Mount puts a directory or file of this machine at a path of the container.
type Mount struct {
	Source, Target string
	ReadOnly       bool
}

// Container is what is known of a container before it runs.
type Container struct {
	Image *images.Image
	Pod   *corev1.Pod
	Spec  *corev1.Container
	// Env holds the environment the pod asks for, resolved.
	Env    map[string]string
	Mounts []Mount
}

// spec is what runc is told. It refuses what it has no way to keep.
func (c Container) spec() (*specs.Spec, error) {
	security := securitycontext.DetermineEffectiveSecurityContext(c.Pod, c.Spec)
	switch {
	case security.Privileged != nil && *security.Privileged:
		return nil, errors.New("the testbed runs no privileged containers")
	case security.ReadOnlyRootFilesystem == nil || !*security.ReadOnlyRootFilesystem:
		return nil, errors.New("the testbed runs images with a read-only root file system only")
	case c.Pod.Spec.SecurityContext != nil && c.Pod.Spec.SecurityContext.FSGroup != nil:
		return nil, errors.New("the testbed supports no fsGroup")
	}
	user, err := c.user(security)
	if err != nil {
		return nil, err
	}
	environment, known := c.environment()
	capabilities := capabilitiesOf(security.Capabilities)
	spec := &specs.Spec{
		Version: "1.0.2",
		Process: &specs.Process{
			User: user, Args: c.arguments(known), Env: environment, Cwd: c.directory(),
			Capabilities: &specs.LinuxCapabilities{
				Bounding: capabilities, Effective: capabilities, Permitted: capabilities,
			},
			NoNewPrivileges: securitycontext.AddNoNewPrivileges(security),
		},
		Root:     &specs.Root{Path: c.Image.Root, Readonly: true},
		Hostname: c.Pod.Name,
		Mounts:   c.mounts(),
		Linux: &specs.Linux{
			// The network namespace is the pod's, which runc is started in.
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace},
				{Type: specs.MountNamespace},
			},
			MaskedPaths:   securitycontext.ConvertToRuntimeMaskedPaths(security.ProcMount),
			ReadonlyPaths: securitycontext.ConvertToRuntimeReadonlyPaths(security.ProcMount),
			Resources:     &specs.LinuxResources{},
		},
	}
	if limit := c.Spec.Resources.Limits.Memory().Value(); limit > 0 {
		spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit}
	}
	spec.Linux.Seccomp, err = c.seccomp(spec)
	return spec, err
}

// user is whom the pod asks for, else the image's; one that may not be root must be known not to be.
func (c Container) user(security *corev1.SecurityContext) (specs.User, error) {
	var user specs.User
	if security.RunAsUser != nil {
		user.UID = uint32(*security.RunAsUser)
	} else if name := c.Image.Config.User; name != "" {
		name, group, _ := strings.Cut(name, ":")
		uid, err := strconv.ParseUint(name, 10, 32)
		if err != nil {
			return user, fmt.Errorf("image has non-numeric user (%s), which the testbed looks up nowhere", name)
		}
		gid, _ := strconv.ParseUint(group, 10, 32)
		user.UID, user.GID = uint32(uid), uint32(gid)
	}
	if security.RunAsGroup != nil {
		user.GID = uint32(*security.RunAsGroup)
	}
	if security.RunAsNonRoot != nil && *security.RunAsNonRoot && user.UID == 0 {
		return user, errors.New("container has runAsNonRoot and image will run as root")
	}
	if c.Pod.Spec.SecurityContext != nil {
		for _, group := range c.Pod.Spec.SecurityContext.SupplementalGroups {
			user.AdditionalGids = append(user.AdditionalGids, uint32(group))
		}
	}
	return user, nil
}

// arguments are the command line; a pod's command takes the place of all the image says.
func (c Container) arguments(environment map[string]string) []string {
	expand := func(words []string) []string {
		var expanded []string
		for _, word := range words {
			expanded = append(expanded, expansion.Expand(word, expansion.MappingFuncFor(environment)))
		}
		return expanded
	}
	command, arguments := c.Image.Config.Entrypoint, c.Image.Config.Cmd
	if len(c.Spec.Command) > 0 {
		command, arguments = expand(c.Spec.Command), nil
	}
	if len(c.Spec.Args) > 0 {
		arguments = expand(c.Spec.Args)
	}
	return slices.Concat(command, arguments)
}

// environment is the image's, under the pod's.
func (c Container) environment() (list []string, known map[string]string) {
	known = map[string]string{
		"PATH":     "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOSTNAME": c.Pod.Name,
	}
	for _, variable := range c.Image.Config.Env {
		name, value, _ := strings.Cut(variable, "=")
		known[name] = value
	}
	for name, value := range c.Env {
		known[name] = value
	}
	for name, value := range known {
		list = append(list, name+"="+value)
	}
	sort.Strings(list)
	return list, known
}

func (c Container) directory() string {
	if c.Spec.WorkingDir != "" {
		return c.Spec.WorkingDir
	}
	if c.Image.Config.WorkingDir != "" {
		return c.Image.Config.WorkingDir
	}
	return "/"
}

func (c Container) mounts() []specs.Mount {
	safe := []string{"nosuid", "noexec", "nodev"}
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: safe},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=64k"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: append(slices.Clone(safe), "mode=1777", "size=64m")},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: append(slices.Clone(safe), "ro")},
	}
	volumes := slices.Clone(c.Mounts)
	sort.SliceStable(volumes, func(i, j int) bool { return volumes[i].Target < volumes[j].Target })
	for _, volume := range volumes {
		access := "rw"
		if volume.ReadOnly {
			access = "ro"
		}
		mounts = append(mounts, specs.Mount{
			Destination: filepath.Clean(volume.Target), Type: "bind", Source: volume.Source,
			Options: []string{"rbind", "rprivate", access},
		})
	}
	return mounts
}

func capabilitiesOf(asked *corev1.Capabilities) []string {
	given := slices.Clone(defaultCapabilities)
	if asked != nil {
		for _, dropped := range asked.Drop {
			given = slices.DeleteFunc(given, func(name string) bool { return dropped == "ALL" || name == trimCap(dropped) })
		}
		for _, added := range asked.Add {
			given = append(given, trimCap(added))
		}
	}
	names := []string{}
	for _, name := range given {
		names = append(names, "CAP_"+name)
	}
	return names
}

func trimCap(name corev1.Capability) string { return strings.TrimPrefix(string(name), "CAP_") }

// seccomp is the profile the container or its pod asks for; without any, a kubelet confines nothing.
func (c Container) seccomp(spec *specs.Spec) (*specs.LinuxSeccomp, error) {
	var profile *corev1.SeccompProfile
	if c.Pod.Spec.SecurityContext != nil {
		profile = c.Pod.Spec.SecurityContext.SeccompProfile
	}
	if c.Spec.SecurityContext != nil && c.Spec.SecurityContext.SeccompProfile != nil {
		profile = c.Spec.SecurityContext.SeccompProfile
	}
	switch {
	case profile == nil || profile.Type == corev1.SeccompProfileTypeUnconfined:
		return nil, nil
	case profile.Type == corev1.SeccompProfileTypeRuntimeDefault:
		return seccomp.GetDefaultProfile(spec)
	default:
		return nil, fmt.Errorf("the testbed has no seccomp profiles of type %s", profile.Type)
	}
}
