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
	"syscall"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/fleet"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/protocol"
)

// session is what up and sim have in common: they own a directory, say when all is ready, and answer commands until end
// of file or a signal.
type session struct {
	dir string
	tty bool
}

// running is what a session has started.
type running struct {
	ready protocol.Ready
	do    func(protocol.Command) protocol.Answer
	stop  func()
}

func (s *session) declare(flags *flag.FlagSet, dir string) {
	flags.StringVar(&s.dir, "dir", "", dir)
	flags.BoolVar(&s.tty, "foreground-tty", false, "leave standard input alone and end by signal only")
}

func (s *session) run(command string, start func(ctx context.Context, dir string) (running, error)) error {
	if s.dir == "" {
		return fmt.Errorf("%s: --dir is missing", command)
	}
	dir, err := filepath.Abs(s.dir)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	commands := controlInput(ctx, stop, s.tty)
	unlock, err := own(dir)
	if err != nil {
		return announceFailure(err)
	}
	defer unlock()
	started, err := start(ctx, dir)
	if err != nil {
		return announceFailure(err)
	}
	defer started.stop()
	if err := protocol.Write(os.Stdout, started.ready); err != nil {
		return err
	}
	if commands != nil {
		go func() {
			_ = protocol.Serve(commands, os.Stdout, started.do)
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
