package coordinator_test

import (
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/access"
	"coffer/credential"
	"coffer/internal/testcharter"
	pb "coffer/proto/coffer/v1"
	"coffer/rpc"
)

// Nobody who cannot prove to be of the charter gets an answer, but for the charter
// itself and what is signed about it.
func TestRoles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dial := func(who string, key credential.Signer) *grpc.ClientConn {
		t.Helper()
		grants, err := access.OpenSource(filepath.Join(t.TempDir(), who), w.Charter.Cluster, who, func() (credential.Signer, error) { return key, nil })
		w.must(err)
		conn, err := rpc.DialGranted(grants, w.DeskKey.ID(), w.Address)
		w.must(err)
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	anonymous, err := rpc.DialAnonymous(w.DeskKey.ID(), w.Address)
	w.must(err)
	t.Cleanup(func() { _ = anonymous.Close() })
	mallory := testcharter.SSH(t, "mallory")
	callers := map[string]*grpc.ClientConn{
		"nobody":                    anonymous,
		"a stranger":                dial("mallory", mallory),
		"a stranger as alice":       dial("alice", mallory),
		"bob as alice":              dial("alice", w.People["bob"]),
		"the coordinator as itself": dial("desk", mallory),
	}
	// call answers how the server took an empty request, which every method can decode.
	call := func(conn *grpc.ClientConn, method string, stream bool) codes.Code {
		name := "/" + pb.Coordinator_ServiceDesc.ServiceName + "/" + method
		if !stream {
			return status.Code(conn.Invoke(t.Context(), name, &pb.ClusterRequest{}, &pb.ClusterResponse{}))
		}
		s, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, name)
		if err == nil {
			if err = s.SendMsg(&pb.ClusterRequest{}); err == nil {
				err = s.RecvMsg(&pb.IntentView{})
			}
		}
		return status.Code(err)
	}
	open := map[string]bool{"Charter": true, "Exchange": true}
	methods := map[string]bool{}
	for _, m := range pb.Coordinator_ServiceDesc.Methods {
		methods[m.MethodName] = false
	}
	for _, m := range pb.Coordinator_ServiceDesc.Streams {
		methods[m.StreamName] = true
	}
	for method, stream := range methods {
		for who, conn := range callers {
			if got := call(conn, method, stream); (got == codes.Unauthenticated) == open[method] {
				t.Errorf("%s calls %s: %s", who, method, got)
			}
		}
		if got := call(dial("bob", w.People["bob"]), method, stream); got == codes.Unauthenticated || got == codes.PermissionDenied {
			t.Errorf("bob calls %s: %s", method, got)
		}
	}
}
