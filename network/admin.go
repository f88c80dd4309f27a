package network

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/hyperledger/fabric-sdk-go/pkg/client/ledger"
	"github.com/hyperledger/fabric-sdk-go/pkg/client/resmgmt"
	"github.com/hyperledger/fabric-sdk-go/pkg/common/errors/retry"
	"github.com/hyperledger/fabric-sdk-go/pkg/common/logging"
	"github.com/hyperledger/fabric-sdk-go/pkg/common/providers/fab"
	"github.com/hyperledger/fabric-sdk-go/pkg/core/config"
	"github.com/hyperledger/fabric-sdk-go/pkg/fabsdk"
	"go.yaml.in/yaml/v3"
)

// administrators act for all departments with the key of each one's admin. On one
// machine one program holds them all; in a real deployment each department runs it with
// its own.
type administrators struct {
	def *Definition
	sdk *fabsdk.FabricSDK
}

// connectAdministrators prepares the SDK. It opens no connection yet.
func connectAdministrators(l Layout, def *Definition) (*administrators, error) {
	profile, err := connectionProfile(l, def)
	if err != nil {
		return nil, err
	}
	// What the SDK would log reaches the caller as an error anyway.
	for _, module := range []string{"fabsdk", "fabsdk/client", "fabsdk/core", "fabsdk/fab", "fabsdk/common", "fabsdk/msp", "fabsdk/util"} {
		logging.SetLevel(module, logging.CRITICAL)
	}
	sdk, err := fabsdk.New(config.FromRaw(profile, "yaml"))
	if err != nil {
		return nil, fmt.Errorf("prepare the administration client: %w", err)
	}
	return &administrators{def: def, sdk: sdk}, nil
}

func (a *administrators) close() { a.sdk.Close() }

// resources administers the peer of one department as its admin.
func (a *administrators) resources(code string) (*resmgmt.Client, error) {
	c, err := resmgmt.New(a.sdk.Context(fabsdk.WithUser("admin"), fabsdk.WithOrg(code)))
	if err != nil {
		return nil, fmt.Errorf("administer %s: %w", code, err)
	}
	return c, nil
}

// ledger inspects the channel as the admin of one department.
func (a *administrators) ledger(code string) (*ledger.Client, error) {
	c, err := ledger.New(a.sdk.ChannelContext(a.def.Channel, fabsdk.WithUser("admin"), fabsdk.WithOrg(code)))
	if err != nil {
		return nil, fmt.Errorf("inspect the ledger of %s: %w", code, err)
	}
	return c, nil
}

// patience are the attempts of an administrative request. The channel reaches the peers
// one block after the request that made it, so early requests may have to be repeated.
func patience() resmgmt.RequestOption {
	return resmgmt.WithRetry(retry.Opts{
		Attempts: 5, InitialBackoff: 300 * time.Millisecond, MaxBackoff: 2 * time.Second,
		BackoffFactor: 1.5, RetryableCodes: retry.ResMgmtDefaultRetryableCodes,
	})
}

// unhurried bounds a whole administrative request.
func unhurried() resmgmt.RequestOption {
	return resmgmt.WithTimeout(fab.ResMgmt, 60*time.Second)
}

func peerName(code string) string    { return "peer-" + code }
func ordererName(code string) string { return "orderer-" + code }

// connectionProfile describes the consortium to the SDK. The orderers stand in its
// channel section because a V3 channel has no addresses of orderers in its root.
func connectionProfile(l Layout, def *Definition) ([]byte, error) {
	type dict = map[string]any
	duration := func(d time.Duration) string { return d.String() }
	organizations, peers, orderers := dict{}, dict{}, dict{}
	channelPeers, channelOrderers := dict{}, []string{}
	node := func(dept Department, port int) (dict, error) {
		root, err := l.tlsRoot(dept.Code)
		if err != nil {
			return nil, fmt.Errorf("TLS root of %s: %w", dept.Code, err)
		}
		return dict{
			"url":         net.JoinHostPort(dept.Host, strconv.Itoa(port)),
			"tlsCACerts":  dict{"pem": string(root)},
			"grpcOptions": dict{"keep-alive-time": "0s", "keep-alive-timeout": "20s", "keep-alive-permit": false, "fail-fast": false, "allow-insecure": false},
		}, nil
	}
	organization := def.Lead
	for _, dept := range def.Departments {
		peer, err := node(dept, dept.Ports.Peer)
		if errors.Is(err, fs.ErrNotExist) {
			continue // its folder is gone, until it is restored
		}
		if err != nil {
			return nil, err
		}
		if organizations[organization] == nil && dept.Code != def.Lead {
			if _, err := l.tlsRoot(def.Lead); err != nil {
				organization = dept.Code
			}
		}
		orderer, err := node(dept, dept.Ports.Orderer)
		if err != nil {
			return nil, err
		}
		peers[peerName(dept.Code)], orderers[ordererName(dept.Code)] = peer, orderer
		channelPeers[peerName(dept.Code)] = dict{"endorsingPeer": true, "chaincodeQuery": true, "ledgerQuery": true, "eventSource": true}
		channelOrderers = append(channelOrderers, ordererName(dept.Code))
		users := dict{}
		// On a host of one department only its own admin is there.
		if cert := l.Department(dept.Code, "users", "admin", "cert.pem"); exists(cert) {
			users["admin"] = dict{
				"cert": dict{"path": cert},
				"key":  dict{"path": l.Department(dept.Code, "users", "admin", "key.pem")},
			}
		}
		// The SDK wants either users or a folder of them, which may be empty.
		organizations[dept.Code] = dict{"mspid": dept.MSPID, "peers": []string{peerName(dept.Code)}, "users": users, "cryptoPath": l.Run("sdk")}
	}
	retries := dict{"attempts": 8, "initialBackoff": "200ms", "maxBackoff": "2s", "backoffFactor": 1.5}
	data, err := yaml.Marshal(dict{
		"version": "1.0.0",
		"client": dict{
			"organization": organization,
			"logging":      dict{"level": "critical"},
			"BCCSP": dict{"security": dict{
				"enabled": true, "default": dict{"provider": "SW"},
				"hashAlgorithm": "SHA2", "softVerify": true, "level": 256,
			}},
			"tlsCerts": dict{"systemCertPool": false},
			// Keys are read from the users' files; the store stays empty.
			"credentialStore": dict{"path": l.Run("sdk"), "cryptoStore": dict{"path": l.Run("sdk")}},
			"peer":            dict{"timeout": dict{"connection": duration(3 * time.Second), "response": duration(30 * time.Second)}},
			"orderer":         dict{"timeout": dict{"connection": duration(3 * time.Second), "response": duration(15 * time.Second)}},
		},
		"organizations": organizations, "peers": peers, "orderers": orderers,
		"channels": dict{def.Channel: dict{
			"peers": channelPeers, "orderers": channelOrderers,
			"policies": dict{
				"discovery":          dict{"maxTargets": 2, "retryOpts": retries},
				"queryChannelConfig": dict{"minResponses": 1, "maxTargets": 1, "retryOpts": retries},
			},
		}},
	})
	if err != nil {
		return nil, fmt.Errorf("describe the consortium to the administration client: %w", err)
	}
	return data, nil
}

// shortID abbreviates a package ID for people.
func shortID(packageID string) string {
	label, hash, ok := strings.Cut(packageID, ":")
	if !ok || len(hash) < 12 {
		return packageID
	}
	return label + ":" + hash[:12]
}

// hash64 writes a block hash as the rest of the project does.
func hash64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
