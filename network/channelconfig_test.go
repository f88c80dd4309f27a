package network

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go/common"
	"google.golang.org/protobuf/encoding/protowire"
)

// genesisConfig is the configuration in a genesis block that configtxgen 3.1.1 made from
// the shipped definition, with other ports and throw-away certificates.
func genesisConfig(t *testing.T) *common.ConfigGroup {
	t.Helper()
	data, err := os.ReadFile("testdata/genesis.block")
	if err != nil {
		t.Fatal(err)
	}
	var block common.Block
	if err := unmarshal(data, &block); err != nil {
		t.Fatal(err)
	}
	config, err := readConfig(&block)
	if err != nil {
		t.Fatal(err)
	}
	return config.ChannelGroup
}

func TestReadConfigRefuses(t *testing.T) {
	for name, block := range map[string]*common.Block{
		"nil":         nil,
		"empty":       {},
		"two":         {Data: &common.BlockData{Data: [][]byte{{}, {}}}},
		"no envelope": {Data: &common.BlockData{Data: [][]byte{{0xff}}}},
		"no config":   {Data: &common.BlockData{Data: [][]byte{{}}}},
	} {
		if _, err := readConfig(block); err == nil {
			t.Errorf("%s: read", name)
		}
	}
}

// What configtxgen wrote must come back as it was: a byte that changed would be an update.
func TestConsentersAndQuorumAreAsConfigtxgenWrites(t *testing.T) {
	channel := genesisConfig(t)
	before := clone(channel)
	value := channel.Groups[ordererGroup].Values[orderersValue].Value
	list, err := readConsenters(value)
	if err != nil {
		t.Fatal(err)
	}
	def := defaultDefinition(t)
	if len(list) != len(def.Departments) {
		t.Fatalf("%d orderers, want %d", len(list), len(def.Departments))
	}
	for i, dept := range def.Departments {
		c := list[i]
		if c.ID != uint32(i+1) || c.MSPID != dept.MSPID || c.Host != dept.Host || c.Port == 0 || !bytes.Contains(c.Identity, []byte("BEGIN CERTIFICATE")) || len(c.ServerTLSCert) == 0 || len(c.ClientTLSCert) == 0 {
			t.Errorf("orderer %d is %+v", i, c)
		}
	}
	if !bytes.Equal(writeConsenters(list), value) {
		t.Error("the orderers do not come back as they were")
	}
	if err := changeConsenters(channel, func(list []consenter) ([]consenter, error) { return list, nil }); err != nil {
		t.Fatal(err)
	}
	if !equal(before, channel) {
		t.Error("changing nothing changes the configuration")
	}
}

func TestReadConsentersRefuses(t *testing.T) {
	one := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), protowire.AppendVarint(protowire.AppendTag(nil, 8, protowire.VarintType), 1))
	for name, data := range map[string][]byte{
		"unknown field":               protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.VarintType), 1),
		"unknown field of an orderer": one,
		"truncated":                   one[:len(one)-1],
		"fixed width":                 protowire.AppendFixed32(protowire.AppendTag(nil, 1, protowire.Fixed32Type), 1),
	} {
		if list, err := readConsenters(data); err == nil {
			t.Errorf("%s: read as %v", name, list)
		}
	}
}

func TestQuorumFollowsTheOrderers(t *testing.T) {
	for n, want := range map[int]int{1: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 5, 10: 7} {
		if got := bftQuorum(n); got != want {
			t.Errorf("bftQuorum(%d) = %d, want %d", n, got, want)
		}
	}
	channel := genesisConfig(t)
	err := changeConsenters(channel, func(list []consenter) ([]consenter, error) {
		return append(list, consenter{ID: 5, Host: "h", Port: 1, MSPID: "TaxMSP", Identity: []byte("identity")}), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var envelope common.SignaturePolicyEnvelope
	if err := unmarshal(channel.Groups[ordererGroup].Policies[blockValidation].Policy.Value, &envelope); err != nil {
		t.Fatal(err)
	}
	out := envelope.Rule.GetNOutOf()
	if len(envelope.Identities) != 5 || out.GetN() != 4 || len(out.GetRules()) != 5 {
		t.Errorf("%d identities, %d of %d sign; want 5 and 4 of 5", len(envelope.Identities), out.GetN(), len(out.GetRules()))
	}
	refused := errors.New("no")
	if err := changeConsenters(channel, func([]consenter) ([]consenter, error) { return nil, refused }); !errors.Is(err, refused) {
		t.Errorf("the refusal of a change is lost: %v", err)
	}
	if err := changeConsenters(&common.ConfigGroup{}, nil); err == nil {
		t.Error("a channel without BFT orderers is changed")
	}
}

func TestSetCRLs(t *testing.T) {
	channel := genesisConfig(t)
	before := clone(channel)
	list := []byte("-----BEGIN X509 CRL-----\n")
	if err := setCRLs(channel, "PoliceMSP", [][]byte{list}); err != nil {
		t.Fatal(err)
	}
	for _, section := range []string{applicationGroup, ordererGroup} {
		for mspID, group := range channel.Groups[section].Groups {
			has := bytes.Contains(group.Values[mspValue].Value, list)
			if has != (mspID == "PoliceMSP") {
				t.Errorf("%s of %s: has the list: %t", mspID, section, has)
			}
		}
	}
	if err := setCRLs(channel, "PoliceMSP", nil); err != nil {
		t.Fatal(err)
	}
	if !equal(before, channel) {
		t.Error("something else changed besides")
	}
	if err := setCRLs(channel, "NobodyMSP", nil); err == nil {
		t.Error("the lists of nobody are set")
	}
}

// A new member gets the policies of a present one, about itself.
func TestLikeDepartment(t *testing.T) {
	channel := genesisConfig(t)
	def := defaultDefinition(t)
	dept := def.Departments[1]
	dept.Code, dept.MSPID, dept.Host = "tax", "TaxMSP", "tax.example"
	for _, section := range []string{applicationGroup, ordererGroup} {
		model, err := departmentGroup(channel, section, "BigdataMSP")
		if err != nil {
			t.Fatal(err)
		}
		group, err := likeDepartment(model, dept, []byte("its enrolment root"), []byte("its TLS root"))
		if err != nil {
			t.Fatal(err)
		}
		data, err := marshal(group)
		if err != nil {
			t.Fatal(err)
		}
		for _, foreign := range []string{"BigdataMSP", "ca.bigdata", "127.0.0.1"} {
			if bytes.Contains(data, []byte(foreign)) {
				t.Errorf("%s: the new member's configuration names %s", section, foreign)
			}
		}
		for _, own := range []string{"TaxMSP", "its enrolment root", "its TLS root", "tax.example", "admin", "peer"} {
			if !bytes.Contains(data, []byte(own)) {
				t.Errorf("%s: the new member's configuration does not name %s", section, own)
			}
		}
		var want, got []string
		for name := range model.Policies {
			want = append(want, name)
		}
		for name := range group.Policies {
			got = append(got, name)
		}
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" || len(want) < 4 {
			t.Errorf("%s: policies (-want +got):\n%s", section, diff)
		}
	}
	model, _ := departmentGroup(channel, applicationGroup, "BigdataMSP")
	model.Values["Surprise"] = &common.ConfigValue{}
	if _, err := likeDepartment(model, dept, nil, nil); err == nil || !strings.Contains(err.Error(), "Surprise") {
		t.Errorf("a value that nobody knows is copied: %v", err)
	}
}
