package main

import (
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// What was asked of a host, how much of it at once, and over how many connections.
type host struct {
	atOnce, most, inSecond, mostInSecond, second int64
	open, mostOpen                               int64
}

// What the servers saw.
type seen struct {
	mutex                            sync.Mutex
	hosts                            map[string]*host
	requests, open, mostOpen         atomic.Int64
	connections, handshakes, resumed atomic.Int64
	questions, bytes                 atomic.Int64
	policies, disregarded            atomic.Int64
}

// However a request names it: a port or a last dot makes no other host.
func (s *seen) host(name string) *host {
	name, _, _ = strings.Cut(strings.ToLower(name), ":")
	name = strings.TrimSuffix(name, ".")
	one := s.hosts[name]
	if one == nil {
		one = &host{}
		s.hosts[name] = one
	}
	return one
}

// A connection that was opened for a host.
func (s *seen) join(name string) *host {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	one := s.host(name)
	one.open++
	one.mostOpen = max(one.mostOpen, one.open)
	return one
}

func (s *seen) leave(one *host) {
	s.mutex.Lock()
	one.open--
	s.mutex.Unlock()
}

// A request that came in.
func (s *seen) arrived(name string) {
	s.requests.Add(1)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	one := s.host(name)
	if now := time.Now().Unix(); now != one.second {
		one.second, one.inSecond = now, 0
	}
	one.inSecond++
	one.mostInSecond = max(one.mostInSecond, one.inSecond)
}

// A request is under way, until `end`.
func (s *seen) begin(name string) *host {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	one := s.host(name)
	one.atOnce++
	one.most = max(one.most, one.atOnce)
	return one
}

func (s *seen) end(one *host) {
	s.mutex.Lock()
	one.atOnce--
	s.mutex.Unlock()
}

func (s *seen) opened() {
	s.connections.Add(1)
	now := s.open.Add(1)
	for most := s.mostOpen.Load(); now > most && !s.mostOpen.CompareAndSwap(most, now); {
		most = s.mostOpen.Load()
	}
}

func (s *seen) document() map[string]any {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	var most, mostInSecond, mostOpen int64
	for _, one := range s.hosts {
		most, mostInSecond = max(most, one.most), max(mostInSecond, one.mostInSecond)
		mostOpen = max(mostOpen, one.mostOpen)
	}
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	cpu := float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
	return map[string]any{
		"requests": s.requests.Load(), "connections": s.connections.Load(),
		"most_connections": s.mostOpen.Load(), "handshakes": s.handshakes.Load(),
		"resumed": s.resumed.Load(), "questions": s.questions.Load(), "hosts": len(s.hosts),
		"most_at_once_of_a_host": most, "most_a_second_of_a_host": mostInSecond,
		"most_connections_of_a_host": mostOpen, "policies": s.policies.Load(),
		"disregarded": s.disregarded.Load(), "bytes": s.bytes.Load(), "server_cpu_s": cpu,
	}
}
