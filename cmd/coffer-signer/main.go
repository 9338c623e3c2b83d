package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	"coffer/audit"
	"coffer/charter"
	"coffer/engine"
	"coffer/identity"
	"coffer/internal/cli"
	"coffer/keystore"
	"coffer/node"
	"coffer/party"
	pb "coffer/proto/coffer/v1"
	"coffer/rpc"
	"coffer/transport"
	"coffer/transport/libp2p"
)

// workerArg makes this binary a worker process; it is no command for people.
const workerArg = "worker"

// ownProgram is what this process runs, also when the file that it was started from has
// been replaced since: parent and worker are always of one build.
const ownProgram = "/proc/self/exe"

func main() {
	if len(os.Args) == 2 && os.Args[1] == workerArg {
		os.Exit(engine.WorkerMain(os.Stdin, os.Stdout))
	}
	cli.Main(command())
}

func command() *cobra.Command {
	o := new(cli.Daemon)
	root := &cobra.Command{
		Use:     "coffer-signer",
		Short:   "Run one signer: one share of each key, and a mind of its own",
		Version: cli.Version(),
	}
	o.Flags(root, "signer")
	root.AddCommand(initCommand(o), cardCommand(o), joinCommand(o), runCommand(o), statusCommand(o), doctorCommand(o), pendingCommand(o), unsealCommand(o), sealCommand(o), freezeCommand(o), unfreezeCommand(o), recordsCommand(o), charterCommand(o), rotateCommand(o), auditCommand(o), addressCommand(o), validateCommand(o))
	return root
}

func need(o *cli.Daemon) (node.Dir, error) {
	dir, err := o.Need()
	return node.Dir(dir), err
}

func initCommand(o *cli.Daemon) *cobra.Command {
	var s node.Settings
	var name string
	var secret cli.Secret
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a new signer and print its card, one line for whoever writes the charter",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := need(o)
			if err != nil {
				return err
			}
			s.Name = party.ID(name)
			if err := s.Validate(); err != nil {
				return &cli.ExitError{Code: cli.Usage, Err: err}
			}
			passphrase, err := secret.Read("new passphrase for the shares of signer "+name, true)
			if err != nil {
				return err
			}
			card, err := node.Init(d, s, passphrase, keystore.SealOptions{})
			clear(passphrase)
			if err != nil {
				return err
			}
			if err := o.Done(cmd, map[string]any{"name": name, "card": card}, card); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "signer %s is made in %s; send its card to whoever writes the charter\n", name, o.Dir)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "name of this signer in the charter (required)")
	f.StringVar(&s.Organisation, "org", "", "organisation that runs it (required)")
	f.StringSliceVar(&s.ListenPeers, "listen-peers", nil, "multiaddr for the other signers, such as /ip4/10.0.0.1/tcp/7001 (required)")
	f.StringVar(&s.ListenCoordinator, "listen-coordinator", "", "host:port for the coordinator (required)")
	f.StringSliceVar(&s.AnnouncePeers, "announce-peers", nil, "multiaddr that the other signers dial, if not the listen address")
	f.StringVar(&s.AnnounceCoordinator, "announce-coordinator", "", "host:port that the coordinator dials, if not the listen address")
	f.StringVar(&s.ListenOrders, "listen-orders", "", "host:port where anybody brings signed orders to stop something; none if empty")
	f.StringVar(&s.AnnounceOrders, "announce-orders", "", "host:port that people dial for that, if not the listen address")
	f.IntVar(&s.PreParameters, "pre-parameters", 1, "sets of pre-parameters to keep ready for key generations")
	secret.Flags(cmd)
	return cmd
}

func cardCommand(o *cli.Daemon) *cobra.Command {
	return &cobra.Command{
		Use:   "card",
		Short: "Print this signer's card again",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := need(o)
			if err != nil {
				return err
			}
			card, err := node.Card(d)
			if err != nil {
				return err
			}
			return o.Done(cmd, map[string]any{"card": card}, card)
		},
	}
}

func joinCommand(o *cli.Daemon) *cobra.Command {
	var digest string
	cmd := &cobra.Command{
		Use:   "join FILE",
		Short: "Check a charter, sign it and pin it, once",
		Long: `join shows the charter, asks for the digest that you heard by another channel, signs the
charter as this signer and pins it. That is all: FILE goes nowhere afterwards. coffer-signer
run waits until every operator has signed; the coordinator carries the signatures between the
signers, each of which verifies them.

A signer that joins later is given the charter's file with the records of all versions since
(coffer charter export): it checks them all, shows the version that is in force, and asks for the
digest of that one.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := need(o)
			if err != nil {
				return err
			}
			file, err := charter.ReadFile(args[0])
			if err != nil {
				return err
			}
			c, err := node.Newest(file)
			if err != nil {
				return err
			}
			for _, line := range c.Describe() {
				fmt.Fprintln(cmd.ErrOrStderr(), line)
			}
			pin, err := cli.HeardDigest(digest, c.Digest())
			if err != nil {
				return err
			}
			file, err = node.Join(d, file, pin)
			if err != nil {
				return err
			}
			missing := file.Missing()
			text := "signed and pinned; every operator has signed"
			if len(missing) > 0 {
				text = "signed and pinned; the signatures of " + strings.Join(missing.Strings(), ", ") + " come through the coordinator"
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s; start the signer with coffer-signer run --dir %s\n", text, o.Dir)
			return o.Done(cmd, map[string]any{"digest": pin, "missing": missing.Strings()}, "")
		},
	}
	cmd.Flags().StringVar(&digest, "digest", "", "the digest that you heard by another channel; asked for if absent")
	return cmd
}

func validateCommand(o *cli.Daemon) *cobra.Command {
	return &cobra.Command{
		Use:   "validate",
		Short: "Check settings and charter without starting anything",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := need(o)
			if err != nil {
				return err
			}
			missing, err := node.Validate(d)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.ErrOrStderr(), "settings and charter are valid")
			if len(missing) > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "the charter waits for the operators of %s\n", strings.Join(missing.Strings(), ", "))
			}
			return o.Done(cmd, map[string]any{"valid": true, "missing": missing.Strings()}, "")
		},
	}
}

func runCommand(o *cli.Daemon) *cobra.Command {
	var secret cli.Secret
	var unseal bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the signer; it starts sealed unless a passphrase is given",
		Long: `run serves the coordinator and the other signers. Until every operator has signed the
charter it does nothing but wait for their signatures, and then goes on by itself. Without a
passphrase it starts sealed, and signs only after coffer-signer unseal.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := need(o)
			if err != nil {
				return err
			}
			// Before the wrap key is in memory: no core file, no other process's look.
			if err := engine.Harden(); err != nil {
				return err
			}
			settings, err := d.LoadSettings()
			if err != nil {
				return err
			}
			log := cli.Logger(cmd.ErrOrStderr(), settings.LogFormat)
			var passphrase []byte
			if unseal || secret.File != "" || secret.Descriptor >= 0 {
				if passphrase, err = secret.Read("passphrase", false); err != nil {
					return err
				}
			}
			cfg := node.Config{
				Dir: d, Logger: log, Version: cli.Version(), Passphrase: passphrase,
				Link: link(log),
				Host: func() (engine.Host, error) {
					return engine.NewWorker(engine.WorkerConfig{Path: ownProgram, Args: []string{workerArg}, Logger: log})
				},
				Ready: func(address string) {
					// A reader that is gone is no reason to stop serving.
					_ = o.Done(cmd, map[string]any{"ready": address}, "ready "+address)
				},
			}
			return node.Serve(cmd.Context(), cfg)
		},
	}
	cmd.Flags().BoolVar(&unseal, "unseal", false, "ask for the passphrase on the terminal")
	secret.Flags(cmd)
	return cmd
}

func statusCommand(o *cli.Daemon) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what the running signer has and is",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return operator(cmd.Context(), o, func(ctx context.Context, api pb.OperatorClient) error {
				st, err := api.Status(ctx, &pb.StatusRequest{})
				if err != nil {
					return err
				}
				if o.JSON {
					v, err := statusJSON(st)
					if err != nil {
						return err
					}
					return cli.JSON(cmd, v)
				}
				return printStatus(cmd, st)
			})
		},
	}
}

// statusJSON is the message as JSON, with digests and IDs in hex as everything else prints
// and takes them: protobuf's own form has all bytes in base64.
func statusJSON(st *pb.StatusResponse) (map[string]any, error) {
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(st)
	if err != nil {
		return nil, err
	}
	v := map[string]any{}
	numbers := json.NewDecoder(bytes.NewReader(raw))
	numbers.UseNumber()
	if err := numbers.Decode(&v); err != nil {
		return nil, err
	}
	for name, digest := range map[string][]byte{"charter_digest": st.CharterDigest, "root_digest": st.RootDigest} {
		if len(digest) > 0 {
			v[name] = hex.EncodeToString(digest)
		}
	}
	freezes, _ := v["freezes"].([]any) // absent when there is none
	for n, f := range freezes {
		if f, ok := f.(map[string]any); ok {
			f["id"] = hex.EncodeToString(st.Freezes[n].Id)
		}
	}
	return v, nil
}

// awaited are the signers whose operators have not signed the charter.
func awaited(st *pb.StatusResponse) []string {
	signed := map[string]bool{}
	for _, s := range st.CharterSignatures {
		signed[s.Name] = true
	}
	var out []string
	for _, p := range st.Peers {
		if !signed[p.Signer] {
			out = append(out, p.Signer)
		}
	}
	return out
}

func printStatus(cmd *cobra.Command, st *pb.StatusResponse) error {
	w := cmd.OutOrStdout()
	seal := "unsealed"
	if st.Sealed {
		seal = "SEALED: run coffer-signer unseal"
	}
	fmt.Fprintf(w, "signer      %s  %s\n", st.Signer, st.PeerId)
	fmt.Fprintf(w, "charter     version %d  %x\n", st.CharterVersion, st.CharterDigest)
	if !st.CharterComplete {
		fmt.Fprintf(w, "waits for   the operators of %s to sign the charter; nothing else runs before\n", strings.Join(awaited(st), ", "))
		fmt.Fprintf(w, "version     %s\n", st.Version)
		return nil
	}
	printAuthority(w, st)
	fmt.Fprintf(w, "shares      %s\n", seal)
	pool := fmt.Sprintf("%d ready", st.PreParameters)
	if st.PreParametersBusy {
		pool += ", searching"
	}
	fmt.Fprintf(w, "primes      %s\n", pool)
	for _, p := range st.Peers {
		state := "away"
		if p.Connected {
			state = "connected"
		}
		fmt.Fprintf(w, "peer        %s  %s\n", p.Signer, state)
	}
	fmt.Fprintf(w, "wallets     %d\n", len(st.Wallets))
	fmt.Fprintf(w, "sessions    %d under way\n", st.ActiveSessions)
	fmt.Fprintf(w, "audit       %d entries\n", st.AuditSize)
	fmt.Fprintf(w, "version     %s\n", st.Version)
	return nil
}

func unsealCommand(o *cli.Daemon) *cobra.Command {
	var secret cli.Secret
	cmd := &cobra.Command{
		Use:   "unseal",
		Short: "Give the running signer the passphrase of its shares",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			passphrase, err := secret.Read("passphrase", false)
			if err != nil {
				return err
			}
			defer clear(passphrase)
			return operator(cmd.Context(), o, func(ctx context.Context, api pb.OperatorClient) error {
				if _, err := api.Unseal(ctx, &pb.UnsealRequest{Passphrase: passphrase}); err != nil {
					return err
				}
				fmt.Fprintln(cmd.ErrOrStderr(), "unsealed")
				return o.Done(cmd, map[string]any{"sealed": false}, "")
			})
		},
	}
	secret.Flags(cmd)
	return cmd
}

func sealCommand(o *cli.Daemon) *cobra.Command {
	return &cobra.Command{
		Use:   "seal",
		Short: "Make the running signer forget the key of its shares",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return operator(cmd.Context(), o, func(ctx context.Context, api pb.OperatorClient) error {
				if _, err := api.Seal(ctx, &pb.SealRequest{}); err != nil {
					return err
				}
				fmt.Fprintln(cmd.ErrOrStderr(), "sealed")
				return o.Done(cmd, map[string]any{"sealed": true}, "")
			})
		},
	}
}

func auditCommand(o *cli.Daemon) *cobra.Command {
	return &cobra.Command{
		Use:   "audit [CHECKPOINT...]",
		Short: "Verify this signer's audit log, every entry of it, beside a running signer too",
		Long: `audit recomputes every hash of the log and checks its signed checkpoint. CHECKPOINT names
files with checkpoints that were kept elsewhere, such as from an earlier status: the log must
extend each of them, so that a rewritten log is found.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := need(o)
			if err != nil {
				return err
			}
			var known [][]byte
			for _, path := range args {
				raw, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				known = append(known, raw)
			}
			key, err := identity.Load(d.Identity())
			if err != nil {
				return err
			}
			r, err := audit.Verify(d.Audit(), known...)
			if err != nil {
				return err
			}
			if r.Identity != key.ID() {
				return fmt.Errorf("the log is of identity %s, this signer is %s", r.Identity, key.ID())
			}
			if o.JSON {
				return cli.JSON(cmd, map[string]any{"entries": r.Size, "signed": r.Signed, "root": r.Root.String(), "origin": r.Origin})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d entries, none changed; the checkpoint covers %d\n", r.Size, r.Signed)
			return nil
		},
	}
}

// link makes the mesh of a node's peers.
func link(log *slog.Logger) func(node.Peers) (transport.Link, error) {
	return func(p node.Peers) (transport.Link, error) {
		peers := map[party.ID]libp2p.Peer{}
		for id, address := range p.Others {
			peers[id] = libp2p.Peer{ID: address.Peer, Addrs: address.P2P}
		}
		l, err := libp2p.New(libp2p.Config{Key: p.Key, Self: p.Self, Peers: peers, Listen: p.Listen, Cluster: p.Cluster, Build: p.Version, Logger: log})
		if err != nil {
			return nil, err
		}
		return l, nil
	}
}

// operator calls the running signer on its Unix socket.
func operator(ctx context.Context, o *cli.Daemon, call func(context.Context, pb.OperatorClient) error) error {
	d, err := need(o)
	if err != nil {
		return err
	}
	conn, err := rpc.DialUnix(d.Socket())
	if err != nil {
		return node.SocketError(d, err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return call(ctx, pb.NewOperatorClient(conn))
}
