package podrunner

import (
	"context"
	"net"
	"slices"
	"testing"
)

func TestReverseLookUpGivesThePodsName(t *testing.T) {
	server, err := StartDNS("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp4", server.Address())
	}}
	server.Set("127.20.3.9", "shop", "shop-dc1-default-sts-0", "shop-dc1-all-pods-service")
	names, err := resolver.LookupAddr(t.Context(), "127.20.3.9")
	want := []string{
		"127-20-3-9.shop-dc1-all-pods-service.shop.svc.cluster.local.",
		"shop-dc1-default-sts-0.shop-dc1-all-pods-service.shop.svc.cluster.local.",
	}
	if err != nil || !slices.Equal(names, want) {
		t.Errorf("%v, %v, want %v", names, err, want)
	}
	server.Remove("127.20.3.9")
	if names, err := resolver.LookupAddr(t.Context(), "127.20.3.9"); err == nil {
		t.Errorf("still %v after removal", names)
	}
}
