package authority

import (
	"slices"

	"coffer/approval"
	"coffer/charter"
	"coffer/credential"
)

// Vet verifies what a record of anybody has, before a Ledger that others wait for has to:
// under the versions of the charter that are or were in force, from the first. A signature
// that was checked and does not hold is an error; receipts that do not hold are left out.
// What none of these versions can tell is left to the ledger, which it costs nothing; of
// an order that others have signed it is left out.
func Vet(history []*charter.Charter, r Record) (Record, error) {
	if len(history) == 0 {
		return r, nil
	}
	cluster, subject := history[0].Cluster, r.Subject()
	var told []approval.Signed
	for _, signed := range r.Statements {
		s, err := approval.Parse(signed.Raw)
		if err != nil {
			return Record{}, refuse(CodeMalformed, "%w", err)
		}
		key, err := credential.SignatureKey(signed.Signature)
		if err != nil {
			return Record{}, refuse(CodeSignature, "statement of %q: %w", s.Person, err)
		}
		for _, c := range slices.Backward(history) {
			if s.Cluster != cluster || !enrolled(c, s.Person, key) {
				continue
			}
			if _, err := approval.Verify(c, subject, signed); err != nil {
				return Record{}, refuse(CodeSignature, "%w: %w", errForged, err)
			}
			told = append(told, signed)
			break
		}
	}
	if r.Kind == KindOrder && len(told) > 0 {
		r.Statements = told
	}
	holds := func(x Receipt) bool {
		var tried []string
		for _, c := range slices.Backward(history) {
			s, ok := c.Signer(x.Signer)
			if !ok || slices.Contains(tried, string(s.Peer)) {
				continue
			}
			tried = append(tried, string(s.Peer))
			if s.Peer.Verify(receiptMessage(cluster, x.Signer, r.ID(), x.Time), x.Signature) == nil {
				return true
			}
		}
		return false
	}
	r.Receipts = slices.DeleteFunc(slices.Clone(r.Receipts), func(x Receipt) bool { return !holds(x) })
	return r, nil
}

// Signatures is how many signatures of people and signers a record has.
func (r Record) Signatures() int { return len(r.Statements) + len(r.Signers) + len(r.Receipts) }
