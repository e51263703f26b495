// A web on loopback: HTTP, TLS and DNS servers that do what a URL and a host's name say.
//
// A path is /KIND/FILE?d=MS&...: KIND is what becomes of the request (ok, 404, 503, 429, reset,
// cut, drip), FILE one of -files, and d the milliseconds before the answer. The first label of a
// host's name up to its hyphen says what its name and its certificate are worth: gone (no such
// name), servfail, busy (it fails at first), quiet (its name server never answers), slowdns (after two
// seconds), silent
// (accepts and never answers), expired, wrongname, unknown (by an issuer that nobody trusts).
// Every name is one address of -network, for its hash.
//
// It ends with its standard input, and then prints what it saw as JSON.
package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"flag"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type web struct {
	files map[string][]byte
	pace  *pace
	seen  *seen
}

func readFiles(folder string) map[string][]byte {
	files := map[string][]byte{}
	names, err := os.ReadDir(folder)
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(folder, name.Name()))
		if err != nil {
			log.Fatal(err)
		}
		files[name.Name()] = data
	}
	return files
}

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

// What was asked, and how much of it at once.
type host struct{ atOnce, most, inSecond, mostInSecond, second, requests int64 }

type seen struct {
	mutex                            sync.Mutex
	hosts                            map[string]*host
	requests, open, mostOpen         atomic.Int64
	connections, handshakes, resumed atomic.Int64
	questions, bytes                 atomic.Int64
}

func (s *seen) begin(name string) *host {
	s.requests.Add(1)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	one := s.hosts[name]
	if one == nil {
		one = &host{}
		s.hosts[name] = one
	}
	one.requests++
	one.atOnce++
	one.most = max(one.most, one.atOnce)
	if now := time.Now().Unix(); now != one.second {
		one.second, one.inSecond = now, 0
	}
	one.inSecond++
	one.mostInSecond = max(one.mostInSecond, one.inSecond)
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
	var most, mostInSecond int64
	for _, one := range s.hosts {
		most, mostInSecond = max(most, one.most), max(mostInSecond, one.mostInSecond)
	}
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	cpu := float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
	return map[string]any{
		"requests": s.requests.Load(), "connections": s.connections.Load(),
		"most_connections": s.mostOpen.Load(), "handshakes": s.handshakes.Load(),
		"resumed": s.resumed.Load(), "questions": s.questions.Load(), "hosts": len(s.hosts),
		"most_at_once_of_a_host": most, "most_a_second_of_a_host": mostInSecond,
		"bytes": s.bytes.Load(), "server_cpu_s": cpu,
	}
}

func (w *web) accept(listener net.Listener, config *tls.Config) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		go w.serve(connection, config)
	}
}

func (w *web) serve(raw net.Conn, config *tls.Config) {
	w.seen.opened()
	defer w.seen.open.Add(-1)
	defer raw.Close()
	connection := raw
	if config != nil {
		secure := tls.Server(raw, config)
		if secure.Handshake() != nil {
			return
		}
		w.seen.handshakes.Add(1)
		if secure.ConnectionState().DidResume {
			w.seen.resumed.Add(1)
		}
		connection = secure
	}
	reader := bufio.NewReaderSize(connection, 2048)
	for {
		path, name, err := readRequest(reader)
		if err != nil {
			return
		}
		one := w.seen.begin(name)
		// Before the last byte goes out: after it, the client may have begun another.
		end := sync.OnceFunc(func() { w.seen.end(one) })
		again := w.answer(connection, raw, path, name, end)
		end()
		if !again {
			return
		}
	}
}

func readRequest(reader *bufio.Reader) (path, name string, err error) {
	line, err := reader.ReadString('\n')
	if err != nil {
		return
	}
	words := strings.Split(line, " ")
	if len(words) < 3 {
		return "", "", io.ErrUnexpectedEOF
	}
	path = words[1]
	for {
		line, err = reader.ReadString('\n')
		if err != nil || len(line) <= 2 {
			return
		}
		if len(line) > 6 && strings.EqualFold(line[:5], "host:") {
			name = strings.TrimSpace(line[5:])
		}
	}
}

var statuses = map[string]string{
	"404": "404 Not Found", "503": "503 Service Unavailable", "429": "429 Too Many Requests",
}

// Whether the connection lives on.
func (w *web) answer(connection, raw net.Conn, path, name string, end func()) bool {
	path, query, _ := strings.Cut(path, "?")
	parts := strings.SplitN(strings.TrimPrefix(path, "/"), "/", 2)
	if ms, err := strconv.Atoi(strings.TrimPrefix(strings.SplitN(query, "&", 2)[0], "d=")); err == nil {
		time.Sleep(time.Duration(ms) * time.Millisecond)
	}
	if strings.HasPrefix(name, "silent-") {
		end()                           // when the client gives up is not known in time
		_, _ = io.Copy(io.Discard, raw) // until the other side hangs up
		return false
	}
	if status, ok := statuses[parts[0]]; ok {
		end()
		_, err := io.WriteString(connection, "HTTP/1.1 "+status+"\r\nContent-Length: 0\r\n\r\n")
		return err == nil
	}
	if len(parts) < 2 || w.files[parts[1]] == nil {
		end()
		_, err := io.WriteString(connection, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
		return err == nil
	}
	if parts[0] == "reset" {
		if tcp, ok := raw.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		return false
	}
	return w.send(connection, parts[0], parts[1], end)
}

func (w *web) send(connection net.Conn, kind, file string, end func()) bool {
	body := w.files[file]
	head := "HTTP/1.1 200 OK\r\nContent-Type: " + contentType(file) + "\r\nContent-Length: " +
		strconv.Itoa(len(body)) + "\r\n\r\n"
	data := append([]byte(head), body...)
	if kind == "cut" {
		data = data[:len(data)/2]
	}
	step := 1 << 16
	if kind == "drip" {
		step = 1
	}
	for at := 0; at < len(data); at += step {
		part := data[at:min(at+step, len(data))]
		w.pace.wait(len(part))
		if at+step >= len(data) {
			end()
		}
		if _, err := connection.Write(part); err != nil {
			return false
		}
		w.seen.bytes.Add(int64(len(part)))
		if kind == "drip" {
			time.Sleep(time.Second)
		}
	}
	return kind != "cut"
}

func contentType(file string) string {
	kind := strings.TrimPrefix(filepath.Ext(file), ".")
	if kind == "jpg" {
		kind = "jpeg"
	}
	return "image/" + kind
}

func listen(address string) net.Listener {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	return listener
}

func main() {
	files := flag.String("files", "", "the folder of the images")
	listened := flag.String("address", "0.0.0.0", "where to listen")
	http, secure := flag.Int("http", 80, "port; 0: none"), flag.Int("https", 443, "port; 0: none")
	dns := flag.String("dns", "127.0.0.1:53", "address and port of the name server; empty: none")
	authority := flag.String("authority", "", "where to write the certificate that is to be trusted")
	network := flag.String("network", "93.184.0.0/16", "the addresses of the hosts")
	latency := flag.Duration("dns_latency", 50*time.Millisecond, "of an answer of the name server")
	ttl := flag.Uint("ttl", 300, "seconds, of the name server's answers")
	rate := flag.Float64("bandwidth", 0, "bytes a second of all answers; 0: any")
	flag.Parse()
	w := &web{
		files: readFiles(*files), pace: &pace{rate: *rate},
		seen: &seen{hosts: map[string]*host{}},
	}
	if *secure != 0 {
		go w.accept(listen(net.JoinHostPort(*listened, strconv.Itoa(*secure))), certificates(*authority))
	}
	if *http != 0 {
		go w.accept(listen(net.JoinHostPort(*listened, strconv.Itoa(*http))), nil)
	}
	if *dns != "" {
		go names(*dns, *network, *latency, uint32(*ttl), w.seen)
	}
	os.Stdout.WriteString("ready\n")
	// A line of input, "down" or "up", takes the name server away and brings it back.
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		down.Store(lines.Text() == "down")
	}
	_ = json.NewEncoder(os.Stdout).Encode(w.seen.document())
}
