package credential

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// Signer makes signatures that Key().Verify accepts. Sign may wait for a person.
type Signer interface {
	Key() Key
	Sign(namespace string, message []byte) ([]byte, error)
}

// hash is OpenSSH's default, so that what we make equals what ssh-keygen makes.
const hash = sshsig.HashSHA512

// agentPatience bounds one answer of an agent, which may ask a person to confirm.
const agentPatience = 2 * time.Minute

// fileSigner holds a private key in memory. It prints as its public key only.
type fileSigner struct {
	key    Key
	secret ssh.Signer
}

// NewSigner wraps a private key that is in memory already.
func NewSigner(secret ssh.Signer) (Signer, error) {
	if secret == nil {
		return nil, fmt.Errorf("%w: there is none", ErrUnsupportedKey)
	}
	pub, err := parseBlob(secret.PublicKey().Marshal())
	if err != nil {
		return nil, err
	}
	return &fileSigner{key: keyOf(pub), secret: secret}, nil
}

func (s *fileSigner) Key() Key { return s.key }

func (s *fileSigner) Sign(namespace string, message []byte) ([]byte, error) {
	sig, err := sshsig.Sign(bytes.NewReader(message), s.secret, hash, namespace)
	if err != nil {
		return nil, fmt.Errorf("sign with %s: %w", s.key.Fingerprint(), err)
	}
	return seal(s.key, namespace, message, sig)
}

func (s *fileSigner) String() string               { return "private key of " + s.key.Fingerprint() }
func (s *fileSigner) GoString() string             { return s.String() }
func (s *fileSigner) LogValue() slog.Value         { return slog.StringValue(s.String()) }
func (s *fileSigner) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, s.String()) }
func (s *fileSigner) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Open makes a Signer of a private key file, or, when path is a public key (.pub),
// of the ssh-agent at SSH_AUTH_SOCK. passphrase is asked at most once, for an
// encrypted file; what it returns is wiped after use.
func Open(path string, passphrase func(prompt string) ([]byte, error)) (Signer, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open key: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > 64<<10 {
		return nil, fmt.Errorf("open key %s: it is not a key file", path)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("open key: %w", err)
	}
	defer clear(raw)
	if strings.HasSuffix(path, ".pub") || !bytes.Contains(raw, []byte("-----BEGIN ")) {
		k, err := ParseKey(string(raw))
		if err != nil {
			return nil, fmt.Errorf("open key %s: %w", path, err)
		}
		socket := os.Getenv("SSH_AUTH_SOCK")
		if socket == "" {
			return nil, fmt.Errorf("%w: SSH_AUTH_SOCK is not set; start an agent and ssh-add the key, or name the private key file instead of %s", ErrAgent, path)
		}
		return Agent(socket, k)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("open key %s: its mode is %04o, others could read it; chmod 600 it", path, mode)
	}
	if _, ok := handleOf(raw); ok {
		return nil, fmt.Errorf("open key %s: it is only the handle of a security key, which ssh-agent signs with; run ssh-add %s, then name %s.pub", path, path, path)
	}
	secret, err := ssh.ParsePrivateKey(raw)
	var missing *ssh.PassphraseMissingError
	if errors.As(err, &missing) {
		secret, err = decrypt(path, raw, passphrase)
	}
	if err != nil {
		return nil, fmt.Errorf("open key %s: %w", path, err)
	}
	s, err := NewSigner(secret)
	if err != nil {
		return nil, fmt.Errorf("open key %s: %w", path, err)
	}
	return s, nil
}

func decrypt(path string, raw []byte, passphrase func(string) ([]byte, error)) (ssh.Signer, error) {
	if passphrase == nil {
		return nil, errors.New("it is encrypted and there is nobody to ask for its passphrase; add it to an ssh-agent and name the .pub file")
	}
	word, err := passphrase("Passphrase for " + path + ": ")
	if err != nil {
		return nil, fmt.Errorf("ask for the passphrase: %w", err)
	}
	defer clear(word)
	secret, err := ssh.ParsePrivateKeyWithPassphrase(raw, word)
	if errors.Is(err, x509.IncorrectPasswordError) {
		return nil, ErrPassphrase
	}
	return secret, err
}

// agentSigner asks an ssh-agent anew for each signature, so that an agent which is
// locked, restarted or emptied meanwhile is noticed.
type agentSigner struct {
	socket string
	key    Key
	pub    ssh.PublicKey
}

// Agent makes a Signer of the agent that listens on socket and holds k.
func Agent(socket string, k Key) (Signer, error) {
	p, err := k.parse()
	if err != nil {
		return nil, err
	}
	if k.Kind == KindWebAuthn {
		return nil, fmt.Errorf("%w: it holds no passkeys; a browser does", ErrUnsupportedKey)
	}
	s := &agentSigner{socket: socket, key: k, pub: p.ssh}
	if err := s.with(s.holds); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *agentSigner) Key() Key       { return s.key }
func (s *agentSigner) String() string { return "ssh-agent key " + s.key.Fingerprint() }

func (s *agentSigner) with(do func(agent.ExtendedAgent) error) error {
	conn, err := net.DialTimeout("unix", s.socket, 5*time.Second)
	if err != nil {
		return fmt.Errorf("%w: %w; is it running?", ErrAgent, err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(agentPatience)); err != nil {
		return fmt.Errorf("%w: %w", ErrAgent, err)
	}
	return do(agent.NewClient(conn))
}

func (s *agentSigner) holds(a agent.ExtendedAgent) error {
	keys, err := a.List()
	if err != nil {
		return fmt.Errorf("%w: list keys: %w", ErrAgent, err)
	}
	for _, k := range keys {
		if bytes.Equal(k.Blob, s.pub.Marshal()) {
			return nil
		}
	}
	return fmt.Errorf("%w: it does not hold %s; ssh-add it first", ErrAgent, s.key.Fingerprint())
}

func (s *agentSigner) Sign(namespace string, message []byte) (out []byte, err error) {
	err = s.with(func(a agent.ExtendedAgent) error {
		sig, err := sshsig.Sign(bytes.NewReader(message), remote{a, s.pub}, hash, namespace)
		if err != nil && s.key.Kind == KindSK {
			// The agent says no more than "failure": no touch, a wrong PIN, the key not plugged in.
			return fmt.Errorf("%w: the security key %s did not sign: %w; is it plugged in, was it touched in time, could the agent ask for its PIN (SSH_ASKPASS)?", ErrAgent, s.key.Fingerprint(), err)
		}
		if err != nil {
			return fmt.Errorf("%w: sign with %s: %w", ErrAgent, s.key.Fingerprint(), err)
		}
		out, err = seal(s.key, namespace, message, sig)
		return err
	})
	return out, err
}

// Announced is key, told about on w before it signs if it waits for a touch. Others
// it returns as they are.
func Announced(key Signer, w io.Writer) Signer {
	if key.Key().Kind != KindSK {
		return key
	}
	return announced{key, w}
}

type announced struct {
	Signer
	w io.Writer
}

func (a announced) Sign(namespace string, message []byte) ([]byte, error) {
	fmt.Fprintf(a.w, "touch your security key %s\n", a.Key().Fingerprint())
	return a.Signer.Sign(namespace, message)
}

// remote is one connection to an agent as an ssh.AlgorithmSigner.
type remote struct {
	agent agent.ExtendedAgent
	pub   ssh.PublicKey
}

func (r remote) PublicKey() ssh.PublicKey { return r.pub }

func (r remote) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	return r.agent.Sign(r.pub, data)
}

func (r remote) SignWithAlgorithm(_ io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	var flags agent.SignatureFlags
	switch algorithm {
	case ssh.KeyAlgoRSASHA512:
		flags = agent.SignatureFlagRsaSha512
	case ssh.KeyAlgoRSASHA256:
		flags = agent.SignatureFlagRsaSha256
	default:
		return nil, fmt.Errorf("algorithm %s is not asked of an agent", algorithm)
	}
	return r.agent.SignWithFlags(r.pub, data, flags)
}
