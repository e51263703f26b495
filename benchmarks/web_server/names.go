package main

import (
	"encoding/binary"
	"hash/fnv"
	"log"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

// Whether the name server answers nobody just now.
var down atomic.Bool

const (
	typeA    = 1
	servfail = 2
	nxdomain = 3
)

// Answers questions over UDP, each after its time.
func names(address, network string, latency time.Duration, ttl uint32, seen *seen) {
	_, hosts, err := net.ParseCIDR(network)
	if err != nil {
		log.Fatal(err)
	}
	socket, err := net.ListenPacket("udp", address)
	if err != nil {
		log.Fatal(err)
	}
	if udp, ok := socket.(*net.UDPConn); ok {
		_ = udp.SetReadBuffer(8 << 20)
	}
	asked := map[string]int{} // names of which it cannot tell at first
	for {
		buffer := make([]byte, 512)
		size, from, err := socket.ReadFrom(buffer)
		if err != nil {
			return
		}
		seen.questions.Add(1)
		if down.Load() {
			continue
		}
		name, kind, end := question(buffer[:size])
		label, _, _ := strings.Cut(name, "-")
		if end == 0 || label == "quiet" {
			continue
		}
		wait := latency
		if label == "slowdns" {
			wait = 2 * time.Second
		}
		if label == "busy" {
			if asked[name]++; asked[name] <= 2 { // a question for each kind of address
				label = "servfail"
			}
		}
		answer := reply(buffer[:end], name, label, kind, hosts, ttl)
		time.AfterFunc(wait, func() { _, _ = socket.WriteTo(answer, from) })
	}
}

// The name that is asked for, the type, and where the question ends; 0 where it is none.
func question(message []byte) (name string, kind uint16, end int) {
	if len(message) < 17 {
		return "", 0, 0
	}
	var labels []string
	at := 12
	for at < len(message) && message[at] != 0 {
		size := int(message[at])
		if at+1+size >= len(message) {
			return "", 0, 0
		}
		labels = append(labels, strings.ToLower(string(message[at+1:at+1+size])))
		at += 1 + size
	}
	if at+5 > len(message) {
		return "", 0, 0
	}
	return strings.Join(labels, "."), binary.BigEndian.Uint16(message[at+1:]), at + 5
}

func reply(asked []byte, name, label string, kind uint16, hosts *net.IPNet, ttl uint32) []byte {
	answer := append([]byte{}, asked...)
	for at := 6; at < 12; at++ {
		answer[at] = 0
	}
	answer[2], answer[3] = 0x81, 0x80 // a response; recursion was wanted and is there
	switch {
	case label == "gone":
		answer[3] |= nxdomain
	case label == "servfail":
		answer[3] |= servfail
	case kind == typeA:
		answer[7] = 1
		record := make([]byte, 16)
		binary.BigEndian.PutUint16(record, 0xc00c) // the name of the question
		binary.BigEndian.PutUint16(record[2:], typeA)
		binary.BigEndian.PutUint16(record[4:], 1)
		binary.BigEndian.PutUint32(record[6:], ttl)
		binary.BigEndian.PutUint16(record[10:], 4)
		copy(record[12:], addressOf(name, hosts))
		answer = append(answer, record...)
	}
	return answer
}

// The address of a name: always the same, and never the first or the last of the network.
func addressOf(name string, hosts *net.IPNet) net.IP {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(name))
	ones, bits := hosts.Mask.Size()
	many := uint32(1) << (bits - ones)
	first := binary.BigEndian.Uint32(hosts.IP.To4())
	address := make(net.IP, 4)
	offset := uint32(0)
	if many > 2 {
		offset = 1 + sum.Sum32()%(many-2)
	}
	binary.BigEndian.PutUint32(address, first+offset)
	return address
}
