package charter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"coffer/canon"
	"coffer/identity"
	"coffer/party"
	"coffer/store"
)

const (
	// maxCharter bounds one version.
	maxCharter = 4 << 20
	// maxFile bounds a charter file: version 1 and what led from it to the one in force,
	// for years. WriteFile refuses what ReadFile would.
	maxFile = 64 << 20
)

// File is version 1 of a charter on its way between operators: with the signatures so
// far, and the cards that prove every key. Records, for whoever joins later, are what
// led from it to the version in force, in the form of package authority, which verifies
// them; nothing here looks into them.
type File struct {
	Charter    *Charter    `json:"charter"`
	Signatures []Signature `json:"signatures"`
	Cards      []string    `json:"cards"`
	Records    [][]byte    `json:"records,omitempty"`
}

// Signature is one operator's, by the identity of its signer.
type Signature struct {
	Signer    party.ID `json:"signer"`
	Signature []byte   `json:"signature"`
}

// ParseFile reads JSON strictly, and refuses a charter that is not valid.
func ParseFile(raw []byte) (*File, error) {
	if len(raw) > maxFile {
		return nil, fmt.Errorf("charter file has more than %d bytes", maxFile)
	}
	f := new(File)
	if err := decodeStrictly(raw, f); err != nil {
		return nil, fmt.Errorf("charter file: %w", err)
	}
	if f.Charter == nil {
		return nil, errors.New("charter file: the field charter is missing; is this another file?")
	}
	if err := f.Charter.Validate(); err != nil {
		return nil, err
	}
	return f, nil
}

func plainKey(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return s != ""
}

// decodeStrictly reads one JSON value: keys as the tags spell them, each once, none
// unknown, and nothing behind it. What a reader overlooks an attacker uses.
func decodeStrictly(raw []byte, into any) error {
	if err := checkKeys(raw); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("text after the JSON object; remove it")
	}
	return nil
}

// checkKeys refuses objects with one key twice: readers differ in which one counts.
func checkKeys(raw []byte) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	type level struct {
		object bool
		key    bool // the next token is a key
		seen   map[string]bool
	}
	var stack []level
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		top := len(stack) - 1
		if delim, ok := token.(json.Delim); ok && (delim == '}' || delim == ']') {
			stack = stack[:top]
			if top--; top >= 0 && stack[top].object {
				stack[top].key = true
			}
			continue
		}
		if top >= 0 && stack[top].object && stack[top].key {
			name, ok := token.(string)
			if !ok {
				return errors.New("a key is no text")
			}
			// encoding/json matches keys without regard to case, in all of Unicode:
			// "\u212a" (Kelvin) would be read as "k".
			if !plainKey(name) {
				return fmt.Errorf("key %+q: keys are of a-z, 0-9, '-' and '_'", clip(name))
			}
			if stack[top].seen[name] {
				return fmt.Errorf("key %q stands twice in one object", name)
			}
			stack[top].seen[name] = true
			stack[top].key = false
			continue
		}
		if delim, ok := token.(json.Delim); ok {
			if len(stack) > 32 {
				return errors.New("nested too deeply")
			}
			stack = append(stack, level{object: delim == '{', key: delim == '{', seen: map[string]bool{}})
			continue
		}
		if top >= 0 && stack[top].object {
			stack[top].key = true
		}
	}
}

// ReadFile reads and validates a charter file. It verifies no signature.
func ReadFile(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read charter: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read charter: %w", err)
	}
	file, err := ParseFile(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return file, nil
}

// WriteFile replaces path in one step.
func WriteFile(path string, f *File) error {
	raw, err := f.Marshal()
	if err != nil {
		return err
	}
	if len(raw) > maxFile {
		return fmt.Errorf("charter file: %d bytes, at most %d can be read again", len(raw), maxFile)
	}
	return store.WriteFile(path, raw, 0o644)
}

// Marshal is the JSON of a file, indented for people: an operator reads it before signing.
func (f *File) Marshal() ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false) // or "&&" in a rule reads \u0026\u0026
	if err := e.Encode(f); err != nil {
		return nil, fmt.Errorf("write charter: %w", err)
	}
	return out.Bytes(), nil
}

// Sign adds the signature of the signer whose identity key is.
func (f *File) Sign(key *identity.Key) error {
	s, ok := f.Charter.SignerByPeer(key.ID())
	if !ok {
		return fmt.Errorf("charter %q lists no signer with identity %s", f.Charter.Name, key.ID())
	}
	_, err := f.Add(Signature{Signer: s.Name, Signature: key.Sign(f.Charter.Encode())})
	return err
}

// Add takes a signature that came from anywhere, if it is the one of that signer under
// this charter. The first one stays: a second says nothing that it does not.
func (f *File) Add(s Signature) (added bool, err error) {
	if err := f.verifySignature(f.Charter.Encode(), s); err != nil {
		return false, err
	}
	if _, ok := f.Signature(s.Signer); ok {
		return false, nil
	}
	f.Signatures = append(f.Signatures, s)
	return true, nil
}

func (f *File) verifySignature(encoded []byte, s Signature) error {
	signer, ok := f.Charter.Signer(s.Signer)
	if !ok {
		return fmt.Errorf("%w: charter %q carries a signature of %+q, who is no signer of it; remove it", ErrSignature, f.Charter.Name, clip(string(s.Signer)))
	}
	if err := signer.Peer.Verify(encoded, s.Signature); err != nil {
		return fmt.Errorf("%w: charter %q was edited after signer %q signed it, or the signature is not that signer's; get the file again from whoever made it", ErrSignature, f.Charter.Name, s.Signer)
	}
	return nil
}

// Signature is the one of a signer, if it is here.
func (f *File) Signature(of party.ID) (Signature, bool) {
	return find(f.Signatures, func(x Signature) bool { return x.Signer == of })
}

// Missing lists the signers whose operators have not signed.
func (f *File) Missing() party.Set {
	var missing party.Set
	for _, id := range f.Charter.Parties() {
		if _, ok := f.Signature(id); !ok {
			missing = append(missing, id)
		}
	}
	return missing
}

// Clone is a copy that can be added to without touching f.
func (f *File) Clone() *File {
	return &File{Charter: f.Charter, Signatures: slices.Clone(f.Signatures), Cards: f.Cards, Records: f.Records}
}

// VerifyPresent verifies every signature and card that the file has, and that every
// key of the charter is proved by a card.
func (f *File) VerifyPresent() error {
	if f.Charter == nil {
		return fmt.Errorf("%w: the file holds none", ErrInvalid)
	}
	if err := f.Charter.Validate(); err != nil {
		return err
	}
	// Operators found a cluster; what comes after is the admins' to sign.
	if f.Charter.Version != 1 {
		return fmt.Errorf("%w: version %d is none that operators sign; later versions are proposed with coffer charter propose and signed by admins", ErrInvalid, f.Charter.Version)
	}
	if err := f.verifyCards(); err != nil {
		return err
	}
	raw := f.Charter.Encode()
	if len(f.Signatures) > maxSigners {
		return fmt.Errorf("%w: %d signatures, at most %d allowed", ErrSignature, len(f.Signatures), maxSigners)
	}
	seen := map[party.ID]bool{}
	for _, s := range f.Signatures {
		if err := f.verifySignature(raw, s); err != nil {
			return err
		}
		if seen[s.Signer] {
			return fmt.Errorf("%w: charter %q carries a signature of signer %q twice; remove one", ErrSignature, f.Charter.Name, s.Signer)
		}
		seen[s.Signer] = true
	}
	return nil
}

// Verify is VerifyPresent, and that every operator has signed.
func (f *File) Verify() error {
	if err := f.VerifyPresent(); err != nil {
		return err
	}
	if missing := f.Missing(); len(missing) > 0 {
		return &IncompleteError{Missing: missing}
	}
	return nil
}

// verifyCards matches every key of the charter with a card of the same name and
// organisation, and refuses cards of others: they would bring foreign addresses.
func (f *File) verifyCards() error {
	// A process that moved has a second card, of a higher sequence.
	return verifyCards(f.Cards, f.Charter, f.Charter.cards(), func(c Card) string { return fmt.Sprint(cardKey(c), c.Address.Sequence) })
}

// verifyCards makes sure that each card is one of a key that c lists, that no two are
// one, and that all that must be proved are.
func verifyCards(cards []string, c *Charter, need []Card, id func(Card) string) error {
	proved, lines := map[string]bool{}, map[string]bool{}
	if len(cards) > 4096 {
		return fmt.Errorf("%w: %d cards, at most 4096 allowed", ErrCard, len(cards))
	}
	for _, line := range cards {
		card, err := ParseCard(line)
		if err != nil {
			return err
		}
		if !c.lists(card) {
			return fmt.Errorf("%w: the card of %s %q is not what the charter lists", ErrCard, card.Kind, card.Name)
		}
		if lines[id(card)] {
			return fmt.Errorf("%w: the card of %s %q is there twice; remove one", ErrCard, card.Kind, card.Name)
		}
		lines[id(card)] = true
		proved[cardKey(card)] = true
	}
	var errs []error
	for _, n := range need {
		if !proved[cardKey(n)] {
			errs = append(errs, fmt.Errorf("%w: %s %q has a key without a card: nobody has proved to hold it", ErrCard, n.Kind, n.Name))
		}
	}
	return errors.Join(errs...)
}

// lists reports whether a card says what the charter says of its holder.
func (c *Charter) lists(card Card) bool {
	switch card.Kind {
	case CardSigner:
		s, ok := c.Signer(party.ID(card.Name))
		return ok && s.Peer == card.Peer && s.Org == card.Org
	case CardCoordinator:
		s, ok := c.Coordinator(card.Name)
		return ok && s.Peer == card.Peer && s.Org == card.Org
	case CardPerson:
		p, ok := c.Person(card.Name)
		return ok && p.Org == card.Org && slices.Contains(p.Keys, card.Key)
	case CardService:
		s, ok := c.Service(card.Name)
		return ok && s.Key == card.Key && s.Org == card.Org
	}
	return false
}

// cards are those that prove every key of the charter, without their addresses.
func (c *Charter) cards() []Card {
	var out []Card
	for _, s := range c.Signers {
		out = append(out, Card{Kind: CardSigner, Name: string(s.Name), Org: s.Org, Peer: s.Peer})
	}
	for _, s := range c.Coordinators {
		out = append(out, Card{Kind: CardCoordinator, Name: s.Name, Org: s.Org, Peer: s.Peer})
	}
	for _, p := range c.People {
		for _, k := range p.Keys {
			out = append(out, Card{Kind: CardPerson, Name: p.Name, Org: p.Org, Key: k})
		}
	}
	for _, s := range c.Services {
		out = append(out, Card{Kind: CardService, Name: s.Name, Org: s.Org, Key: s.Key})
	}
	return out
}

func cardKey(c Card) string {
	return c.Kind + " " + c.Name + " " + string(c.Peer) + c.Key.Kind + " " + c.Key.Public
}

// Address is where a signer is reached: of its cards, the record with the highest sequence.
func (f *File) Address(id party.ID) (AddressRecord, bool) {
	return f.address(CardSigner, string(id))
}

// CoordinatorAddress is where people reach a coordinator.
func (f *File) CoordinatorAddress(name string) (string, bool) {
	a, ok := f.address(CardCoordinator, name)
	return a.GRPC, ok
}

func (f *File) address(kind, name string) (best AddressRecord, ok bool) {
	for _, line := range f.Cards {
		card, err := ParseCard(line)
		if err != nil || card.Kind != kind || card.Name != name {
			continue
		}
		if !ok || card.Address.Sequence > best.Sequence {
			best, ok = card.Address, true
		}
	}
	return best, ok
}

// IncompleteError says whose signatures a charter waits for. Everything that is there
// is right.
type IncompleteError struct{ Missing party.Set }

func (e *IncompleteError) Error() string {
	return fmt.Sprintf("the charter is not signed yet by the operators of %s; they run coffer-signer join and coffer-signer run", strings.Join(e.Missing.Strings(), ", "))
}

// Unwrap makes it an ErrSignature: an incomplete charter is none to act under.
func (e *IncompleteError) Unwrap() error { return ErrSignature }

// Open reads the file of a pinned charter, complete with every signature.
func Open(path string, pin canon.Digest) (*Charter, *File, error) {
	f, err := OpenPresent(path, pin)
	if err != nil {
		return nil, nil, err
	}
	if missing := f.Missing(); len(missing) > 0 {
		return nil, nil, fmt.Errorf("%s: %w", path, &IncompleteError{Missing: missing})
	}
	return f.Charter, f, nil
}

// OpenPresent reads the file of a pinned charter in which signatures may be missing.
func OpenPresent(path string, pin canon.Digest) (*File, error) {
	f, err := ReadFile(path)
	if err != nil {
		return nil, err
	}
	if got := f.Charter.Digest(); got != pin {
		return nil, fmt.Errorf("%s: %w: charter %q has digest %s, pinned is %s; the file was edited or replaced, get it again from another operator", path, ErrPin, f.Charter.Name, got, pin)
	}
	if err := f.VerifyPresent(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}
