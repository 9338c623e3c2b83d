// Compiles TestToken.sol to TestToken.abi and TestToken.bin. See doc.go for how to run it.
const fs = require("fs");
const path = require("path");
const solc = require("solc");

const want = "0.8.37";
if (!solc.version().startsWith(want + "+")) throw new Error(`solc ${solc.version()}, want ${want}`);
const file = (name) => path.join(__dirname, name);
const output = JSON.parse(solc.compile(JSON.stringify({
  language: "Solidity",
  sources: { "TestToken.sol": { content: fs.readFileSync(file("TestToken.sol"), "utf8") } },
  settings: {
    // Shanghai runs on every chain that tests use; no metadata hash, so that the bytes depend on the code alone.
    evmVersion: "shanghai",
    optimizer: { enabled: true, runs: 200 },
    metadata: { appendCBOR: false, bytecodeHash: "none" },
    outputSelection: { "*": { TestToken: ["abi", "evm.bytecode.object"] } },
  },
})));
for (const e of output.errors || []) throw new Error(e.formattedMessage);
const token = output.contracts["TestToken.sol"].TestToken;
fs.writeFileSync(file("TestToken.abi"), JSON.stringify(token.abi, null, 1) + "\n");
fs.writeFileSync(file("TestToken.bin"), token.evm.bytecode.object + "\n");
