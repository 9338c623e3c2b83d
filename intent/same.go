package intent

// SameRequest says whether two intents ask for the same thing, whatever their
// initiators, nonces, times and salts: that is what a reference stands for.
func SameRequest(a, b *Intent) bool {
	if a.Kind != b.Kind || a.Wallet != b.Wallet || a.Path != b.Path || a.Chain != b.Chain {
		return false
	}
	switch a.Kind {
	case Transfer:
		return a.Transfer.Asset == b.Transfer.Asset && a.Transfer.To == b.Transfer.To && a.Transfer.Amount.Cmp(b.Transfer.Amount) == 0
	case Cancel:
		return a.Cancel.Subject == b.Cancel.Subject
	default:
		return a.Kind == CreateWallet
	}
}
