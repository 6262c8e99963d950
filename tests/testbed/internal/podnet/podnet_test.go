package podnet

import (
	"io"
	"net"
	"os"
	"testing"
)

const (
	pod     = "127.77.8.2"
	service = "10.96.0.1"
)

func TestConnectionsArePassedOnBothWays(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a network namespace needs root")
	}
	network, err := New(net.ParseIP(service))
	if err != nil {
		t.Fatal(err)
	}
	defer network.Close()

	outside := says(t, net.Listen, "127.77.9.2:0", "outside")
	_, port, _ := net.SplitHostPort(outside)
	dialIn := func(_, address string) (net.Conn, error) { return network.Dial(t.Context(), address) }
	if _, err := dialIn("tcp4", outside); err == nil {
		t.Error("the pod reaches what nobody passes on")
	}
	number, err := net.LookupPort("tcp", port)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := network.Reach(number); err != nil {
			t.Fatal(err)
		}
	}
	if err := network.Serve(service+":443", outside); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{outside, service + ":443"} {
		if got := hears(t, dialIn, address); got != "outside" {
			t.Errorf("%s says %q to the pod", address, got)
		}
	}
	if got := hears(t, dialIn, "127.77.9.3:"+port); got != "" {
		t.Errorf("an address where nobody listens says %q", got)
	}

	// On the same port as what is outside, at every address, as the controllers do.
	listenIn := func(_, address string) (listener net.Listener, err error) {
		err = network.within(func() (err error) {
			listener, err = net.Listen("tcp4", address)
			return err
		})
		return listener, err
	}
	says(t, listenIn, "0.0.0.0:8080", "pod")
	if err := network.Publish(pod + ":8080"); err != nil {
		t.Fatal(err)
	}
	for name, dial := range map[string]func(string, string) (net.Conn, error){"outside": net.Dial, "the pod": dialIn} {
		if got := hears(t, dial, pod+":8080"); got != "pod" {
			t.Errorf("from %s the pod says %q", name, got)
		}
	}
}

// says listens and says one thing to whoever connects.
func says(t *testing.T, listen func(network, address string) (net.Listener, error), address, text string) string {
	t.Helper()
	listener, err := listen("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(connection, text)
			_ = connection.Close()
		}
	}()
	return listener.Addr().String()
}

// hears is what an address says; nothing when it says nothing.
func hears(t *testing.T, dial func(network, address string) (net.Conn, error), address string) string {
	t.Helper()
	connection, err := dial("tcp4", address)
	if err != nil {
		return ""
	}
	defer connection.Close()
	text, _ := io.ReadAll(connection)
	return string(text)
}
