package loopback

import "testing"

func TestBlocksDoNotOverlap(t *testing.T) {
	first, err := ClaimBlock()
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := ClaimBlock()
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if first.First() == second.First() {
		t.Errorf("both have %s", first.First())
	}
}

func TestAddressesAreUniqueUntilReleased(t *testing.T) {
	block := &Block{prefix: "127.77.7.", used: map[int]bool{}}
	seen := map[string]bool{}
	for range 253 {
		address, err := block.Acquire()
		if err != nil {
			t.Fatal(err)
		}
		if seen[address] || address == block.First() {
			t.Fatalf("%s given out twice", address)
		}
		seen[address] = true
	}
	if _, err := block.Acquire(); err == nil {
		t.Error("a 254th address was given out")
	}
	block.Release("127.77.7.9")
	if address, err := block.Acquire(); err != nil || address != "127.77.7.9" {
		t.Errorf("%s, %v, want the released one", address, err)
	}
}

func TestAnAddressIsNotGivenToTheNextPodAtOnce(t *testing.T) {
	block := &Block{prefix: "127.77.7.", used: map[int]bool{}}
	first, err := block.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	block.Release(first)
	if second, err := block.Acquire(); err != nil || second == first {
		t.Errorf("%s, %v, right after %s was released", second, err, first)
	}
}

func TestFreePortIsBelowTheEphemeralRange(t *testing.T) {
	port, err := FreePort()
	if err != nil || port < firstPort || port >= lastPort {
		t.Errorf("%d, %v", port, err)
	}
}
