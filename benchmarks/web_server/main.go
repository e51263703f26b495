// A web on loopback: HTTP, TLS and DNS servers that do what a URL and a host's name say.
//
// A path is /KIND/FILE?d=MS&n=N: KIND is what becomes of the request (ok, private, 404, 503, 429,
// reset, cut, drip), FILE one of -files, d the milliseconds before the answer, and N the number that
// -distinct writes into a JPEG. The first label of a
// host's name up to its hyphen says what its name and its certificate are worth: gone (no such
// name), servfail, busy (it fails at first), quiet (its name server never answers), slowdns (after two
// seconds), robots (its robots.txt forbids what is private), silent
// (accepts and never answers), expired, wrongname, unknown (by an issuer that nobody trusts).
// Every name is one address of -network, for its hash.
//
// It ends with its standard input, and then prints what it saw as JSON.
package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

type web struct {
	files        map[string][]byte
	pace         *pace
	seen         *seen
	distinct     bool
	policiesTake time.Duration
}

// What a request says.
type request struct{ path, name string }

// A connection, and what has come over it.
type line struct {
	net.Conn
	raw    net.Conn
	reader *bufio.Reader
}

// Until a request counts as under way: so long may it take to see that a client has hung up on those
// before, since it may begin others in their place at once.
const grace = 20 * time.Millisecond

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
	connection := line{raw, raw, nil}
	if config != nil {
		secure := tls.Server(raw, config)
		if secure.Handshake() != nil {
			return
		}
		w.seen.handshakes.Add(1)
		if secure.ConnectionState().DidResume {
			w.seen.resumed.Add(1)
		}
		connection.Conn = secure
	}
	connection.reader = bufio.NewReaderSize(connection, 2048)
	var of *host
	for {
		asked, err := readRequest(connection.reader)
		if err != nil {
			return
		}
		if of == nil {
			of = w.seen.join(asked.name)
			defer w.seen.leave(of)
		}
		if !w.answer(connection, asked) {
			return
		}
	}
}

// Waits; false where the client hangs up meanwhile.
func (l line) waits(duration time.Duration) bool {
	_ = l.SetReadDeadline(time.Now().Add(duration))
	_, err := l.reader.Peek(1)
	_ = l.SetReadDeadline(time.Time{})
	var late net.Error
	return err == nil || errors.As(err, &late) && late.Timeout()
}

func readRequest(reader *bufio.Reader) (asked request, err error) {
	line, err := reader.ReadString('\n')
	if err != nil {
		return
	}
	words := strings.Split(line, " ")
	if len(words) < 3 {
		return asked, io.ErrUnexpectedEOF
	}
	asked.path = words[1]
	for {
		line, err = reader.ReadString('\n')
		if err != nil || len(line) <= 2 {
			return
		}
		if len(line) > 6 && strings.EqualFold(line[:5], "host:") {
			asked.name = strings.TrimSpace(line[5:])
		}
	}
}

var statuses = map[string]string{
	"404": "404 Not Found", "503": "503 Service Unavailable", "429": "429 Too Many Requests",
}

// Whether the connection lives on.
func (w *web) answer(connection line, asked request) bool {
	path, query, _ := strings.Cut(asked.path, "?")
	parts := strings.SplitN(strings.TrimPrefix(path, "/"), "/", 2)
	var delay time.Duration
	if ms, err := strconv.Atoi(strings.TrimPrefix(strings.SplitN(query, "&", 2)[0], "d=")); err == nil {
		delay = time.Duration(ms) * time.Millisecond
	}
	isPolicy := path == "/robots.txt" || path == "/.well-known/tdmrep.json"
	if isPolicy {
		w.seen.policies.Add(1)
		delay = w.policiesTake
	}
	if strings.HasPrefix(asked.name, "silent-") {
		delay = 24 * time.Hour // until the client hangs up
	}
	w.seen.arrived(asked.name)
	if !connection.waits(min(delay, grace)) {
		return false
	}
	one := w.seen.begin(asked.name)
	defer w.seen.end(one)
	if delay > grace && !connection.waits(delay-grace) {
		return false
	}
	hasRobots := strings.HasPrefix(asked.name, "robots-")
	if path == "/robots.txt" && hasRobots {
		return writes(connection, "200 OK", "User-agent: *\nDisallow: /private/\n")
	}
	if hasRobots && parts[0] == "private" {
		w.seen.disregarded.Add(1)
	}
	if status, ok := statuses[parts[0]]; ok {
		return writes(connection, status, "")
	}
	if len(parts) < 2 || w.files[parts[1]] == nil {
		return writes(connection, "404 Not Found", "")
	}
	if parts[0] == "reset" {
		if tcp, ok := connection.raw.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		return false
	}
	return w.send(connection, parts[0], parts[1], query)
}

func writes(connection line, status, body string) bool {
	_, err := io.WriteString(connection, "HTTP/1.1 "+status+"\r\nContent-Length: "+
		strconv.Itoa(len(body))+"\r\n\r\n"+body)
	return err == nil
}

// A JPEG with a comment behind its first marker, so that no other URL has these bytes.
func commented(body []byte, comment string) []byte {
	if len(body) < 2 || body[0] != 0xff || body[1] != 0xd8 {
		return body
	}
	size := len(comment) + 2
	marked := append([]byte{0xff, 0xd8, 0xff, 0xfe, byte(size >> 8), byte(size)}, comment...)
	return append(marked, body[2:]...)
}

func (w *web) send(connection line, kind, file, query string) bool {
	body := w.files[file]
	if w.distinct {
		body = commented(body, query)
	}
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
		if _, err := connection.Write(part); err != nil {
			return false
		}
		w.seen.bytes.Add(int64(len(part)))
		if kind == "drip" && !connection.waits(time.Second) {
			return false
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
	distinct := flag.Bool("distinct", false, "each URL's JPEG has bytes of its own")
	policies := flag.Duration("policy_latency", 0, "of robots.txt and tdmrep.json")
	flag.Parse()
	w := &web{
		files: readFiles(*files), pace: &pace{rate: *rate}, distinct: *distinct,
		policiesTake: *policies,
		seen:         &seen{hosts: map[string]*host{}},
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
