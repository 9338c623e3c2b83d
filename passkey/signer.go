package passkey

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log"
	"slices"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"

	"coffer/credential"
)

var (
	// ErrNotAsked: a signature was wanted of something that nobody was shown.
	ErrNotAsked = errors.New("nothing was shown to sign")
	// ErrNoAnswer: nobody pressed a button or touched the authenticator in time.
	ErrNoAnswer = errors.New("nobody answered on the page")
	// ErrDeclined: somebody chose on the page not to go on.
	ErrDeclined = errors.New("not confirmed on the page: nothing was done")
)

// Patience is for how long a page waits for each answer.
const Patience = 5 * time.Minute

var quiet = log.New(io.Discard, "", 0)

func render(p Page, nonce, key string) rendered {
	// Both are files of this package, without a value of anybody's in them.
	return rendered{Page: p, Nonce: nonce, Key: key, Style: template.CSS(pageStyle), Script: template.JS(pageScript)} //nolint:gosec // see above
}

// Signer is a person's passkey behind a page. It is a credential.Signer; Ask comes
// before Sign, and Close at the end. Not for concurrent use.
type Signer struct {
	patience time.Duration
	keys     []credential.Key // any of them may answer
	by       credential.Key   // that answered last, or the first

	ctx    context.Context //nolint:containedctx // of Ask, for Sign, whose signature has none
	server *server
	copied bool
}

// New makes a signer of a person's passkeys, of which any may answer. They must be
// of relying party localhost, since that is where the page is.
func New(keys []credential.Key, patience time.Duration) (*Signer, error) {
	var own []credential.Key
	for _, k := range keys {
		if k.RelyingParty() == credential.Localhost {
			own = append(own, k)
		}
	}
	if len(own) == 0 {
		return nil, fmt.Errorf("%w: no passkey made on coffer's own page is among them; enrol one with coffer enrol --passkey", credential.ErrUnsupportedKey)
	}
	return &Signer{patience: patience, keys: own, by: own[0]}, nil
}

// Create has the person's authenticator make a passkey, for the name that it will
// show. The page stays open for the signature that proves it; Close ends it.
func Create(ctx context.Context, out io.Writer, name string, page Page, patience time.Duration) (*Signer, error) {
	s := &Signer{patience: patience}
	choice, err := s.Ask(ctx, out, page)
	if err == nil && choice != page.Choices[0] {
		err = ErrDeclined
		s.Close("No passkey was made.", nil)
	}
	if err != nil {
		return nil, err
	}
	key, copied, err := s.create(name)
	if err != nil {
		s.Close("", err)
		return nil, err
	}
	s.keys, s.by, s.copied = []credential.Key{key}, key, copied
	return s, nil
}

// Key implements credential.Signer.
func (s *Signer) Key() credential.Key { return s.by }

// Copied says that the passkey that was made may live on several devices: whoever
// holds its provider's account can use it.
func (s *Signer) Copied() bool { return s.copied }

// Ask serves a page, prints its address to out, and waits until a button is pressed. It
// returns the choice. What Sign signs next should be what the page showed.
func (s *Signer) Ask(ctx context.Context, out io.Writer, page Page) (string, error) {
	if len(page.Choices) == 0 {
		return "", errors.New("a page needs a choice")
	}
	s.Close("This was left for another page.", nil)
	server, err := serve(ctx, page)
	if err != nil {
		return "", err
	}
	s.server, s.ctx = server, ctx
	fmt.Fprintf(out, "open this in a browser on this machine, read, and answer there within %s:\n  %s\n", s.patience, server.url())
	choice, err := wait(ctx, server.choice, server.errs, s.patience)
	if err != nil {
		s.Close("", err)
		return "", err
	}
	return choice, nil
}

func wait[T any](ctx context.Context, from <-chan T, failed <-chan error, timeout time.Duration) (none T, err error) {
	limit := time.NewTimer(timeout)
	defer limit.Stop()
	select {
	case v := <-from:
		return v, nil
	case err := <-failed:
		return none, fmt.Errorf("serve the page: %w", err)
	case <-limit.C:
		return none, fmt.Errorf("%w within %s; run the command again", ErrNoAnswer, timeout)
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// Sign implements credential.Signer: the page asks for the touch.
func (s *Signer) Sign(namespace string, message []byte) ([]byte, error) {
	if s.server == nil {
		return nil, ErrNotAsked
	}
	digest := credential.Challenge(namespace, message)
	next := step{Do: "get", Text: "Touch your passkey to sign.", RP: credential.Localhost, Challenge: encode(digest[:])}
	for _, k := range s.keys {
		next.IDs = append(next.IDs, encode(k.CredentialID()))
	}
	a, err := s.ask(next)
	if err != nil {
		return nil, err
	}
	id, err1 := decode(a.ID)
	data, err2 := decode(a.AuthenticatorData)
	client, err3 := decode(a.ClientData)
	sig, err4 := decode(a.Signature)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, fmt.Errorf("the browser's answer: %w", err)
	}
	at := slices.IndexFunc(s.keys, func(k credential.Key) bool { return bytes.Equal(k.CredentialID(), id) })
	if at < 0 {
		return nil, fmt.Errorf("%w: the browser used a passkey that was not asked for", credential.ErrOtherKey)
	}
	out, err := credential.Assertion{AuthenticatorData: data, ClientData: client, Signature: sig}.Seal(s.keys[at], namespace, message)
	if err != nil {
		return nil, err
	}
	s.by = s.keys[at]
	return out, nil
}

func (s *Signer) ask(next step) (answer, error) {
	next.Timeout = s.patience.Milliseconds()
	s.server.set(next)
	return wait(s.ctx, s.server.answers, s.server.errs, s.patience)
}

// Close ends the page, which shows text, or what went wrong. It does nothing when
// no page is open.
func (s *Signer) Close(text string, err error) {
	if s.server == nil {
		return
	}
	if err != nil {
		text = "It failed: " + err.Error() + "."
	}
	s.server.end(text, err == nil)
	s.server = nil
}

// create asks for a new passkey and verifies what came of it. An attestation is not
// asked for: it would tell who made the authenticator, whom nobody here trusts for it.
func (s *Signer) create(name string) (credential.Key, bool, error) {
	challenge := random()
	a, err := s.ask(step{
		Do: "create", Text: "Touch your authenticator to make the passkey.", RP: credential.Localhost, Challenge: challenge,
		User: random(), Name: name, Algorithms: credential.Algorithms(),
	})
	if err != nil {
		return credential.Key{}, false, err
	}
	return created(a, challenge, s.server.origin())
}

func created(a answer, challenge, origin string) (credential.Key, bool, error) {
	fail := func(err error) (credential.Key, bool, error) {
		return credential.Key{}, false, fmt.Errorf("the browser's new passkey: %w", err)
	}
	body, err := json.Marshal(map[string]any{
		"id": a.ID, "rawId": a.ID, "type": "public-key",
		"response": map[string]string{"clientDataJSON": a.ClientData, "attestationObject": a.Attestation},
	})
	if err != nil {
		return fail(err)
	}
	p, err := protocol.ParseCredentialCreationResponseBytes(body)
	if err != nil {
		return fail(detail(err))
	}
	var algorithms []protocol.CredentialParameter
	for _, alg := range credential.Algorithms() {
		algorithms = append(algorithms, protocol.CredentialParameter{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.COSEAlgorithmIdentifier(alg)})
	}
	// Some browsers send an attestation although none was asked for; the proof that counts
	// is the signature over the card, so its statement is not looked at.
	client, data := p.Response.CollectedClientData, p.Response.AttestationObject.AuthData
	if err := client.Verify(challenge, protocol.CreateCeremony, []string{origin}, nil, nil, protocol.TopOriginExplicitVerificationMode, false); err != nil {
		return fail(detail(err))
	}
	att := p.Response.AttestationObject
	att.Format, att.AttStatement, att.SubStatements = string(protocol.AttestationFormatNone), nil, nil
	if err := att.Verify(credential.Localhost, nil, true, true, nil, algorithms, protocol.AttestationPolicy{}, protocol.SignaturePolicy{}); err != nil {
		return fail(detail(err))
	}
	if !bytes.Equal(data.AttData.CredentialID, p.RawID) {
		return fail(errors.New("its ID is not the one that the authenticator gave it"))
	}
	key, err := credential.KeyFromCOSE(credential.Localhost, p.RawID, data.AttData.CredentialPublicKey)
	if err != nil {
		return fail(err)
	}
	return key, data.Flags.HasBackupEligible(), nil
}

// detail says what the library knows, which its errors keep in fields.
func detail(err error) error {
	var e *protocol.Error
	if errors.As(err, &e) && e.DevInfo != "" {
		return fmt.Errorf("%s: %s", e.Details, e.DevInfo)
	}
	return err
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func decode(s string) ([]byte, error) { return base64.RawURLEncoding.Strict().DecodeString(s) }
