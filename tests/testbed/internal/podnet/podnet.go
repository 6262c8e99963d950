// Package podnet gives a pod a network of its own in which it can listen on any port: a network namespace with nothing but
// a loopback interface. What the pod may reach outside, and what may reach it, is passed on connection by connection.
package podnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// dialTimeout bounds connecting within this machine.
const dialTimeout = 5 * time.Second

// Network is a pod's. All of 127.0.0.0/8 is the pod's own in it, so that a connection to any loopback address can be taken
// at that address and passed on to it outside.
type Network struct {
	namespace *os.File

	mutex     sync.Mutex
	closed    bool
	listeners []net.Listener
	outward   map[int]bool
}

// New makes a network that also has the address of a service.
func New(service net.IP) (*Network, error) {
	n := &Network{outward: map[int]bool{}}
	err := onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		if err := bringUp(service); err != nil {
			return err
		}
		file, err := os.Open("/proc/thread-self/ns/net")
		n.namespace = file
		return err
	})
	if err != nil {
		return nil, err
	}
	return n, nil
}

// Namespace is what a process enters to be in this network.
func (n *Network) Namespace() *os.File { return n.namespace }

// Serve passes connections of the pod to an address of the service on to one outside.
func (n *Network) Serve(service, outside string) error {
	return n.listen(n.within, service, func(net.Conn) (net.Conn, error) {
		return net.DialTimeout("tcp4", outside, dialTimeout)
	})
}

// Reach passes connections of the pod to a port of any loopback address on to that address outside.
func (n *Network) Reach(port int) error {
	n.mutex.Lock()
	known := n.outward[port]
	n.outward[port] = true
	n.mutex.Unlock()
	if known {
		return nil
	}
	return n.listen(n.within, net.JoinHostPort("0.0.0.0", strconv.Itoa(port)), func(taken net.Conn) (net.Conn, error) {
		return net.DialTimeout("tcp4", taken.LocalAddr().String(), dialTimeout)
	})
}

// Publish passes connections to an address outside on to the same one of the pod.
func (n *Network) Publish(address string) error {
	outside := func(work func() error) error { return work() }
	return n.listen(outside, address, func(net.Conn) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
		defer cancel()
		return n.Dial(ctx, address)
	})
}

// Dial connects to an address in the pod's network.
func (n *Network) Dial(ctx context.Context, address string) (connection net.Conn, err error) {
	err = n.within(func() (err error) {
		connection, err = new(net.Dialer).DialContext(ctx, "tcp4", address)
		return err
	})
	return connection, err
}

// Close ends what passes connections on. The namespace goes with the last process in it.
func (n *Network) Close() {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	n.closed = true
	for _, listener := range n.listeners {
		_ = listener.Close()
	}
	_ = n.namespace.Close()
}

// listen takes connections where in has it, and passes each on to what dial connects to.
func (n *Network) listen(in func(func() error) error, address string, dial func(net.Conn) (net.Conn, error)) error {
	var listener net.Listener
	err := in(func() (err error) {
		listener, err = new(net.ListenConfig).Listen(context.Background(), "tcp4", address)
		return err
	})
	if err != nil {
		return fmt.Errorf("listen on %s: %w", address, err)
	}
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if n.closed {
		return errors.Join(net.ErrClosed, listener.Close())
	}
	n.listeners = append(n.listeners, listener)
	go func() {
		for {
			taken, err := listener.Accept()
			if err != nil {
				return
			}
			go pass(taken, dial)
		}
	}()
	return nil
}

// pass copies both ways until both have ended. Where nobody listens, the connection is reset, which is as near to being
// refused as one that was taken can be.
func pass(taken net.Conn, dial func(net.Conn) (net.Conn, error)) {
	defer taken.Close()
	other, err := dial(taken)
	if err != nil {
		_ = taken.(*net.TCPConn).SetLinger(0)
		return
	}
	defer other.Close()
	var both sync.WaitGroup
	both.Go(func() { oneWay(taken, other) })
	both.Go(func() { oneWay(other, taken) })
	both.Wait()
}

func oneWay(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		// One that broke is broken for both.
		_ = to.Close()
		_ = from.Close()
		return
	}
	_ = to.(*net.TCPConn).CloseWrite()
}

// within does something that opens sockets in the pod's network.
func (n *Network) within(work func() error) error {
	return onOwnThread(func() error {
		if err := unix.Setns(int(n.namespace.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter a pod's network: %w", err)
		}
		return work()
	})
}

// onOwnThread works on a thread that ends with it, as its namespace is nobody else's.
func onOwnThread(work func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- work()
	}()
	return <-done
}

// bringUp switches this thread's loopback interface on and gives it one more address.
func bringUp(address net.IP) error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOOPBACK)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("bring loopback up: %w", err)
	}
	if request, err = unix.NewIfreq("lo:1"); err != nil {
		return err
	}
	if err := request.SetInet4Addr(address.To4()); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFADDR, request); err != nil {
		return fmt.Errorf("add address %s: %w", address, err)
	}
	return nil
}
