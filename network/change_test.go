package network

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestChangeOfTheDefinition(t *testing.T) {
	tax := Department{
		Code: "tax", NameZh: "税务局", NameEn: "Tax Bureau", USCC: "11990000A00000055K", MSPID: "TaxMSP", Host: "127.0.0.1", Listen: "127.0.0.1",
		Ports: Ports{Gateway: 8085, Peer: 7451, PeerChaincode: 7452, PeerOperations: 7453, CA: 7454, Orderer: 7460, OrdererCluster: 7461, OrdererAdmin: 7462, OrdererOperations: 7463, Chaincode: 9451},
	}
	tests := []struct {
		name string
		edit func(*Definition)
		want string // command
	}{
		{"nothing", func(*Definition) {}, ""},
		{"version", func(d *Definition) { d.Chaincode.Version = "1.1" }, "upgrade"},
		{"ordering", func(d *Definition) { d.Ordering.MaxMessages = 300 }, "config propose ordering"},
		{"ordering and version", func(d *Definition) { d.Ordering.MaxMessages, d.Chaincode.Version = 300, "1.1" }, ""},
		{"one more department", func(d *Definition) { d.Departments = append(slices.Clone(d.Departments), tax) }, "add-department"},
		{"one less", func(d *Definition) { d.Departments = d.Departments[:3] }, ""},
		{"version and department", func(d *Definition) {
			d.Chaincode.Version = "1.1"
			d.Departments = append(slices.Clone(d.Departments), tax)
		}, ""},
		{"department in the middle", func(d *Definition) { d.Departments = slices.Insert(slices.Clone(d.Departments), 1, tax) }, ""},
		{"two more", func(d *Definition) {
			other := tax
			other.Code = "other"
			d.Departments = append(slices.Clone(d.Departments), tax, other)
		}, ""},
		{"a port besides", func(d *Definition) {
			d.Departments = append(slices.Clone(d.Departments), tax)
			d.Departments[0].Ports.Peer++
		}, ""},
		{"chaincode's name", func(d *Definition) { d.Chaincode.Name = "other" }, ""},
		{"lead", func(d *Definition) { d.Lead = "civil" }, ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			edited := defaultDefinition(t)
			tc.edit(edited)
			got := defaultDefinition(t).changeTo(edited)
			if got.command != tc.want {
				t.Errorf("command %q, want %q", got.command, tc.want)
			}
			if (got.what == "") != (tc.want == "") || (len(got.added) == 1) != (tc.want == "add-department") {
				t.Errorf("change = %+v", got)
			}
		})
	}
}

// A definition of before there were two slots must keep its digest.
func TestSlotIsNotPartOfTheDefinition(t *testing.T) {
	def := defaultDefinition(t)
	before := def.Digest()
	data, err := json.Marshal(def)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "chaincodeNext") || strings.Contains(string(data), "slot") {
		t.Error("the digest of a definition covers what older ones do not have")
	}
	police := def.Departments[1]
	def.setSlot(1)
	if def.Digest() != before {
		t.Error("the slot changes the digest")
	}
	if got := def.Departments[1].process("chaincode"); got != "chaincode2-police" {
		t.Errorf("the chaincode process in the second slot is %s", got)
	}
	port := 0
	for _, lis := range def.Departments[1].Listeners() {
		if lis.Process == "chaincode2-police" {
			port = lis.Port
		}
	}
	if port != police.Ports.Chaincode+1 {
		t.Errorf("it listens at %d, want the port after %d", port, police.Ports.Chaincode)
	}
	def.Departments[1].Ports.ChaincodeNext = 9999
	if got := def.Departments[1].chaincodePort(1); got != 9999 {
		t.Errorf("it listens at %d, want 9999", got)
	}
}

func TestPortOfTheNextUpgradeIsClaimed(t *testing.T) {
	def := defaultDefinition(t)
	def.Departments[1].Ports.Gateway = def.Departments[0].Ports.Chaincode + 1
	if err := def.Validate(); err == nil || !strings.Contains(err.Error(), "chaincodeNext") {
		t.Errorf("the port of the next upgrade is given away: %v", err)
	}
	def.Departments[0].Ports.ChaincodeNext = 9990
	if err := def.Validate(); err != nil {
		t.Errorf("another port for it does not help: %v", err)
	}
}

// During an upgrade the supervisor knows the processes of both slots.
func TestSupervisionOfBothSlots(t *testing.T) {
	l, def := rendered(t)
	if err := renderProcesses(l, def, []int{1}, func(_, process string) bool { return strings.HasPrefix(process, "chaincode2-") }); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(l.composeFile())
	if err != nil {
		t.Fatal(err)
	}
	var file composeFile
	if err := yaml.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	processes := file.Processes
	for _, dept := range def.Departments {
		old, fresh := processes["chaincode-"+dept.Code], processes["chaincode2-"+dept.Code]
		if len(old.Entrypoint) == 0 || old.Disabled {
			t.Errorf("%s: the old chaincode is %+v", dept.Code, old)
		}
		if len(fresh.Entrypoint) == 0 || !fresh.Disabled || fresh.WorkingDir != l.Department(dept.Code, "chaincode2") || fresh.LogLocation == old.LogLocation {
			t.Errorf("%s: the new chaincode is %+v", dept.Code, fresh)
		}
		for name := range processes["peer-"+dept.Code].DependsOn {
			if strings.HasPrefix(name, "chaincode") {
				t.Errorf("%s: the peer waits for %s, which an upgrade removes", dept.Code, name)
			}
		}
	}
	def.setSlot(1)
	if err := renderChaincode(l, def.Departments[0], "zhenglian_1.1:00"); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"../chaincode/server.pem", "../chaincode/server.key", "../chaincode/peer-ca.pem"} {
		if !exists(l.Department(def.Departments[0].Code, "chaincode2", file)) {
			t.Errorf("the second slot names %s, which is not there", file)
		}
	}
}
