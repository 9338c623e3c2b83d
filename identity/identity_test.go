package identity_test

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coffer/identity"
)

func TestSignVerify(t *testing.T) {
	k, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	other, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("message")
	sig := k.Sign(message)
	if err := k.ID().Verify(message, sig); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"other message": k.ID().Verify([]byte("messagf"), sig),
		"other key":     other.ID().Verify(message, sig),
		"cut":           k.ID().Verify(message, sig[:63]),
		"no signature":  k.ID().Verify(message, nil),
		"no id":         identity.ID("").Verify(message, sig),
		"no peer id":    identity.ID("12D3KooW").Verify(message, sig),
		// A valid peer ID of an RSA key: a hash, no key to verify with.
		"rsa id": identity.ID("QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC").Verify(message, sig),
	} {
		if err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestCreateLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identity.key")
	k, err := identity.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	back, err := identity.Load(path)
	if err != nil || back.ID() != k.ID() {
		t.Fatalf("%v %v", back, err)
	}
	if _, err := identity.Create(path); err == nil {
		t.Fatal("an identity was overwritten")
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := identity.Load(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Fatalf("a key that others can read: %v", err)
	}
	if err := os.WriteFile(path, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := identity.Load(path); err == nil {
		t.Fatal("junk was loaded")
	}
}

func TestKeyNeverPrints(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identity.key")
	k, err := identity.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	private, err := k.Libp2p()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := private.Raw()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
		fmt.Fprintf(&out, verb+"\n", k)
	}
	fmt.Fprintln(&out, k)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("key", "key", k)
	asJSON, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(asJSON)
	text := strings.ToLower(out.String())
	seed := raw[:32]
	if strings.Contains(text, hex.EncodeToString(seed)) || strings.Contains(text, strings.Trim(fmt.Sprint(seed), "[]")) || bytes.Contains(out.Bytes(), seed) {
		t.Fatal("the secret was printed")
	}
}

// handshake runs TLS between two configurations and returns both ends' errors.
func handshake(t *testing.T, server, client *tls.Config) (serverErr, clientErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer conn.Close()
		s := tls.Server(conn, server)
		err = s.Handshake()
		if err == nil {
			_, err = s.Write([]byte("x"))
		}
		done <- err
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := tls.Client(conn, client)
	clientErr = c.Handshake()
	if clientErr == nil {
		// In TLS 1.3 a refused client certificate shows at the first read.
		_, clientErr = c.Read(make([]byte, 1))
	}
	_ = conn.Close()
	return <-done, clientErr
}

func TestPinnedTLS(t *testing.T) {
	key := func() *identity.Key {
		k, err := identity.Generate()
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	server, client, stranger := key(), key(), key()
	admit := func(id identity.ID) error {
		if id != client.ID() {
			return identity.ErrUnknownPeer
		}
		return nil
	}
	must := func(c *tls.Config, err error) *tls.Config {
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	mutual, public := must(server.ServerTLS(admit)), must(server.ServerTLS(nil))
	old := must(client.ClientTLS(server.ID()))
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	for name, c := range map[string]struct {
		server, client *tls.Config
		ok             bool
	}{
		"right both":         {mutual, must(client.ClientTLS(server.ID())), true},
		"stranger":           {mutual, must(stranger.ClientTLS(server.ID())), false},
		"no certificate":     {mutual, identity.AnonymousTLS(server.ID()), false},
		"wrong server":       {mutual, must(client.ClientTLS(stranger.ID())), false},
		"anonymous":          {public, identity.AnonymousTLS(server.ID()), true},
		"anonymous, wrong":   {public, identity.AnonymousTLS(stranger.ID()), false},
		"older than TLS 1.3": {mutual, old, false},
		"public, with a key": {public, must(stranger.ClientTLS(server.ID())), true},
	} {
		t.Run(name, func(t *testing.T) {
			serverErr, clientErr := handshake(t, c.server, c.client)
			if ok := serverErr == nil && clientErr == nil; ok != c.ok {
				t.Fatalf("server: %v; client: %v; want ok=%v", serverErr, clientErr, c.ok)
			}
		})
	}
}

// While a server has two identities, it is reached by those who ask for either, and by
// nobody under one that was taken from it.
func TestRing(t *testing.T) {
	var keys [3]*identity.Key
	for i := range keys {
		k, err := identity.Generate()
		if err != nil {
			t.Fatal(err)
		}
		keys[i] = k
	}
	before, after, client := keys[0], keys[1], keys[2]
	ring, err := identity.NewRing(before)
	if err != nil {
		t.Fatal(err)
	}
	server, err := ring.ServerTLS(func(id identity.ID) error {
		if id != client.ID() {
			return identity.ErrUnknownPeer
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	reached := func(want *identity.Key) bool {
		cfg, err := client.ClientTLS(want.ID())
		if err != nil {
			t.Fatal(err)
		}
		serverErr, clientErr := handshake(t, server, cfg)
		return serverErr == nil && clientErr == nil
	}
	for _, step := range []struct {
		use           []*identity.Key
		before, after bool
	}{
		{[]*identity.Key{before}, true, false},
		{[]*identity.Key{before, after}, true, true},
		{[]*identity.Key{after, before}, true, true},
		{[]*identity.Key{after}, false, true},
	} {
		if err := ring.Use(step.use...); err != nil {
			t.Fatal(err)
		}
		if got := reached(before); got != step.before {
			t.Errorf("%v: the identity before is reached: %v", step.use, got)
		}
		if got := reached(after); got != step.after {
			t.Errorf("%v: the identity after is reached: %v", step.use, got)
		}
	}
	if err := ring.Use(); err == nil {
		t.Error("a server without an identity")
	}
	if before.ID().ServerName() == after.ID().ServerName() || strings.Contains(before.ID().ServerName(), string(before.ID())) {
		t.Error("the name does not stand for the identity, or tells it")
	}
}

// Clients and servers of two builds derive the same name.
func TestServerName(t *testing.T) {
	const id = identity.ID("12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X")
	if got := id.ServerName(); got != "id-9f67bce076c1efe749db139842559696" {
		t.Errorf("server name is %s", got)
	}
}

func TestPEM(t *testing.T) {
	k, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := k.MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	back, err := identity.ParsePEM(raw)
	if err != nil || back.ID() != k.ID() {
		t.Fatalf("%v %v", back, err)
	}
	for name, bad := range map[string][]byte{
		"nothing": nil, "junk": []byte("junk"), "cut": raw[:len(raw)/2],
		"another type": bytes.ReplaceAll(raw, []byte("PRIVATE KEY"), []byte("PUBLIC KEY")),
		"no DER":       []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
	} {
		if _, err := identity.ParsePEM(bad); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// The next identity is made once, beside one that can be read.
func TestNext(t *testing.T) {
	dir := t.TempDir()
	current, next := filepath.Join(dir, "identity.key"), filepath.Join(dir, "identity.next.key")
	if _, err := identity.Next(current, next); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("without an identity: %v", err)
	}
	if _, err := os.Stat(next); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a next one was made: %v", err)
	}
	now, err := identity.Create(current)
	if err != nil {
		t.Fatal(err)
	}
	made, err := identity.Next(current, next)
	if err != nil || made.ID() == now.ID() {
		t.Fatalf("%v, %v", made, err)
	}
	if found, err := identity.Next(current, next); err != nil || found.ID() != made.ID() {
		t.Errorf("the second time another one: %v", err)
	}
	if err := os.WriteFile(next, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := identity.Next(current, next); err == nil {
		t.Error("what cannot be read was replaced")
	}
}
