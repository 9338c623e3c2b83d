//go:build e2e

package main_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"coffer/canon"
	"coffer/charter"
	"coffer/internal/demo"
	"coffer/internal/gethdev"
	"coffer/keyshare"
	"coffer/keystore"
	"coffer/party"
	"coffer/store"
)

// bin is the folder with the programs, built once for all tests.
var bin string

func TestMain(m *testing.M) {
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (int, error) {
	var err error
	if bin, err = os.MkdirTemp("", "coffer-e2e-"); err != nil {
		return 1, err
	}
	defer os.RemoveAll(bin)
	cmd := exec.Command("go", "build", "-trimpath", "-tags", "grpcnotrace", "-o", bin+"/", "./cmd/...")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// running lists the processes of a folder's programs.
func running(t *testing.T) []int {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, link := range links {
		if exe, err := os.Readlink(link); err == nil && strings.HasPrefix(exe, bin+"/") {
			var pid int
			if _, err := fmt.Sscanf(link, "/proc/%d/exe", &pid); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func waitGone(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for len(running(t)) > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("processes are left: %v", running(t))
		}
		<-time.After(50 * time.Millisecond)
	}
}

// The demo, whole: what it prints is checked with code that is not ours, what it
// wrote and what its processes hold is searched for the key and the shares.
func TestDemo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cluster")
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "coffer-demo"), "--json", "--keep", "--dir", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = &stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var result demo.Result
	if err := json.NewDecoder(&tee{out, &stdout}).Decode(&result); err != nil {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		t.Fatalf("no result: %v\n%s", err, stderr.String())
	}
	t.Logf("%s", stderr.String())
	o := &office{dir: dir, result: result, started: map[string]*exec.Cmd{}}
	t.Cleanup(o.stop)
	t.Run("changes", o.changes)
	secrets := collect(t, dir, result)
	searchMemory(t, secrets)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	o.stop()
	if err := cmd.Wait(); err != nil {
		t.Errorf("after Ctrl-C the demo exits with %v", err)
	}
	waitGone(t)

	checkResult(t, result)
	searchFiles(t, dir, secrets)
	for _, s := range secrets {
		for name, form := range s.forms() {
			if bytes.Contains(stdout.Bytes(), form) || bytes.Contains(stderr.Bytes(), form) {
				t.Errorf("the demo printed %s as %s", s.what, name)
			}
		}
	}
}

type tee struct {
	from interface{ Read([]byte) (int, error) }
	to   *bytes.Buffer
}

func (r *tee) Read(b []byte) (int, error) {
	n, err := r.from.Read(b)
	r.to.Write(b[:n])
	return n, err
}

// checkResult uses go-ethereum alone.
func checkResult(t *testing.T, r demo.Result) {
	t.Helper()
	if r.Wallet.Quorum.Need != 2 || r.Wallet.Quorum.Of != 3 || len(r.Wallet.Signers) != 3 || len(r.Acts) != 4 {
		t.Fatalf("%+v", r)
	}
	pay, refused, frozen, lifted := r.Acts[0], r.Acts[1], r.Acts[2], r.Acts[3]
	if pay.Outcome != "mined" || len(pay.Signers) != 2 {
		t.Errorf("act 1: %+v", pay)
	}
	checkTx(t, r, pay, new(big.Int).Mul(big.NewInt(15), big.NewInt(1e17)))
	if refused.Outcome != "refused" || len(refused.Reasons) != 3 || refused.RawTx != "" {
		t.Errorf("act 2: %+v", refused)
	}
	for name, reasons := range refused.Reasons {
		if len(reasons) == 0 || !strings.Contains(strings.Join(reasons, " "), "2 ETH") {
			t.Errorf("signer %s does not say that the limit is 2 ETH: %q", name, reasons)
		}
	}
	if frozen.Outcome != "frozen" || len(frozen.Reasons) != 3 || frozen.RawTx != "" || len(frozen.Signers) != 0 {
		t.Errorf("act 3: %+v", frozen)
	}
	for name, reasons := range frozen.Reasons {
		if !strings.Contains(strings.Join(reasons, " "), "frozen") {
			t.Errorf("signer %s does not say that it is frozen: %q", name, reasons)
		}
	}
	if lifted.Outcome != "mined" || len(lifted.Signers) != 2 {
		t.Errorf("act 4: %+v", lifted)
	}
	checkTx(t, r, lifted, new(big.Int).Mul(big.NewInt(25), big.NewInt(1e16)))
}

// checkTx recovers who signed a payment of the story.
func checkTx(t *testing.T, r demo.Result, pay demo.Act, want *big.Int) {
	t.Helper()
	raw, err := hexutil.Decode(pay.RawTx)
	if err != nil {
		t.Fatal(err)
	}
	tx := new(types.Transaction)
	if err := tx.UnmarshalBinary(raw); err != nil {
		t.Fatal(err)
	}
	from, err := types.Sender(types.LatestSignerForChainID(big.NewInt(1337)), tx)
	if err != nil {
		t.Fatal(err)
	}
	if from.Hex() != r.Wallet.Address {
		t.Errorf("the transaction is of %s, the wallet is %s", from.Hex(), r.Wallet.Address)
	}
	pub, err := hex.DecodeString(r.Wallet.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := crypto.DecompressPubkey(pub)
	if err != nil {
		t.Fatal(err)
	}
	if crypto.PubkeyToAddress(*key).Hex() != r.Wallet.Address {
		t.Error("the address is not of the public key")
	}
	if tx.Hash().Hex() != pay.TxHash {
		t.Errorf("hash %s, want %s", pay.TxHash, tx.Hash().Hex())
	}
	if tx.Value().Cmp(want) != 0 {
		t.Errorf("value %s, want %s", tx.Value(), want)
	}
}

type secret struct {
	what  string
	value []byte // 32 bytes, big-endian
}

func (s secret) forms() map[string][]byte {
	reversed := make([]byte, len(s.value)) // as math/big holds it in memory
	for i, b := range s.value {
		reversed[len(s.value)-1-i] = b
	}
	return map[string][]byte{
		"bytes": s.value, "words": reversed, "hex": []byte(hex.EncodeToString(s.value)),
		"HEX": []byte(strings.ToUpper(hex.EncodeToString(s.value))), "decimal": []byte(new(big.Int).SetBytes(s.value).String()),
		// Base64 without its ends, which depend on what stands before and after.
		"base64": []byte(base64.RawStdEncoding.EncodeToString(s.value)[:40]),
	}
}

// collect opens the shares with the operators' passphrases, as only this test may,
// and assembles the key that nobody holds, to know what to search for.
func collect(t *testing.T, dir string, r demo.Result) []secret {
	t.Helper()
	file, err := charter.ReadFile(filepath.Join(dir, "coordinator", "charter.json"))
	if err != nil {
		t.Fatal(err)
	}
	var out []secret
	n := crypto.S256().Params().N
	xs, ys := []*big.Int{}, []*big.Int{}
	for _, id := range file.Charter.Parties() {
		home := filepath.Join(dir, "signers", string(id))
		passphrase, err := os.ReadFile(filepath.Join(dir, "passphrases", string(id), "passphrase"))
		if err != nil {
			t.Fatal(err)
		}
		key, err := keystore.UnlockSeal(filepath.Join(home, "seal.age"), bytes.TrimSpace(passphrase))
		if err != nil {
			t.Fatal(err)
		}
		// The running signer holds the lock of its own file.
		copied := filepath.Join(t.TempDir(), "signer.db")
		raw, err := os.ReadFile(filepath.Join(home, "signer.db"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(copied, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := store.Open(copied)
		if err != nil {
			t.Fatal(err)
		}
		keys, err := keystore.Open(db)
		if err != nil {
			t.Fatal(err)
		}
		meta, sealed, err := keys.Share(r.Wallet.Name, 1)
		if err != nil {
			t.Fatal(err)
		}
		share, err := keyshare.OpenShare(key, meta, sealed)
		if err != nil {
			t.Fatal(err)
		}
		err = share.Use(func(_ uint64, plain []byte) error {
			x := canon.NewDecoder("coffer/share-record/v1", plain).Big(32)
			ys = append(ys, x)
			out = append(out, secret{"the share of " + string(id), x.FillBytes(make([]byte, 32))})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		xs = append(xs, partyKey(meta, id))
	}
	// Lagrange interpolation at zero over two of the three shares.
	private := new(big.Int)
	for i := range 2 {
		j := 1 - i
		num, den := new(big.Int).Set(xs[j]), new(big.Int).Sub(xs[j], xs[i])
		lambda := num.Mul(num, den.ModInverse(den.Mod(den, n), n))
		private.Add(private, lambda.Mul(lambda, ys[i]))
	}
	private.Mod(private, n)
	assembled, err := crypto.ToECDSA(private.FillBytes(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	if crypto.PubkeyToAddress(assembled.PublicKey).Hex() != r.Wallet.Address {
		t.Fatal("this test does not assemble the wallet's key, so it would search for the wrong thing")
	}
	return append(out, secret{"the private key", private.FillBytes(make([]byte, 32))})
}

func partyKey(m keyshare.Meta, id party.ID) *big.Int {
	d := canon.New("coffer/party-key/v1").Digest(m.Cluster).String(m.Wallet).Uint64(m.Epoch).Digest(m.Ceremony).String(string(id)).Sum()
	return new(big.Int).Mod(new(big.Int).SetBytes(d[:]), crypto.S256().Params().N)
}

func searchFiles(t *testing.T, dir string, secrets []secret) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		files++
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, s := range secrets {
			for name, form := range s.forms() {
				if bytes.Contains(raw, form) {
					t.Errorf("%s holds %s as %s", path, s.what, name)
				}
			}
		}
		return nil
	})
	if err != nil || files < 10 {
		t.Fatalf("searched %d files: %v", files, err)
	}
}

// searchMemory looks into every process of the cluster. A worker must hold its
// share while it signs; nothing else may, and the key is nowhere.
func searchMemory(t *testing.T, secrets []secret) {
	t.Helper()
	pids, searched := running(t), 0
	if len(pids) < 6 {
		t.Fatalf("only %d processes run", len(pids))
	}
	for _, pid := range pids {
		cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			continue // it has just ended
		}
		worker := strings.HasSuffix(strings.TrimRight(string(cmdline), "\x00"), "\x00worker")
		for _, s := range secrets {
			for _, form := range s.forms() {
				if strings.Contains(string(cmdline), string(form)) {
					t.Errorf("process %d has %s in its arguments", pid, s.what)
				}
			}
		}
		memory, err := readMemory(pid)
		if err != nil {
			if os.Geteuid() == 0 {
				t.Errorf("read memory of process %d: %v", pid, err)
			}
			continue // not dumpable: only root may look
		}
		searched++
		for _, s := range secrets {
			if worker && s.what != "the private key" {
				continue
			}
			for name, form := range s.forms() {
				for _, m := range memory {
					if bytes.Contains(m, form) {
						t.Errorf("process %d (%q) holds %s as %s", pid, cmdline, s.what, name)
					}
				}
			}
		}
	}
	t.Logf("searched the memory of %d of %d processes", searched, len(pids))
}

func readMemory(pid int) ([][]byte, error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return nil, err
	}
	defer mem.Close()
	var out [][]byte
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		var perm string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &perm); err != nil || !strings.HasPrefix(perm, "rw") || to-from > 1<<30 {
			continue
		}
		b := make([]byte, to-from)
		if n, err := mem.ReadAt(b, int64(from)); err == nil {
			out = append(out, b[:n])
		}
	}
	return out, nil
}

// Ctrl-C in the middle leaves no process and no folder.
func TestDemoInterrupted(t *testing.T) {
	tmp := t.TempDir()
	cmd := exec.Command(filepath.Join(bin, "coffer-demo"))
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	stderr := &watcher{want: "run; charter", seen: make(chan struct{})}
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-stderr.seen:
	case <-time.After(2 * time.Minute):
		t.Errorf("the daemons did not start: %s", stderr.text.String())
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("an interrupted demo exits with 0")
	}
	waitGone(t)
	if left, err := filepath.Glob(filepath.Join(tmp, "coffer-demo-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

type watcher struct {
	want string
	seen chan struct{}
	text bytes.Buffer
	done bool
}

func (w *watcher) Write(b []byte) (int, error) {
	w.text.Write(b)
	if !w.done && strings.Contains(w.text.String(), w.want) {
		w.done = true
		close(w.seen)
	}
	return len(b), nil
}

// The same story on a chain client that none of our code wrote.
func TestDemoOnGeth(t *testing.T) {
	geth, err := gethdev.Binary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "coffer-demo"), "--json", "--geth", geth, "--dir", filepath.Join(t.TempDir(), "cluster"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	var result demo.Result
	if err := json.Unmarshal(out, &result); err != nil {
		t.Fatal(err)
	}
	checkResult(t, result)
	waitGone(t)
}

// A folder that has something in it is refused and stays as it is.
func TestDemoRefusesFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(filepath.Join(bin, "coffer-demo"), "--dir", dir).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "not empty") {
		t.Fatalf("%v: %s", err, out)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Fatalf("%v %v", entries, err)
	}
}
