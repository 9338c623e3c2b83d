package archtest

// Patterns are import paths; "/..." at the end means the path and all below it.
// Paths of this module begin with "coffer".

// BuildTags are the tags that the Makefile builds the binaries with. Without
// grpcnotrace every gRPC program links html/template through golang.org/x/net/trace.
const BuildTags = "grpcnotrace"

// Rule says what packages must not import.
type Rule struct {
	Name   string   // of the test
	Who    []string // the packages that it binds
	Except []string // fewer of them
	Never  []string // what they must not import
	Linked bool     // true: nor any package that they import; false: not by themselves
	Tests  bool     // true: nor in their tests
	Reason string
}

const (
	tssLib     = "github.com/bnb-chain/tss-lib/..."
	goEthereum = "github.com/ethereum/go-ethereum/..."
)

// Pure packages take time, randomness and bytes as arguments. The same input
// gives the same answer, on any machine, at any time: that is what makes their
// tests and replays worth something.
var Pure = []string{
	"coffer/canon", "coffer/party", "coffer/policy", "coffer/intent", "coffer/approval", "coffer/chain/evm",
	"coffer/gate", "coffer/envelope", "coffer/signing", "coffer/dkg", "coffer/partial", "coffer/verdict", "coffer/wallet", "coffer/authority",
}

// Rules are checked one by one. A rule whose Who matches no package fails: it
// would guard nothing.
var Rules = []Rule{
	{
		Name:   "coordinator holds no secret",
		Who:    []string{"coffer/coordinator", "coffer/cmd/coffer-coordinator"},
		Never:  []string{"coffer/gate/...", "coffer/engine/...", "coffer/keyshare/...", "coffer/keystore/...", "coffer/signing/...", "coffer/dkg/...", "coffer/node/...", tssLib},
		Linked: true,
		Reason: "the coordinator holds no share and decides nothing; whoever takes it over finds no code in it that could authorise",
	},
	{
		Name:   "people's tool is no client of chains",
		Who:    []string{"coffer/cmd/coffer"},
		Never:  []string{"coffer/chain/rpc/...", "coffer/engine/...", "coffer/keyshare/...", "coffer/keystore/...", goEthereum, tssLib},
		Linked: true,
		Reason: "a person's tool holds the person's key and nothing else; it never asks a chain and never computes with shares",
	},
	{
		Name: "signer trusts no endpoint",
		Who:  []string{"coffer/node", "coffer/cmd/coffer-signer"},
		// database/sql/driver is only interfaces, which a library of the tracer implements.
		Never:  []string{"coffer/chain/rpc/...", "coffer/coordinator/...", goEthereum, "database/sql", "html/template", "github.com/jackc/...", "github.com/lib/pq/..."},
		Linked: true,
		Reason: "a signer takes no RPC endpoint's word on trust and has no database driver and no web pages to be attacked through",
	},
	{
		Name:   "one importer of tss-lib",
		Who:    []string{"coffer/..."},
		Except: []string{"coffer/engine/...", "coffer/internal/testkeys/..."},
		Never:  []string{tssLib},
		Tests:  true,
		Reason: "the engine is the only importer of tss-lib, so that every message passes its guard",
	},
	{
		Name:   "one importer of go-ethereum",
		Who:    []string{"coffer/..."},
		Except: []string{"coffer/chain/rpc/...", "coffer/internal/devchain/...", "coffer/internal/demo", "coffer/cmd/coffer-demo"},
		Never:  []string{goEthereum},
		Reason: "chain/rpc is the only chain I/O, and the demo runs a chain; the codecs are our own, and go-ethereum is what tests compare them with",
	},
	{
		Name:   "no test material in binaries",
		Who:    []string{"coffer/cmd/..."},
		Never:  []string{"coffer/internal/testkeys/...", "coffer/credential/credentialtest", "coffer/internal/browser", "coffer/internal/testcharter/...", "coffer/internal/cluster/...", "testing", "coffer/transport/memnet/..."},
		Linked: true,
		Reason: "keys and networks that tests share with the world stay out of every binary",
	},
	{
		Name:   "shared stages know no secrets",
		Who:    []string{"coffer/partial", "coffer/verdict", "coffer/wallet", "coffer/chain/...", "coffer/charter", "coffer/intent", "coffer/approval", "coffer/policy", "coffer/authority/..."},
		Never:  []string{"coffer/engine/...", "coffer/keyshare/...", "coffer/keystore/...", "coffer/gate/...", tssLib},
		Linked: true,
		Reason: "what both sides of the trust boundary use knows no secrets",
	},
	{
		Name:   "pure packages do no I/O",
		Who:    Pure,
		Never:  []string{"net/...", "os/...", "syscall", "log", "math/rand/...", "golang.org/x/sys/...", "google.golang.org/grpc/...", "go.etcd.io/...", "github.com/libp2p/..."},
		Reason: "pure packages do no I/O: bytes and time go in, values come out",
	},
	{
		Name:   "decisions depend on input alone",
		Who:    []string{"coffer/gate", "coffer/policy", "coffer/chain/evm", "coffer/partial"},
		Never:  []string{"crypto/rand", "log/slog", "sync", "context"},
		Reason: "a decision depends on its input alone: no randomness, no log, nothing concurrent",
	},
	{
		Name:   "gate reaches for nothing",
		Who:    []string{"coffer/gate"},
		Never:  []string{"coffer/journal/...", "coffer/audit/...", "coffer/engine/...", "coffer/signing/...", "coffer/keyshare/...", "coffer/keystore/...", "coffer/transport/...", "coffer/node/..."},
		Linked: true,
		Reason: "the gate is told what the journal holds and judges it; it reaches for nothing and starts nothing",
	},
	{
		Name:   "pages are for people's own machines",
		Who:    []string{"coffer/..."},
		Except: []string{"coffer/cmd/coffer", "coffer/passkey"},
		Never:  []string{"coffer/passkey/..."},
		Tests:  true,
		Reason: "only the tool on a person's own machine serves that person a page to approve on; no daemon has one",
	},
	{
		Name:   "flags stay in cmd",
		Who:    []string{"coffer/..."},
		Except: []string{"coffer/cmd/...", "coffer/internal/...", "coffer/scripts/..."},
		Never:  []string{"github.com/spf13/...", "flag"},
		Reason: "flags are read in cmd/ only",
	},
	{
		Name:   "secrets are not of math-rand",
		Who:    []string{"coffer/engine/...", "coffer/keyshare/...", "coffer/keystore/...", "coffer/signing/...", "coffer/dkg/...", "coffer/gate/...", "coffer/credential/...", "coffer/identity/..."},
		Never:  []string{"math/rand/..."},
		Reason: "what is secret or must be fresh comes from crypto/rand",
	},
}

// Meeting is what node and coordinator may both link. They meet only in the
// messages and the stages that hold no secret.
var Meeting = []string{
	"coffer/canon", "coffer/party", "coffer/identity", "coffer/credential", // names and keys
	"coffer/charter", "coffer/wallet", "coffer/policy", "coffer/intent", "coffer/approval", "coffer/authority/...", "coffer/verdict", "coffer/partial", "coffer/chain/evm/...", // the pure stages
	"coffer/proto/...", "coffer/rpc", "coffer/access", // what travels between them
	"coffer/audit", "coffer/store", "coffer/internal/datadir", "coffer/internal/nearest", "coffer/internal/doctor", "coffer/internal/addressbook", // each has its own directory, made and opened by the same code
	"coffer/observe", "coffer/hook", // what an operator watches, and is told
	"coffer/internal/anchor",     // ties the two together
	"coffer/internal/crashpoint", // empty functions, but for the test of crashes
}

// ImpureCalls are the functions that pure packages must not call, by package.
var ImpureCalls = map[string][]string{
	"time": {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"},
}

// StageDocs are the stage packages in the order of the flow. Their comments say
// which stage they are.
var StageDocs = []string{"coffer/intent", "coffer/policy", "coffer/approval", "coffer/chain/evm", "coffer/signing", "coffer/partial"}

// Word is a word that the tree does not use.
type Word struct {
	Pattern string   // regular expression, case ignored
	Except  []string // path prefixes where it may stand
	Reason  string
}

// Words are looked for in Go, protobuf, Markdown and shell files.
var Words = []Word{
	{`\bthresholds?\b`, []string{"engine/", "docs/glossary.md", "docs/adr/"}, "say quorum: need of how many; tss-lib means need-1 by its word, and only the engine knows that"},
	{`\b(TODO|FIXME|XXX|HACK)\b`, nil, "finish it, or open an issue and name what is open in docs/threat-model.md"},
	{`\b(white|black)list`, nil, "say allow list, or name the list"},
}

// PackageNames are names that say nothing about what a package is for.
var PackageNames = []string{"common", "util", "utils", "types", "helpers", "helper", "models", "misc", "base", "shared"}
