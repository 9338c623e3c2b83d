package rpc

import (
	"context"

	"google.golang.org/grpc"

	"coffer/internal/crashpoint"
)

// Every message that leaves a server or a client is a place where a test ends the
// process: before and after. None of this is in a program that people run.

func crashDialOptions() []grpc.DialOption {
	if !crashpoint.Enabled {
		return nil
	}
	return []grpc.DialOption{
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			crashpoint.Hit("rpc.ask:" + method)
			err := invoke(ctx, method, req, reply, cc, opts...)
			crashpoint.Hit("rpc.heard:" + method)
			return err
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			crashpoint.Hit("rpc.ask:" + method)
			s, err := open(ctx, desc, cc, method, opts...)
			crashpoint.Hit("rpc.asked:" + method)
			return s, err
		}),
	}
}
