package podrunner

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"

	"golang.org/x/net/dns/dnsmessage"
)

// DNS answers what a cluster's DNS answers for the address of a pod in a headless service: a name made of the address,
// and one that starts with the pod's name. Anything else does not exist.
type DNS struct {
	socket net.PacketConn

	mutex sync.RWMutex
	names map[string][]string // by in-addr.arpa name
}

// StartDNS listens on an address, on a port of the system's choice.
func StartDNS(address string) (*DNS, error) {
	socket, err := new(net.ListenConfig).ListenPacket(context.Background(), "udp4", net.JoinHostPort(address, "0"))
	if err != nil {
		return nil, fmt.Errorf("cluster DNS: %w", err)
	}
	d := &DNS{socket: socket, names: map[string][]string{}}
	go d.serve()
	return d, nil
}

// Address is where the server listens, host:port.
func (d *DNS) Address() string { return d.socket.LocalAddr().String() }

// Close ends the server.
func (d *DNS) Close() { _ = d.socket.Close() }

// Set names a pod's address.
func (d *DNS) Set(address, namespace, pod, service string) {
	suffix := "." + namespace + ".svc.cluster.local."
	if service != "" {
		suffix = "." + service + suffix
	}
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.names[reverse(address)] = []string{strings.ReplaceAll(address, ".", "-") + suffix, pod + suffix}
}

// Remove forgets an address.
func (d *DNS) Remove(address string) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	delete(d.names, reverse(address))
}

func reverse(address string) string {
	parts := strings.Split(address, ".")
	for i, j := 0, len(parts)-1; i < j; i, j = i+1, j-1 {
		parts[i], parts[j] = parts[j], parts[i]
	}
	return strings.Join(parts, ".") + ".in-addr.arpa."
}

func (d *DNS) serve() {
	buffer := make([]byte, 1232)
	for {
		n, peer, err := d.socket.ReadFrom(buffer)
		if err != nil {
			return
		}
		if reply, err := d.answer(buffer[:n]); err == nil {
			_, _ = d.socket.WriteTo(reply, peer)
		}
	}
}

func (d *DNS) answer(query []byte) ([]byte, error) {
	var message dnsmessage.Message
	if err := message.Unpack(query); err != nil {
		return nil, err
	}
	if len(message.Questions) != 1 {
		return nil, fmt.Errorf("%d questions", len(message.Questions))
	}
	question := message.Questions[0]
	message.Response, message.Authoritative = true, true
	message.Answers, message.Authorities, message.Additionals = nil, nil, nil
	d.mutex.RLock()
	names, known := d.names[strings.ToLower(question.Name.String())]
	d.mutex.RUnlock()
	if !known {
		message.RCode = dnsmessage.RCodeNameError
		return message.Pack()
	}
	if question.Type == dnsmessage.TypePTR {
		for _, name := range names {
			target, err := dnsmessage.NewName(name)
			if err != nil {
				return nil, err
			}
			message.Answers = append(message.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{
					Name: question.Name, Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET, TTL: 5,
				},
				Body: &dnsmessage.PTRResource{PTR: target},
			})
		}
	}
	return message.Pack()
}
