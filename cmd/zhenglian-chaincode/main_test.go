package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

const packageID = "zhenglian_1.0:0123456789abcdef"

// authority is a certificate authority for one test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue returns a certificate and key for server and client use on loopback.
func (a authority) issue(t *testing.T) (certPEM, keyPEM []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "node"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

func (a authority) client(t *testing.T) tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(a.issue(t))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// folder writes a configuration with its files and returns its path.
func folder(t *testing.T, ca authority) string {
	t.Helper()
	dir := t.TempDir()
	cert, key := ca.issue(t)
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("server.pem", cert)
	write("server.key", key)
	write("peer-ca.pem", ca.pem)
	write("chaincode.json", []byte(`{"listen":"127.0.0.1:0","chaincodeId":"`+packageID+`","tls":{"certificate":"server.pem","key":"server.key","clientRoots":"peer-ca.pem"}}`))
	return filepath.Join(dir, "chaincode.json")
}

// start runs the program until the test ends or stop is called, and returns the
// address it says it serves on.
func start(t *testing.T, config string) (address string, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"--config", config}, io.Discard, write)
		write.Close()
	}()
	scanner := bufio.NewScanner(read)
	for address == "" && scanner.Scan() {
		var line struct{ Msg, Address string }
		if err := json.Unmarshal(scanner.Bytes(), &line); err != nil {
			t.Fatalf("log line %q: %v", scanner.Text(), err)
		}
		if line.Msg == "serving" {
			address = line.Address
		}
	}
	if address == "" {
		t.Fatal("the program ended before it served")
	}
	drained := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, read)
		close(drained)
	}()
	exit := -1
	stop = func() int {
		if exit < 0 {
			cancel()
			exit = <-code
			<-drained
		}
		return exit
	}
	t.Cleanup(func() { stop() })
	return address, stop
}

// connect opens the stream that a peer opens and returns the registration that
// the chaincode sends first.
func connect(ctx context.Context, address string, config *tls.Config) (peer.Chaincode_ConnectClient, *peer.ChaincodeMessage, func(), error) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		return nil, nil, nil, err
	}
	stream, err := peer.NewChaincodeClient(conn).Connect(ctx)
	if err != nil {
		conn.Close()
		return nil, nil, nil, err
	}
	first, err := stream.Recv()
	if err != nil {
		conn.Close()
		return nil, nil, nil, err
	}
	return stream, first, func() { conn.Close() }, nil
}

func TestMutualTLS(t *testing.T) {
	ca, other := newAuthority(t, "department"), newAuthority(t, "other")
	address, stop := start(t, folder(t, ca))
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()

	for _, tc := range []struct {
		name   string
		config *tls.Config
	}{
		{"no client certificate", &tls.Config{RootCAs: roots}},
		{"certificate of another authority", &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{other.client(t)}}},
		{"certificate forced past the server's hint", &tls.Config{RootCAs: roots, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			c := other.client(t)
			return &c, nil
		}}},
		{"TLS 1.1", &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{ca.client(t)}, MinVersion: tls.VersionTLS11, MaxVersion: tls.VersionTLS11}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, first, closeConn, err := connect(ctx, address, tc.config); err == nil {
				closeConn()
				t.Errorf("the connection was served: %v", first)
			}
		})
	}
	t.Run("no TLS", func(t *testing.T) {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprint(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
		answer, _ := io.ReadAll(conn)
		if bytes.Contains(answer, []byte(packageID)) {
			t.Error("the connection was served")
		}
	})
	t.Run("the peer", func(t *testing.T) {
		config := &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{ca.client(t)}}
		stream, first, closeConn, err := connect(ctx, address, config)
		if err != nil {
			t.Fatal(err)
		}
		defer closeConn()
		if first.GetType() != peer.ChaincodeMessage_REGISTER || !bytes.Contains(first.GetPayload(), []byte(packageID)) {
			t.Errorf("first message %v", first)
		}
		// The stream stays open: stopping must end it, and the process, by itself.
		if code := stop(); code != exitOK {
			t.Errorf("exit code %d", code)
		}
		if _, err := stream.Recv(); err == nil {
			t.Error("the stream survives the process")
		}
	})
}

func TestBadUse(t *testing.T) {
	ca := newAuthority(t, "department")
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	// edit returns a configuration with a part of its text replaced.
	edit := func(from, to string) string {
		path := folder(t, ca)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(data, []byte(from)) {
			t.Fatalf("the configuration lacks %q", from)
		}
		if err := os.WriteFile(path, bytes.Replace(data, []byte(from), []byte(to), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tc := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no flag", nil, exitUsage, "--config FILE is required"},
		{"unknown flag", []string{"--port", "1"}, exitUsage, "flag provided but not defined"},
		{"surplus argument", []string{"--config", "x", "y"}, exitUsage, `unexpected argument "y"`},
		{"no file", []string{"--config", "absent.json"}, exitFailed, "read configuration: open absent.json"},
		{"unknown field", []string{"--config", edit(`"listen"`, `"lisen"`)}, exitFailed, `unknown field "lisen"`},
		{"no listen", []string{"--config", edit(`"127.0.0.1:0"`, `""`)}, exitFailed, "listen is required"},
		{"no chaincode id", []string{"--config", edit(packageID, "")}, exitFailed, "chaincodeId is required"},
		{"no client roots", []string{"--config", edit(`,"clientRoots":"peer-ca.pem"`, "")}, exitFailed, "tls.clientRoots is required"},
		{"no port", []string{"--config", edit("127.0.0.1:0", "127.0.0.1")}, exitFailed, "listen must be host:port"},
		{"text after", []string{"--config", edit("}}", "}}{}")}, exitFailed, "text follows the JSON object"},
		{"no key", []string{"--config", edit("server.key", "absent.key")}, exitFailed, "tls.certificate and tls.key: open"},
		{"key of another", []string{"--config", edit(`"key":"server.key"`, `"key":"server.pem"`)}, exitFailed, "tls.certificate and tls.key"},
		{"absent roots", []string{"--config", edit("peer-ca.pem", "absent.pem")}, exitFailed, "tls.clientRoots: open"},
		{"empty roots", []string{"--config", edit("peer-ca.pem", "server.key")}, exitFailed, "tls.clientRoots: no certificate in"},
		{"absolute path", []string{"--config", edit("peer-ca.pem", "/nonexistent/ca.pem")}, exitFailed, "tls.clientRoots: open /nonexistent/ca.pem"},
		{"port in use", []string{"--config", edit("127.0.0.1:0", busy.Addr().String())}, exitFailed, "address already in use"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), tc.args, &stdout, &stderr)
			if code != tc.code || !strings.Contains(stderr.String(), tc.want) {
				t.Errorf("exit %d, %q; want %d, %q", code, stderr.String(), tc.code, tc.want)
			}
			if stdout.Len() != 0 {
				t.Errorf("standard output %q", stdout.String())
			}
		})
	}
}

func TestHelp(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, &stdout, &stderr); code != exitOK || stdout.String() != usage || stderr.Len() != 0 {
		t.Errorf("exit %d, %q, %q", code, stdout.String(), stderr.String())
	}
}
