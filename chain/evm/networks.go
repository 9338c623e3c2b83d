package evm

// testNetworks are the networks on which money is worth nothing: development chains
// and public test networks.
var testNetworks = map[uint64]bool{
	1337:     true, // go-ethereum's development chain
	5777:     true, // Ganache
	31337:    true, // Hardhat, Anvil
	11155111: true, // Sepolia
	17000:    true, // Holesky
	560048:   true, // Hoodi
	80002:    true, // Polygon Amoy
	84532:    true, // Base Sepolia
	421614:   true, // Arbitrum Sepolia
	11155420: true, // OP Sepolia
	97:       true, // BNB Smart Chain test network
	43113:    true, // Avalanche Fuji
}

// IsTestNetwork reports whether a chain ID is on the list of development and test
// networks. It is a list of what is allowed: an unknown network counts as one that
// holds real money.
func IsTestNetwork(chainID uint64) bool { return testNetworks[chainID] }
