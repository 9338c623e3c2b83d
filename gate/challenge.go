package gate

import (
	"coffer/canon"
	"coffer/wallet"
)

// ChallengeDomain begins every challenge. A challenge is hashed with SHA-256 from
// bytes that no chain's transaction begins with, so its signature is worth nothing
// on any chain.
const ChallengeDomain = "coffer/challenge/v1"

// Challenge permits a test signature: the proof that the signers of a new wallet
// can sign with it before anybody is told its address. Every session signs a message
// of its own. Challenge answers nil when the session or the ceremony has no ID.
func Challenge(session canon.Digest, w *wallet.Record, ceremony canon.Digest) *Authorized {
	if session.IsZero() || ceremony.IsZero() || w == nil {
		return nil
	}
	digest := canon.New(ChallengeDomain).Digest(w.Cluster).Digest(w.Charter).String(w.Name).Uint64(w.Epoch).
		Bytes(w.PublicKey[:]).Digest(ceremony).Digest(session).Sum()
	return &Authorized{
		intent: ceremony, charter: w.Charter, session: session, transaction: digest,
		digest: digest, challenge: true,
	}
}
