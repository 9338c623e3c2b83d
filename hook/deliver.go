package hook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// finalError is one that another try would not mend.
type finalError struct{ error }

func final(err error) bool {
	var f finalError
	return errors.As(err, &f)
}

// checkURL takes https, and http to this machine: events name wallets, amounts and
// people, which are nobody else's business.
func checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
		return errors.New("url: not an https URL")
	case u.User != nil:
		return errors.New("url: a password does not belong into a URL; events are signed, check the signature instead")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return errors.New("url: http only to this machine, such as http://127.0.0.1:8080/; use https")
	}
	return nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// poster calls a URL. It follows no redirect and uses no proxy: the receiver is who
// the operator named.
func poster(target string) (name string, deliver func(context.Context, letter) error) {
	client := &http.Client{
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout: 5 * time.Second, MaxIdleConns: 1, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 16 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	name = target
	if u, err := url.Parse(target); err == nil {
		name = u.Scheme + "://" + u.Host // a path may hold a token
	}
	return name, func(ctx context.Context, l letter) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(l.body))
		if err != nil {
			return finalError{err}
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("User-Agent", "coffer")
		req.Header.Set(HeaderPeer, string(l.peer))
		req.Header.Set(HeaderSignature, l.signature)
		resp, err := client.Do(req)
		if err != nil {
			var u *url.Error // its text has the whole URL
			if errors.As(err, &u) {
				err = u.Err
			}
			return err
		}
		defer resp.Body.Close()
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // so that the connection can be used again
		switch code := resp.StatusCode; {
		case code < 300:
			return nil
		case code == http.StatusRequestTimeout || code == http.StatusTooManyRequests || code >= 500:
			return fmt.Errorf("answered %s", resp.Status)
		default:
			return finalError{fmt.Errorf("answered %s", resp.Status)}
		}
	}
}

func checkPath(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return fmt.Errorf("exec: %q is not an absolute path", path)
	}
	return nil
}

// checkProgram refuses a program that others on the machine could exchange.
func checkProgram(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return fmt.Errorf("exec: %w", err)
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("exec: %s is not a program: chmod +x it", path)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("exec: %s has mode %04o: others could put their own words into it; chmod 755 it", path, info.Mode().Perm())
	}
	return nil
}

const maxOutput = 1 << 10

// starter runs a program with the event on stdin. What it prints is shown when it fails.
func starter(command []string) func(context.Context, letter) error {
	return func(ctx context.Context, l letter) error {
		if err := checkProgram(command[0]); err != nil {
			return err // it may be in the middle of being replaced
		}
		out := &limited{left: maxOutput}
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		cmd.Dir = "/"
		cmd.Env = []string{
			"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C.UTF-8",
			"COFFER_EVENT=" + l.event.Name, "COFFER_INTENT=" + l.event.Intent, "COFFER_SUBJECT=" + l.event.Subject,
			"COFFER_PEER=" + string(l.peer), "COFFER_SIGNATURE=" + l.signature, "COFFER_TIME=" + strconv.FormatInt(l.event.Time, 10),
		}
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(l.body), out, out
		// A group of its own, so that what it starts ends with it.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		cmd.WaitDelay = time.Second
		err := cmd.Run()
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("stopped after %s", tryWithin)
		}
		if err != nil && out.kept.Len() > 0 {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(out.kept.String()))
		}
		return err
	}
}

// limited keeps the first bytes and takes all, so that nobody blocks on it.
type limited struct {
	kept bytes.Buffer
	left int
}

func (l *limited) Write(b []byte) (int, error) {
	keep := b[:min(len(b), l.left)]
	l.left -= len(keep)
	l.kept.Write(keep)
	return len(b), nil
}
