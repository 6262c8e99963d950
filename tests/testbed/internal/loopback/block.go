package loopback

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// claimPort is the port on a block's first address that its owner listens on, for as long as it uses the block.
const claimPort = 1053

// Pods have the addresses between the block's own, the first, and the last.
const (
	firstPod     = 2
	podAddresses = 253
)

// Block is a range 127.x.y.0/24 that no other testbed on this machine uses. Pods get an address each, so that they can
// all listen on the same well-known ports.
type Block struct {
	claim  net.Listener
	prefix string

	mutex sync.Mutex
	used  map[int]bool
	// given counts the addresses that were tried.
	given int
}

// ClaimBlock picks a block at random. What proves that it is free, also to a testbed that picks at the same time, is the
// listener on its first address; the kernel gives it up however this process ends.
func ClaimBlock() (*Block, error) {
	var last error
	for range 100 {
		// 127.0.0.0/16 to 127.15.0.0/16 are left to what people configure by hand.
		prefix := fmt.Sprintf("127.%d.%d.", 16+rand.IntN(239), rand.IntN(256))
		claim, err := net.Listen("tcp4", fmt.Sprintf("%s1:%d", prefix, claimPort))
		if err == nil {
			return &Block{claim: claim, prefix: prefix, used: map[int]bool{}}, nil
		}
		last = err
	}
	return nil, fmt.Errorf("no free block of loopback addresses: %w", last)
}

// Close gives the block up.
func (b *Block) Close() { _ = b.claim.Close() }

// First is the block's own address; no pod has it.
func (b *Block) First() string { return b.prefix + "1" }

// Acquire gives an address that nobody in this testbed has, and one that was in use as late as possible: Cassandra's nodes
// remember each other by address, and no cluster network gives the address of one to the next at once.
func (b *Block) Acquire() (string, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for range podAddresses {
		host := firstPod + b.given%podAddresses
		b.given++
		if !b.used[host] {
			b.used[host] = true
			return fmt.Sprintf("%s%d", b.prefix, host), nil
		}
	}
	return "", fmt.Errorf("all addresses of %s0/24 are in use", b.prefix)
}

// Release gives an address back.
func (b *Block) Release(address string) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	var host int
	if _, err := fmt.Sscanf(address, b.prefix+"%d", &host); err == nil {
		delete(b.used, host)
	}
}
