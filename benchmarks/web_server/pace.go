package main

import (
	"sync"
	"time"
)

// A bucket of bytes that all answers share: the bandwidth of the line.
type pace struct {
	mutex sync.Mutex
	rate  float64 // bytes a second; 0: any
	free  time.Time
}

func (p *pace) wait(size int) {
	if p.rate == 0 {
		return
	}
	p.mutex.Lock()
	now := time.Now()
	if p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(time.Duration(float64(size) / p.rate * 1e9))
	until := p.free
	p.mutex.Unlock()
	time.Sleep(until.Sub(now))
}
