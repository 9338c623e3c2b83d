package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
)

var backoffConfig = backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: reconnectIn}

// NewUnixServer listens on a Unix socket that its owner alone can open, mode 0600
// in a directory that others cannot enter. A socket that a killed process left
// behind is replaced; one on which somebody answers is not. All its methods are of the
// role Owner.
func NewUnixServer(path string, methods Methods) (*Server, net.Listener, error) {
	info, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return nil, nil, fmt.Errorf("operator's socket: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, nil, fmt.Errorf("operator's socket: directory %s has mode %04o: others could reach it; chmod 700 it", filepath.Dir(path), info.Mode().Perm())
	}
	if len(path) > 100 {
		return nil, nil, fmt.Errorf("operator's socket: path %s has %d characters, Unix sockets take about 100: use a shorter directory", path, len(path))
	}
	if err := removeStale(path); err != nil {
		return nil, nil, fmt.Errorf("operator's socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, nil, fmt.Errorf("operator's socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("operator's socket: %w", err), l.Close())
	}
	g := &gate{methods: methods, roles: []Role{Owner}}
	return &Server{Server: grpc.NewServer(options(g)...), gate: g, conns: [2]int{maxConns, maxConns}}, ownListener{l}, nil
}

// removeStale removes a socket only when the kernel says that nobody listens on it.
// Any other answer, such as a full backlog, means that somebody may.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("%s is no socket: move it away", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = conn.Close()
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("another process has %s", path)
	}
	return os.Remove(path)
}

// ownListener accepts only processes of the same user, and root. The socket's mode
// says the same; this holds where somebody loosened it.
type ownListener struct{ net.Listener }

func (l ownListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if uid, err := peerUID(conn); err == nil && (uid == 0 || uid == os.Getuid()) {
			return conn, nil
		}
		_ = conn.Close() // somebody else's; there is nobody to tell
	}
}

func peerUID(conn net.Conn) (uid int, err error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, errors.New("not a Unix connection")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
	}
	return int(cred.Uid), nil
}

// DialUnix connects to a daemon's operator socket.
func DialUnix(path string) (*grpc.ClientConn, error) {
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return nil, err
	}
	_ = conn.Close() // it only had to answer
	return grpc.NewClient("passthrough:///operator", append(clientOptions(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}),
	)...)
}
