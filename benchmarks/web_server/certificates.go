package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log"
	"math/big"
	"os"
	"strings"
	"time"
)

// An issuer of certificates.
type issuer struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

var serial int64

func issue(by *issuer, subject string, names []string, from, until time.Time) *issuer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	serial++
	wanted := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: subject},
		NotBefore: from, NotAfter: until, DNSNames: names, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if names == nil {
		wanted.IsCA, wanted.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	}
	issued := &issuer{wanted, key}
	if by == nil {
		by = issued
	}
	data, err := x509.CreateCertificate(rand.Reader, wanted, by.certificate, key.Public(), by.key)
	if err != nil {
		log.Fatal(err)
	}
	issued.certificate, err = x509.ParseCertificate(data)
	if err != nil {
		log.Fatal(err)
	}
	return issued
}

func chain(leaf, between *issuer) *tls.Certificate {
	return &tls.Certificate{
		Certificate: [][]byte{leaf.certificate.Raw, between.certificate.Raw}, PrivateKey: leaf.key,
	}
}

// Certificates by an authority of their own, through one issuer between, as on the web; and for
// hosts whose names say so, such as nobody may take.
func certificates(path string) *tls.Config {
	now := time.Now()
	day := 24 * time.Hour
	year := now.Add(365 * day)
	all := []string{"*.web.test"}
	root := issue(nil, "authority of the benchmark", nil, now.Add(-day), year)
	between := issue(root, "issuer of the benchmark", nil, now.Add(-day), year)
	other := issue(nil, "authority that nobody trusts", nil, now.Add(-day), year)
	good := chain(issue(between, "web.test", all, now.Add(-day), year), between)
	bad := map[string]*tls.Certificate{
		"expired":   chain(issue(between, "web.test", all, now.Add(-9*day), now.Add(-2*day)), between),
		"wrongname": chain(issue(between, "other", []string{"other.test"}, now.Add(-day), year), between),
		"unknown":   chain(issue(other, "web.test", all, now.Add(-day), year), other),
	}
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.certificate.Raw})
	if path != "" {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			log.Fatal(err)
		}
	}
	return &tls.Config{
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			label, _, _ := strings.Cut(hello.ServerName, "-")
			if certificate := bad[label]; certificate != nil {
				return certificate, nil
			}
			return good, nil
		},
	}
}
