package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/hyperledger/fabric-chaincode-go/v2/shim"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/zhenglian/zhenglian/chaincode"
)

const (
	// maxMessage is the peer's own limit for chaincode messages, in bytes.
	maxMessage = 100 << 20
	// minKeepalive is how often a peer may ping: the floor of the whole network.
	// shim's own server insists on a minute and drops peers that ping faster.
	minKeepalive = 10 * time.Second
	// stopGrace is how long running transactions may take to finish at exit.
	stopGrace = time.Second
)

// server serves the chaincode on a bound address. It takes only the protocol
// from shim.ChaincodeServer, whose Start can neither be stopped nor tuned.
type server struct {
	listener net.Listener
	grpc     *grpc.Server
	logger   *slog.Logger
	id       string
}

// listen binds the configured address, so that a port in use is known at once.
func listen(c config, logger *slog.Logger) (*server, error) {
	tlsConfig, err := c.tls()
	if err != nil {
		return nil, err
	}
	cc, err := chaincode.New(logger)
	if err != nil {
		return nil, err
	}
	s := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(tlsConfig)),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxSendMsgSize(maxMessage),
		grpc.ConnectionTimeout(5*time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minKeepalive, PermitWithoutStream: true}),
	)
	peer.RegisterChaincodeServer(s, &shim.ChaincodeServer{CCID: c.ChaincodeID, CC: cc})
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return &server{listener: listener, grpc: s, logger: logger, id: c.ChaincodeID}, nil
}

// serve serves until ctx ends. Then it takes no new connections, gives running
// transactions a moment and closes the peer's stream, which never ends by itself.
func (s *server) serve(ctx context.Context) error {
	s.logger.Info("serving", "address", s.listener.Addr().String(), "chaincodeId", s.id, "version", chaincode.Version)
	done := make(chan error, 1)
	go func() { done <- s.grpc.Serve(s.listener) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	s.logger.Info("stopping")
	stopped := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(stopGrace):
		s.grpc.Stop()
		<-stopped
	}
	return nil
}
