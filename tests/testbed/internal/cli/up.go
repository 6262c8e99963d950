package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/install"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/fleet"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/lab"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/protocol"
)

type upFlags struct {
	dir, cache         string
	dataPlanes         int
	manager, crds, tty bool
	pods, s3           bool
	images             imageFlag
}

// imageFlag collects images, each as NAME=ARCHIVE.
type imageFlag map[string]string

func (f imageFlag) String() string { return "" }

// Set takes one.
func (f imageFlag) Set(text string) error {
	name, archive, ok := strings.Cut(text, "=")
	if !ok || name == "" || archive == "" {
		return fmt.Errorf("%q is not NAME=ARCHIVE", text)
	}
	f[name] = archive
	return nil
}

func up(args []string) error {
	f := upFlags{images: imageFlag{}}
	flags := flag.NewFlagSet("up", flag.ExitOnError)
	flags.StringVar(&f.dir, "dir", "", "directory for keys, kubeconfigs, logs and data (required)")
	flags.IntVar(&f.dataPlanes, "data-planes", 1, "number of data-plane clusters")
	flags.BoolVar(&f.manager, "controller-manager", false, "run kube-controller-manager in every cluster")
	flags.BoolVar(&f.crds, "crds", true, "install the stand-in for cass-operator's CRD in every cluster")
	flags.BoolVar(&f.pods, "pods", false, "run the pods of data planes as local processes (implies --controller-manager)")
	flags.Var(f.images, "image",
		"`NAME=ARCHIVE`: run pods of this image from an OCI archive, in every cluster (implies --controller-manager; may be repeated)")
	flags.BoolVar(&f.s3, "s3", false, "run an S3-compatible object store")
	cacheFlag(flags, &f.cache)
	flags.BoolVar(&f.tty, "foreground-tty", false, "leave standard input alone and end by signal only")
	_ = flags.Parse(args)
	if f.dir == "" {
		return errors.New("up: --dir is missing")
	}
	absolute, err := filepath.Abs(f.dir)
	if err != nil {
		return err
	}
	f.dir, f.manager = absolute, f.manager || f.pods || len(f.images) > 0
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := f.run(ctx, stop); err != nil {
		return announceFailure(err)
	}
	return nil
}

// run brings everything up, in an order in which each part finds what it needs, and takes it down in reverse.
func (f upFlags) run(ctx context.Context, stop context.CancelFunc) error {
	commands := controlInput(ctx, stop, f.tty)
	var paths install.Paths
	if f.pods || f.s3 {
		var err error
		if paths, err = install.Find(f.cache); err != nil {
			return err
		}
	}
	unlock, err := own(f.dir)
	if err != nil {
		return err
	}
	defer unlock()
	beside, err := lab.Start(lab.Config{Dir: f.dir, Pods: f.pods, S3: f.s3, Paths: paths, Images: f.images})
	if err != nil {
		return err
	}
	running, err := fleet.Up(ctx, fleet.Config{
		Dir: f.dir, DataPlanes: f.dataPlanes, ControllerManager: f.manager, CRDs: f.crds,
		ServiceAccounts: len(f.images) > 0, OnCluster: beside.Join,
	})
	if err != nil {
		beside.Stop()
		return err
	}
	defer running.Down()
	defer beside.Stop()
	ready := running.Describe()
	ready.S3 = beside.Describe()
	if err := protocol.Write(os.Stdout, ready); err != nil {
		return err
	}
	if commands != nil {
		go func() {
			_ = protocol.Serve(commands, os.Stdout, func(command protocol.Command) protocol.Answer {
				if command.Do == protocol.Rotate {
					return beside.Rotate()
				}
				return running.Do(ctx, command)
			})
			stop()
		}()
	}
	<-ctx.Done()
	return nil
}

// own keeps a second testbed out of a directory that one is working in. The kernel gives the lock up however this
// process ends.
func own(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(dir, "testbed.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("another testbed runs in %s", dir)
	}
	return func() { _ = file.Close() }, nil
}

// controlInput is standard input when a program holds its other end. Its end of file ends the testbed, also while the
// fleet is still starting; a terminal or /dev/null cannot mean that, so there only signals do.
func controlInput(ctx context.Context, stop func(), ignore bool) io.Reader {
	info, err := os.Stdin.Stat()
	if ignore || err != nil || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		return nil
	}
	reader, writer := io.Pipe()
	go func() {
		_, err := io.Copy(writer, os.Stdin)
		writer.CloseWithError(err)
		stop()
	}()
	context.AfterFunc(ctx, func() { _ = writer.Close() })
	return reader
}

// announceFailure tells the program that waits for the ready line; the error itself goes to standard error.
func announceFailure(err error) error {
	failure := protocol.Ready{Error: err.Error()}
	var start *fleet.StartError
	if errors.As(err, &start) {
		failure.Log = start.Log
		err = fmt.Errorf("%w (its log: %s)", err, start.Log)
	}
	_ = protocol.Write(os.Stdout, failure)
	return err
}
