package cli

import (
	"fmt"

	"coffer/charter"
	pb "coffer/proto/coffer/v1"
)

// AddressRecords reads the lines that people sent, in the order of args; whose each is
// stands in the words that come with it. What they say is verified by whoever takes them
// under its charter, here only that somebody signed it.
func AddressRecords(args []string) (records []*pb.SignedRecord, words []string, err error) {
	for _, line := range args {
		raw, signature, err := charter.ParseAddressLine(line)
		if err != nil {
			return nil, nil, &ExitError{Code: Usage, Err: err}
		}
		a, err := charter.ParseAddressRecord(raw, signature)
		if err != nil {
			return nil, nil, err
		}
		records = append(records, &pb.SignedRecord{Raw: raw, Signatures: []*pb.NamedSignature{{Signature: signature}}})
		words = append(words, fmt.Sprintf("%s is at %s, sequence %d", a.Peer, a.GRPC, a.Sequence))
	}
	return records, words, nil
}
