package cluster

import (
	"context"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"coffer/authority"
	"coffer/canon"
	"coffer/charter"
	"coffer/identity"
	"coffer/internal/freeport"
	"coffer/internal/testcharter"
	"coffer/node"
	"coffer/party"
	pb "coffer/proto/coffer/v1"
	"coffer/rpc"
)

// TakeOrders is a Config.Signer that gives every signer an endpoint for orders.
func TakeOrders(s *node.Settings) {
	ports, err := freeport.Take(1)
	if err == nil {
		s.ListenOrders = (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: ports[0]}).String()
	}
}

// Fixture makes records that the cluster's people sign.
func (c *Cluster) Fixture() *testcharter.Fixture {
	return &testcharter.Fixture{Charter: c.Charter, File: c.File, People: c.People}
}

// Bring hands records to the signer as its operator, and wants them taken.
func (m *Member) Bring(records ...authority.Record) {
	m.c.t.Helper()
	if codes := m.Hand(m.Operator().Exchange, records...); len(codes) > 0 {
		m.c.t.Fatalf("signer %s refuses: %v", m.ID, codes)
	}
}

// Hand calls an Exchange with records, and answers the codes of those that were refused.
func (m *Member) Hand(exchange func(context.Context, *pb.ExchangeRequest, ...grpc.CallOption) (*pb.ExchangeResponse, error), records ...authority.Record) (codes []string) {
	m.c.t.Helper()
	req := &pb.ExchangeRequest{}
	for _, r := range records {
		req.Records = append(req.Records, r.Encode())
	}
	reply, err := exchange(m.c.t.Context(), req)
	m.c.must(err)
	for _, no := range reply.Refused {
		codes = append(codes, no.Code+": "+no.Text)
	}
	return codes
}

// Status is what the signer tells its operator.
func (m *Member) Status() *pb.StatusResponse {
	m.c.t.Helper()
	st, err := m.Ask()
	m.c.must(err)
	return st
}

// Ask is Status of a signer that may not serve at this moment: it is opened anew when
// the charter's signers change.
func (m *Member) Ask() (*pb.StatusResponse, error) {
	conn, err := rpc.DialUnix(m.Dir.Socket())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return pb.NewOperatorClient(conn).Status(m.c.t.Context(), &pb.StatusRequest{})
}

// Freeze is the operator's own order on this signer.
func (m *Member) Freeze(scope, name string) (id canon.Digest, effective bool) {
	m.c.t.Helper()
	reply, err := m.Operator().Freeze(m.c.t.Context(), &pb.FreezeRequest{Scope: scope, Name: name, Reason: "strange requests"})
	m.c.must(err)
	r, err := authority.Parse(reply.Record)
	m.c.must(err)
	return r.ID(), reply.Effective
}

// Orders is the signer's own endpoint, called from an address of this machine.
func (m *Member) Orders(from string) pb.OrdersClient {
	m.c.t.Helper()
	signer, _ := m.c.Charter.Signer(m.ID)
	return pb.NewOrdersClient(m.c.DialFrom(from, signer.Peer, m.Takes))
}

// DialFrom is a connection of somebody without an identity, from an address of this
// machine: servers bound what one host may ask.
func (c *Cluster) DialFrom(host string, want identity.ID, addr string) *grpc.ClientConn {
	c.t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}}
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(credentials.NewTLS(identity.AnonymousTLS(want))),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}))
	c.must(err)
	c.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Adopt brings a version of the charter, signed by bob and carol, to a signer, and waits
// until it is in force at all of those given.
func (c *Cluster) Adopt(at party.ID, next *charter.Charter, cards []string, everywhere ...party.ID) {
	c.t.Helper()
	c.Members[at].Bring(c.Fixture().CharterRecord(c.t, next, time.Now().Unix(), cards, "bob", "carol"))
	c.Charter = next
	digest := next.Digest()
	for _, id := range everywhere {
		c.Eventually("the version is in force at "+string(id), func() bool {
			st, err := c.Members[id].Ask()
			return err == nil && canon.Digest(st.CharterDigest) == digest
		})
	}
}
