package telemetry

import (
	"context"
	"strings"

	"google.golang.org/grpc/metadata"
)

// headers answers a header of an incoming call.
func headers(ctx context.Context, name string) string {
	md, _ := metadata.FromIncomingContext(ctx)
	return strings.Join(md.Get(name), ",")
}
