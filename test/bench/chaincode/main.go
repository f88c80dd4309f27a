// Command chaincode serves, in the benchmark's own network alone, the ledger's
// chaincode with three transactions more, which stand for what a ledger can do
// without a log beside it:
//
//	bench:Record  [RECORD …]  checks access records as the log's gateway does, but for
//	                          quotas, and writes them in one write batch; its argument
//	                          travels beside it
//	bench:Write   KEY VALUE   writes a value as it is
//	bench:History KEY N       answers the oldest N versions of a key, from GetHistoryForKey
//
// It takes the configuration of zhenglian-chaincode and its place.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/hyperledger/fabric-chaincode-go/v2/shim"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/zhenglian/zhenglian/chaincode"
	"github.com/zhenglian/zhenglian/domain"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaincode:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("chaincode", flag.ContinueOnError)
	path := flags.String("config", "", "configuration of zhenglian-chaincode")
	if err := flags.Parse(args); err != nil {
		return err
	}
	data, err := os.ReadFile(*path)
	if err != nil {
		return err
	}
	var config struct {
		Listen      string `json:"listen"`
		ChaincodeID string `json:"chaincodeId"`
		TLS         struct {
			Certificate string `json:"certificate"`
			Key         string `json:"key"`
			ClientRoots string `json:"clientRoots"`
		} `json:"tls"`
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return fmt.Errorf("%s: %w", *path, err)
	}
	at := func(name string) string {
		if filepath.IsAbs(name) {
			return name
		}
		return filepath.Join(filepath.Dir(*path), name)
	}
	pair, err := tls.LoadX509KeyPair(at(config.TLS.Certificate), at(config.TLS.Key))
	if err != nil {
		return err
	}
	roots, err := os.ReadFile(at(config.TLS.ClientRoots))
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(roots) {
		return errors.New("no root of the peer")
	}
	contracts, err := chaincode.New(slog.New(slog.NewJSONHandler(stderr, nil)))
	if err != nil {
		return err
	}
	// As zhenglian-chaincode does it.
	s := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(&tls.Config{
			MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
		})),
		grpc.MaxRecvMsgSize(100<<20), grpc.MaxSendMsgSize(100<<20),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	)
	peer.RegisterChaincodeServer(s, &shim.ChaincodeServer{CCID: config.ChaincodeID, CC: &recorder{contracts}})
	listener, err := net.Listen("tcp", config.Listen)
	if err != nil {
		return err
	}
	stopped := context.AfterFunc(ctx, s.Stop)
	defer stopped()
	if err := s.Serve(listener); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// recorder is the ledger's chaincode with the benchmark's transactions before it.
type recorder struct{ shim.Chaincode }

// Invoke runs one transaction.
func (r *recorder) Invoke(stub shim.ChaincodeStubInterface) *peer.Response {
	name, args := stub.GetFunctionAndParameters()
	run, ours := transactions[name]
	if !ours {
		return r.Chaincode.Invoke(stub)
	}
	answer, err := run(stub, args)
	if err != nil {
		return shim.Error("invalid: " + err.Error())
	}
	return shim.Success(answer)
}

var transactions = map[string]func(shim.ChaincodeStubInterface, []string) ([]byte, error){
	"bench:Record": record, "bench:Write": write, "bench:History": history,
}

// record checks the form of records and their grants, each read once, and that none
// is there yet, and writes all or none. Its argument travels beside the transaction, which holds the digest.
func record(stub shim.ChaincodeStubInterface, args []string) ([]byte, error) {
	beside, err := stub.GetTransient()
	if err != nil {
		return nil, err
	}
	argument := beside[domain.TransientArgument]
	if len(args) != 1 || args[0] != string(domain.ArgumentReference(argument)) {
		return nil, errors.New("the argument beside the transaction is not the one that it names")
	}
	var values []json.RawMessage
	if err := json.Unmarshal(argument, &values); err != nil {
		return nil, err
	}
	grants := make(map[string]*domain.Grant)
	keys := make([]string, len(values))
	for i, value := range values {
		var r domain.AccessRecord
		if err := domain.ParseCanonical(value, &r); err != nil {
			return nil, err
		}
		if err := r.Validate(); err != nil {
			return nil, err
		}
		if grants[r.GrantID] == nil {
			value, err := stub.GetState(domain.KeyOf(domain.KindGrant, r.GrantID))
			if err != nil {
				return nil, err
			}
			grants[r.GrantID] = new(domain.Grant)
			if err := domain.ParseCanonical(value, grants[r.GrantID]); err != nil {
				return nil, err
			}
		}
		if err := domain.Admit(*grants[r.GrantID], r, domain.Used{}); err != nil {
			return nil, err
		}
		keys[i] = "use~" + r.CallID
	}
	recorded, err := stub.GetMultipleStates(keys...)
	if err != nil {
		return nil, err
	}
	for i, value := range recorded {
		if value != nil {
			return nil, fmt.Errorf("%s is recorded already", keys[i])
		}
	}
	stub.StartWriteBatch()
	for i, key := range keys {
		if err := stub.PutState(key, values[i]); err != nil {
			return nil, err
		}
	}
	return nil, stub.FinishWriteBatch()
}

func write(stub shim.ChaincodeStubInterface, args []string) ([]byte, error) {
	if len(args) != 2 {
		return nil, fmt.Errorf("%d arguments, want a key and a value", len(args))
	}
	return nil, stub.PutState(args[0], []byte(args[1]))
}

// history answers the oldest versions, which come last: nothing but reading all of
// them finds them.
func history(stub shim.ChaincodeStubInterface, args []string) (_ []byte, err error) {
	if len(args) != 2 {
		return nil, fmt.Errorf("%d arguments, want a key and a number", len(args))
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return nil, err
	}
	versions, err := stub.GetHistoryForKey(args[0])
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, versions.Close()) }()
	answer := struct {
		Versions int               `json:"versions"`
		Oldest   []json.RawMessage `json:"oldest"` // the oldest last
	}{Oldest: []json.RawMessage{}}
	for versions.HasNext() {
		version, err := versions.Next()
		if err != nil {
			return nil, err
		}
		answer.Versions++
		if len(answer.Oldest) == n {
			answer.Oldest = answer.Oldest[1:]
		}
		answer.Oldest = append(answer.Oldest, version.GetValue())
	}
	return json.Marshal(answer)
}
