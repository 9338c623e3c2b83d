// Package token is a small ERC-20 contract for tests and the demo, ready to deploy.
//
// TestToken.abi and TestToken.bin are made from TestToken.sol and committed, so that
// nobody needs a Solidity compiler. To make them again, with node 20 or newer, in an
// empty directory:
//
//	npm install solc@0.8.37
//	NODE_PATH=$PWD/node_modules node /path/to/internal/devchain/token/compile.js
//
// The same source and compiler give the same bytes.
package token
