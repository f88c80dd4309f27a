package network

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hyperledger/fabric-protos-go/common"
	"github.com/hyperledger/fabric-protos-go/msp"
	"github.com/hyperledger/fabric-protos-go/orderer"
	"github.com/hyperledger/fabric-sdk-go/pkg/common/errors/status"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
)

// testMember is a member of the test channel with an authority of the test's own.
type testMember struct {
	mspID string
	key   *ecdsa.PrivateKey
	root  *x509.Certificate
	pem   []byte // of root
}

func newTestMember(t *testing.T, mspID string) *testMember {
	t.Helper()
	m := &testMember{mspID: mspID}
	m.pem, m.key = m.issue(t, "ca", "", true, time.Now().Add(time.Hour))
	block, _ := pem.Decode(m.pem)
	var err error
	if m.root, err = x509.ParseCertificate(block.Bytes); err != nil {
		t.Fatal(err)
	}
	return m
}

var testSerial int64

// issue makes a certificate with an organizational unit; without a root yet, the root.
func (m *testMember) issue(t *testing.T, name, unit string, authority bool, ends time.Time) ([]byte, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	testSerial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(testSerial), Subject: pkix.Name{CommonName: name, OrganizationalUnit: []string{unit}, Organization: []string{m.mspID}},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: ends, BasicConstraintsValid: true, IsCA: authority,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	parent, signer := m.root, m.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key
}

// signed is a signature of an update by a new certificate of the member.
func (m *testMember) signed(t *testing.T, update []byte, unit string, ends time.Time) ConfigSignature {
	t.Helper()
	cert, key := m.issue(t, "person", unit, false, ends)
	return signatureWith(t, m.mspID, cert, key, update)
}

func signatureWith(t *testing.T, mspID string, cert []byte, key *ecdsa.PrivateKey, update []byte) ConfigSignature {
	t.Helper()
	creator, err := marshal(&msp.SerializedIdentity{Mspid: mspID, IdBytes: cert})
	if err != nil {
		t.Fatal(err)
	}
	header, err := signingHeader(creator)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(slices.Concat(header, update))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	n := elliptic.P256().Params().N
	if s.Cmp(new(big.Int).Rsh(n, 1)) > 0 {
		s.Sub(n, s)
	}
	return ConfigSignature{Header: header, Signature: asn1Signature(t, r, s)}
}

func asn1Signature(t *testing.T, r, s *big.Int) []byte {
	t.Helper()
	data, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

var soon = time.Now().Add(time.Hour)

// testChannel is the configuration of a channel whose members' authorities are the test's.
func testChannel(t *testing.T) (*common.Config, map[string]*testMember) {
	t.Helper()
	config := &common.Config{Sequence: 7, ChannelGroup: genesisConfig(t)}
	members := map[string]*testMember{}
	for _, section := range []string{applicationGroup, ordererGroup} {
		for mspID, group := range config.ChannelGroup.Groups[section].Groups {
			if members[mspID] == nil {
				members[mspID] = newTestMember(t, mspID)
			}
			changeMSP(t, group, func(m *msp.FabricMSPConfig) { m.RootCerts = [][]byte{members[mspID].pem} })
		}
	}
	return config, members
}

func changeMSP(t *testing.T, group *common.ConfigGroup, change func(*msp.FabricMSPConfig)) {
	t.Helper()
	var outer msp.MSPConfig
	var inner msp.FabricMSPConfig
	value := group.Values[mspValue]
	err := errors.Join(unmarshal(value.Value, &outer), unmarshal(outer.Config, &inner))
	change(&inner)
	var e1, e2 error
	outer.Config, e1 = marshal(&inner)
	value.Value, e2 = marshal(&outer)
	if err := errors.Join(err, e1, e2); err != nil {
		t.Fatal(err)
	}
}

// slower are the limits of ordering with another size of a block.
func slower(t *testing.T) func(*common.ConfigGroup) error {
	o := defaultDefinition(t).Ordering
	o.MaxMessages, o.RequestBatchMaxInterval = 300, Duration(400*time.Millisecond)
	return func(channel *common.ConfigGroup) error { return setOrdering(channel, o) }
}

func proposed(t *testing.T, current *common.Config, change func(*common.ConfigGroup) error) *proposal {
	t.Helper()
	next := clone(current)
	if err := change(next.ChannelGroup); err != nil {
		t.Fatal(err)
	}
	p, err := propose("zhenglian", current, next)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// reread is the proposal after its way through a file.
func reread(t *testing.T, p *proposal) *proposal {
	t.Helper()
	file := filepath.Join(t.TempDir(), "proposal")
	if err := writeProposal(file, p); err != nil {
		t.Fatal(err)
	}
	again, err := readProposal(file)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

func TestProposalSaysWhatChanges(t *testing.T) {
	current, members := testChannel(t)
	def := defaultDefinition(t)
	tax := def.Departments[1]
	tax.Code, tax.MSPID, tax.Host = "tax", "TaxMSP", "tax.example"
	newcomer := newTestMember(t, "TaxMSP")
	police := members["PoliceMSP"]
	revokedCert, _ := police.issue(t, "operator", "client", false, soon)
	list := crlOf(t, police, revokedCert)
	fresh, _ := police.issue(t, "orderer", "orderer", false, soon)
	for _, tc := range []struct {
		name   string
		change func(*common.ConfigGroup) error
		want   []string
		policy string // the one that must be satisfied
	}{
		{"ordering", slower(t), []string{
			"channel zhenglian, from configuration 7 to 8",
			"~ Channel/Orderer/BatchSize max_message_count: 500 → 300",
			"~ Channel/Orderer/ConsensusType request_batch_max_interval: 200ms → 400ms",
		}, "/Channel/Orderer/Admins"},
		{"admission", func(c *common.ConfigGroup) error {
			return admitTo(c, "BigdataMSP", tax, newcomer.pem, newcomer.pem)
		}, []string{
			"+ Channel/Application/TaxMSP/MSP root_certs 1: certificate of CN=ca",
			"+ Channel/Application/TaxMSP/policy Admins: 1 of (TaxMSP.admin)",
			"+ Channel/Orderer/TaxMSP/Endpoints addresses 1: tax.example:7160",
		}, "/Channel/Application/Admins"},
		{"orderer", func(c *common.ConfigGroup) error { return renewConsenter(c, "PoliceMSP", fresh, fresh) }, []string{
			"~ Channel/Orderer/Orderers 2 identity: certificate of CN=",
			"~ Channel/Orderer/policy BlockValidation: 3 of (BigdataMSP with the certificate of ",
		}, "/Channel/Orderer/Admins"},
		{"revocation", func(c *common.ConfigGroup) error { return setCRLs(c, "PoliceMSP", [][]byte{list}) }, []string{
			"+ Channel/Application/PoliceMSP/MSP revocation_list 1: list of CN=ca",
		}, "/Channel/Application/PoliceMSP/Admins"},
		{"capability", func(c *common.ConfigGroup) error { return setCapability(c, "application", "V2_0") }, []string{
			"+ Channel/Application/Capabilities capabilities V2_0: there",
			"- Channel/Application/Capabilities capabilities V2_5: there",
		}, "/Channel/Application/Admins"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := reread(t, proposed(t, current, tc.change))
			r, err := p.review("zhenglian", current, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range tc.want {
				if !slices.ContainsFunc(r.Summary, func(line string) bool { return strings.HasPrefix(line, want) }) {
					t.Errorf("no line %q in\n%s", want, strings.Join(r.Summary, "\n"))
				}
			}
			if !slices.ContainsFunc(r.Policies, func(p ConfigPolicy) bool { return p.Policy == tc.policy && !p.Satisfied && p.Elements > 0 }) || r.Enough {
				t.Errorf("policies %+v, enough %t", r.Policies, r.Enough)
			}
			next, err := applied(current, p.update)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.review("zhenglian", &common.Config{Sequence: 8, ChannelGroup: next.ChannelGroup}, time.Now()); err == nil {
				t.Error("it can be signed once more after it was committed")
			}
		})
	}
}

func crlOf(t *testing.T, m *testMember, cert []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(cert)
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: soon,
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: parsed.SerialNumber, RevocationTime: time.Now()}},
	}, m.root, m.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// The signatures that an orderer would count, and no others, make a change enough.
func TestSignaturesThatCount(t *testing.T) {
	current, members := testChannel(t)
	ordering := proposed(t, current, slower(t))
	update := ordering.file.Update
	admin := func(mspID string) ConfigSignature { return members[mspID].signed(t, update, "admin", soon) }
	police := members["PoliceMSP"]
	stolen, stolenKey := police.issue(t, "admin", "admin", false, soon)
	stranger := newTestMember(t, "PoliceMSP")

	revoking := clone(current)
	if err := setCRLs(revoking.ChannelGroup, "PoliceMSP", [][]byte{crlOf(t, police, stolen)}); err != nil {
		t.Fatal(err)
	}
	high := admin("PoliceMSP")
	var value struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(high.Signature, &value); err != nil {
		t.Fatal(err)
	}
	high.Signature = asn1Signature(t, value.R, new(big.Int).Sub(elliptic.P256().Params().N, value.S))

	for _, tc := range []struct {
		name    string
		config  *common.Config
		third   ConfigSignature
		enough  bool
		counted string // why the third does not count
	}{
		{"three admins", current, admin("PoliceMSP"), true, ""},
		{"an operator", current, police.signed(t, update, "client", soon), false, ""},
		{"a certificate that ended", current, police.signed(t, update, "admin", time.Now().Add(-time.Hour)), false, "not one of PoliceMSP"},
		{"a stranger under its name", current, stranger.signed(t, update, "admin", soon), false, "not one of PoliceMSP"},
		{"nobody's member", current, newTestMember(t, "NobodyMSP").signed(t, update, "admin", soon), false, "no member"},
		{"another update", current, police.signed(t, append(slices.Clone(update), 0), "admin", soon), false, "not a signature of this update"},
		{"the other s", current, high, false, "form that Fabric does not take"},
		{"the authority itself", current, signatureWith(t, "PoliceMSP", police.pem, police.key, update), false, "an authority's"},
		{"a key that is not revoked yet", current, signatureWith(t, "PoliceMSP", stolen, stolenKey, update), true, ""},
		{"a revoked key", revoking, signatureWith(t, "PoliceMSP", stolen, stolenKey, update), false, "revoked"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := reread(t, ordering)
			for _, mspID := range []string{"BigdataMSP", "CivilMSP"} {
				p.set(mspID, admin(mspID))
			}
			_, id, err := tc.third.creator()
			if err != nil {
				t.Fatal(err)
			}
			p.set(id, tc.third)
			r, err := reread(t, p).review("zhenglian", tc.config, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if r.Enough != tc.enough || len(r.Signatures) != 3 {
				t.Errorf("enough: %t, want %t; %+v", r.Enough, tc.enough, r.Signatures)
			}
			if third := r.Signatures[2]; third.Counts != (tc.counted == "") || !strings.Contains(third.Why, tc.counted) {
				t.Errorf("the third is %+v", third)
			}
		})
	}
}

// A change of one's own MSP needs one's own admin only, and nobody else's.
func TestOwnMSPNeedsOwnAdmin(t *testing.T) {
	current, members := testChannel(t)
	change := func(c *common.ConfigGroup) error { return setCRLs(c, "PoliceMSP", [][]byte{[]byte("list")}) }
	for mspID, want := range map[string]bool{"PoliceMSP": true, "BigdataMSP": false} {
		p := proposed(t, current, change)
		p.set(mspID, members[mspID].signed(t, p.file.Update, "admin", soon))
		r, err := p.review("zhenglian", current, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if r.Enough != want {
			t.Errorf("signed by %s: enough: %t", mspID, r.Enough)
		}
	}
}

// Members who sign at the same time bring their copies together afterwards.
func TestMerge(t *testing.T) {
	current, members := testChannel(t)
	now := time.Now()
	base := proposed(t, current, slower(t))
	copyWith := func(mspID string, unit string) *proposal {
		p := reread(t, base)
		p.set(mspID, members[mspID].signed(t, p.file.Update, unit, soon))
		return p
	}
	p := copyWith("BigdataMSP", "admin")
	for _, tc := range []struct {
		other *proposal
		want  int
	}{
		{copyWith("PoliceMSP", "admin"), 1},
		{copyWith("PoliceMSP", "admin"), 0}, // has one that counts
		{reread(t, base), 0},
	} {
		if n, err := p.merge(current.ChannelGroup, tc.other, now); err != nil || n != tc.want {
			t.Errorf("took %d, %v; want %d", n, err, tc.want)
		}
	}
	broken := copyWith("CivilMSP", "admin")
	broken.file.Signatures[0].Signature[10] ^= 1
	if n, err := p.merge(current.ChannelGroup, broken, now); err != nil || n != 0 {
		t.Errorf("took %d broken signatures, %v", n, err)
	}
	// One that counts replaces one that does not.
	if n, err := broken.merge(current.ChannelGroup, copyWith("CivilMSP", "admin"), now); err != nil || n != 1 || len(broken.members) != 1 {
		t.Errorf("took %d, %v; %q", n, err, broken.members)
	}
	if n, err := p.merge(current.ChannelGroup, broken, now); err != nil || n != 1 {
		t.Errorf("took %d, %v", n, err)
	}
	if r, err := reread(t, p).review("zhenglian", current, now); err != nil || !r.Enough || len(r.Signatures) != 3 {
		t.Errorf("review %+v, %v", r, err)
	}
	other := proposed(t, current, func(c *common.ConfigGroup) error { return setCapability(c, "channel", "V3_1") })
	if _, err := p.merge(current.ChannelGroup, other, now); err == nil || !strings.Contains(err.Error(), "different changes") {
		t.Errorf("another change is merged: %v", err)
	}
}

// What is not exactly a file of this program is not read.
func TestProposalFileRefuses(t *testing.T) {
	current, members := testChannel(t)
	p := proposed(t, current, slower(t))
	p.set("PoliceMSP", members["PoliceMSP"].signed(t, p.file.Update, "admin", soon))
	good, err := p.file.encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseProposal(good); err != nil {
		t.Fatal(err)
	}
	edited := func(change func(*ConfigFile)) []byte {
		var f ConfigFile
		if err := json.Unmarshal(good, &f); err != nil {
			t.Fatal(err)
		}
		change(&f)
		data, err := f.encode()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	withUpdate := func(change func(*common.ConfigUpdate)) []byte {
		return edited(func(f *ConfigFile) {
			u := clone(p.update)
			change(u)
			f.Update, _ = marshal(u)
			f.Digest = digestOf(f.Update)
		})
	}
	for name, tc := range map[string]struct {
		data  []byte
		words string
	}{
		"nothing":         {nil, "no proposal"},
		"no JSON":         {[]byte("\x1b[31mred"), "no proposal"},
		"too long":        {bytes.Repeat([]byte(" "), configFileLimit+1), "more than"},
		"more behind":     {append(slices.Clone(good), '{'), "not written as"},
		"other spaces":    {bytes.ReplaceAll(good, []byte("\n"), []byte("\n ")), "not written as"},
		"a member twice":  {bytes.Replace(good, []byte(`  "digest"`), []byte("  \"digest\": \"x\",\n  \"digest\""), 1), "not written as"},
		"other letters":   {bytes.Replace(good, []byte(`"digest"`), []byte(`"Digest"`), 1), "not written as"},
		"unknown member":  {bytes.Replace(good, []byte(`  "digest"`), []byte("  \"include\": \"/etc/passwd\",\n  \"digest\""), 1), "no proposal"},
		"other format":    {edited(func(f *ConfigFile) { f.Format = "zhenglian-config-update/2" }), "format"},
		"other digest":    {edited(func(f *ConfigFile) { f.Digest = digestOf(nil) }), "digest"},
		"update changed":  {edited(func(f *ConfigFile) { f.Update[len(f.Update)/2] ^= 1 }), "digest"},
		"no update":       {edited(func(f *ConfigFile) { f.Update, f.Digest = []byte{0xff}, digestOf([]byte{0xff}) }), "cannot be read"},
		"no base":         {withUpdate(func(u *common.ConfigUpdate) { u.IsolatedData = nil }), "which configuration"},
		"base is no form": {withUpdate(func(u *common.ConfigUpdate) { u.IsolatedData[baseKey] = []byte("+7") }), "which configuration"},
		"more beside":     {withUpdate(func(u *common.ConfigUpdate) { u.IsolatedData["x"] = nil }), "which configuration"},
		"signed twice":    {edited(func(f *ConfigFile) { f.Signatures = append(f.Signatures, f.Signatures[0]) }), "two signatures of PoliceMSP"},
		"no header":       {edited(func(f *ConfigFile) { f.Signatures[0].Header = []byte{0xff} }), "header"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parseProposal(tc.data); err == nil || !strings.Contains(err.Error(), tc.words) || strings.Contains(err.Error(), "\x1b") {
				t.Errorf("error %v, want %q", err, tc.words)
			}
		})
	}
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, pipe} {
		if _, err := readProposal(path); err == nil {
			t.Errorf("%s is read", path)
		}
	}
}

// What is well formed and does not follow from the channel's configuration is refused by
// everything that show, sign, merge and submit do.
func TestReviewRefuses(t *testing.T) {
	current, members := testChannel(t)
	good := proposed(t, current, slower(t))
	changed := func(change func(*common.ConfigUpdate)) *proposal {
		p := reread(t, good)
		change(p.update)
		p.file.Update, _ = marshal(p.update)
		p.file.Digest = digestOf(p.file.Update)
		return p
	}
	written := func(u *common.ConfigUpdate) *common.ConfigValue {
		return u.WriteSet.Groups[ordererGroup].Values[batchSizeValue]
	}
	size, err := marshal(&orderer.BatchSize{MaxMessageCount: 1, AbsoluteMaxBytes: 1, PreferredMaxBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		p     *proposal
		words string
	}{
		"another channel": {changed(func(u *common.ConfigUpdate) { u.ChannelId = "other" }), "changes the channel other"},
		"outdated":        {changed(func(u *common.ConfigUpdate) { u.IsolatedData[baseKey] = []byte("6") }), "changes configuration 6 and the channel has 7"},
		"of the future":   {changed(func(u *common.ConfigUpdate) { u.IsolatedData[baseKey] = []byte("8") }), "changes configuration 8 and your peer has 7"},
		"other value":     {changed(func(u *common.ConfigUpdate) { written(u).Value = size }), "summary does not say"},
		"other policy":    {changed(func(u *common.ConfigUpdate) { written(u).ModPolicy = "Writers" }), "summary does not say"},
		"version ahead":   {changed(func(u *common.ConfigUpdate) { written(u).Version += 5 }), "not the update between"},
		"nothing":         {changed(func(u *common.ConfigUpdate) { u.WriteSet = u.ReadSet }), "compare the configurations"},
		"no write set":    {changed(func(u *common.ConfigUpdate) { u.WriteSet = nil }), "writes nothing"},
		"read elsewhere":  {changed(func(u *common.ConfigUpdate) { u.ReadSet.Version++ }), "not the update between"},
		"hidden group": {changed(func(u *common.ConfigUpdate) {
			u.WriteSet.Groups["Consortiums"] = &common.ConfigGroup{}
		}), "not the update between"},
		"strange name": {changed(func(u *common.ConfigUpdate) {
			u.WriteSet.Groups[ordererGroup].Values["\x1b[2K"] = &common.ConfigValue{}
		}), `"\x1b[2K"`},
		"rewritten summary": {func() *proposal {
			p := reread(t, good)
			p.file.Summary[1] = "~ nothing of importance"
			return p
		}(), "summary does not say"},
		"shorter summary": {func() *proposal {
			p := reread(t, good)
			p.file.Summary = p.file.Summary[:2]
			return p
		}(), "summary does not say"},
	} {
		t.Run(name, func(t *testing.T) {
			p := reread(t, tc.p)
			for _, member := range members {
				p.set(member.mspID, member.signed(t, p.file.Update, "admin", soon))
			}
			if r, err := p.review("zhenglian", current, time.Now()); err == nil || !strings.Contains(err.Error(), tc.words) || strings.Contains(err.Error(), "\x1b") {
				t.Errorf("review %+v, error %v, want %q", r, err, tc.words)
			}
		})
	}
}

// What words do not tell apart is shown all the same.
func TestDifferenceHidesNothing(t *testing.T) {
	current, _ := testChannel(t)
	for name, change := range map[string]func(*common.ConfigGroup){
		"unknown field of a value": func(c *common.ConfigGroup) {
			v := c.Groups[ordererGroup].Values[batchSizeValue]
			v.Value = append(v.Value, 0x78, 1)
		},
		"a value written otherwise": func(c *common.ConfigGroup) {
			v := c.Groups[ordererGroup].Values[batchSizeValue]
			v.Value = append(slices.Clone(v.Value), v.Value...)
		},
		"a value that nobody knows": func(c *common.ConfigGroup) {
			c.Groups[applicationGroup].Values["Other"] = &common.ConfigValue{Value: []byte("x"), ModPolicy: "Admins"}
		},
		"an empty group":         func(c *common.ConfigGroup) { c.Groups["Other"] = &common.ConfigGroup{} },
		"who may change a value": func(c *common.ConfigGroup) { c.Values[capabilitiesValue].ModPolicy = "Writers" },
		"who may change a policy": func(c *common.ConfigGroup) {
			c.Groups[ordererGroup].Policies["Writers"].ModPolicy = "Writers"
		},
		"a policy": func(c *common.ConfigGroup) {
			p := c.Groups[applicationGroup].Policies["Admins"].Policy
			p.Value, _ = marshal(&common.ImplicitMetaPolicy{SubPolicy: "Admins", Rule: common.ImplicitMetaPolicy_ANY})
		},
		"a member that goes": func(c *common.ConfigGroup) { delete(c.Groups[ordererGroup].Groups, "PoliceMSP") },
		"a policy of unknown type": func(c *common.ConfigGroup) {
			c.Groups[ordererGroup].Policies["Readers"].Policy = &common.Policy{Type: 9, Value: []byte("x")}
		},
	} {
		next := clone(current)
		change(next.ChannelGroup)
		if lines := difference(outlineOf(current), outlineOf(next)); len(lines) == 0 {
			t.Errorf("%s: nothing is shown", name)
		}
		if p, err := propose("zhenglian", current, next); err != nil || len(p.file.Summary) < 2 {
			t.Errorf("%s: not proposed: %v", name, err)
		}
	}
	// Nor does what is shown besides hide it: another element whose name begins alike, or
	// who may change it.
	for name, besides := range map[string]func(*common.ConfigGroup){
		"another name": func(c *common.ConfigGroup) {
			c.Values[batchSizeValue+"2"] = &common.ConfigValue{Value: []byte("x"), ModPolicy: "Admins"}
		},
		"who may change it": func(c *common.ConfigGroup) { c.Values[batchSizeValue].ModPolicy = "Writers" },
	} {
		next := clone(current)
		orderers := next.ChannelGroup.Groups[ordererGroup]
		v := orderers.Values[batchSizeValue]
		v.Value = append(slices.Clone(v.Value), v.Value...)
		besides(orderers)
		lines := difference(outlineOf(current), outlineOf(next))
		if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, batchSizeValue+": other bytes") }) {
			t.Errorf("%s hides that a value is written otherwise: %q", name, lines)
		}
	}
	if lines := difference(outlineOf(current), outlineOf(clone(current))); len(lines) != 0 {
		t.Errorf("nothing changed and %q is shown", lines)
	}
}

func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"市场监管局 a.b": "市场监管局 a.b", "": `""`, "\x1b[2K": `"\x1b[2K"`, "a\nb": `"a\nb"`, "\u202eabc": `"\u202eabc"`, "\xff": `"\xff"`,
	} {
		if got := plain(in); got != want {
			t.Errorf("plain(%q) = %s, want %s", in, got, want)
		}
	}
}

func FuzzParseProposal(f *testing.F) {
	t := &testing.T{}
	current, _ := testChannel(t)
	p := proposed(t, current, slower(t))
	data, err := p.file.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p.file.Update, data)
	f.Add(proposed(t, current, func(c *common.ConfigGroup) error { return setCapability(c, "application", "V2_0") }).file.Update, data)
	f.Fuzz(func(t *testing.T, update, data []byte) {
		_, _ = parseProposal(data) // must not panic
		p := &proposal{file: &ConfigFile{Update: update}, update: &common.ConfigUpdate{}, base: 7}
		if unmarshal(update, p.update) != nil {
			return
		}
		lines, err := p.summary(current)
		if err == nil && len(lines) < 2 {
			t.Errorf("an update changes something and nothing is shown")
		}
	})
}

// After a change was committed a machine takes over what the channel has, and only that.
func TestAdopt(t *testing.T) {
	_, out := hostRendered(t, "police", testHost)
	source, err := os.ReadFile("consortium.yaml")
	if err != nil {
		t.Fatal(err)
	}
	edited := filepath.Join(t.TempDir(), "edited.yaml")
	if err := writeFile(edited, bytes.Replace(source, []byte("maxMessages: 500"), []byte("maxMessages: 300"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &Consortium{Layout: Layout{State: filepath.Join(out, "state"), Bin: "bin"}, DefinitionPath: edited}
	_, err = c.Upgrade(t.Context())
	wantProblem(t, err, "has the keys of 1 of 4 departments", "zhenglian-network config")
	h, err := c.configuring("")
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	current, members := testChannel(t)
	channel := current.ChannelGroup
	trusting(t, h.Layout.Trust(), members)
	before := tree(t, out)
	adopt := func() *AdoptResult {
		t.Helper()
		result := &AdoptResult{}
		for _, step := range []func(*common.ConfigGroup, *AdoptResult) error{h.adoptLists, h.adoptOrderer, h.adoptOrdering} {
			if err := step(channel, result); err != nil {
				t.Fatal(err)
			}
		}
		return result
	}

	staged := h.Layout.Department("police", "orderer", "next")
	fresh, _ := members["PoliceMSP"].issue(t, "orderer", "orderer", false, soon)
	for _, name := range ordererIdentities {
		for ext, data := range map[string][]byte{".pem": fresh, ".key": []byte("key of " + name)} {
			if err := writeFile(filepath.Join(staged, name+ext), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := adopt(); len(got.Changed) != 0 || len(got.Restart) != 0 {
		t.Errorf("the channel is as it was and %+v is taken over", got)
	}
	for name, content := range tree(t, out) {
		if had, ok := before[name]; !strings.Contains(filepath.ToSlash(name), "orderer/next") && (!ok || had != content) {
			t.Errorf("%s changed", name)
		}
	}

	civil, _ := members["CivilMSP"].issue(t, "operator", "client", false, soon)
	list := crlOf(t, members["CivilMSP"], civil)
	if err := errors.Join(setCRLs(channel, "CivilMSP", [][]byte{list}), renewConsenter(channel, "PoliceMSP", fresh, fresh), slower(t)(channel)); err != nil {
		t.Fatal(err)
	}
	if err := writeFile(edited, bytes.Replace(bytes.Replace(source, []byte("maxMessages: 500"), []byte("maxMessages: 300"), 1),
		[]byte("requestBatchMaxInterval: 200ms"), []byte("requestBatchMaxInterval: 400ms"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := adopt(); !slices.Equal(got.Restart, []string{"gateway", "orderer"}) || len(got.Changed) != 4 {
		t.Errorf("took over %+v", got)
	}
	trust, err := os.ReadFile(h.Layout.Trust())
	if err != nil {
		t.Fatal(err)
	}
	anchors, err := proof.ParseAnchors(trust)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range anchors.Departments {
		if want := d.MSPID == "CivilMSP"; slices.Contains(d.CRLs, string(list)) != want {
			t.Errorf("%s has the list of civil: %t", d.MSPID, !want)
		}
	}
	if key, err := os.ReadFile(h.Layout.Department("police", "orderer", "tls", "server.key")); err != nil || string(key) != "key of orderer-tls" || exists(staged) {
		t.Errorf("the orderer's key is %q, %v; staged still: %t", key, err, exists(staged))
	}
	if h.def.Ordering.MaxMessages != 300 {
		t.Errorf("the definition has %d messages in a block", h.def.Ordering.MaxMessages)
	}
	if got := adopt(); len(got.Changed) != 0 {
		t.Errorf("a second time took over %+v", got)
	}
}

// trusting makes the authorities in a trust file those of the members.
func trusting(t *testing.T, path string, members map[string]*testMember) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var anchors proof.Anchors
	if err := json.Unmarshal(data, &anchors); err != nil {
		t.Fatal(err)
	}
	for i, d := range anchors.Departments {
		anchors.Departments[i].CARoots = []string{string(members[string(d.MSPID)].pem)}
	}
	if data, err = domain.Canonical(anchors); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// What a new department sends is certificates of its own authorities and nothing else.
func TestCertificateIn(t *testing.T) {
	own, other := newTestMember(t, "TaxMSP"), newTestMember(t, "OtherMSP")
	node, _ := own.issue(t, "orderer", "orderer", false, soon)
	foreign, key := other.issue(t, "orderer", "orderer", false, soon)
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"ca.pem": append(slices.Clone(own.pem), other.pem...), "node.pem": node, "foreign.pem": foreign,
		"key.pem": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}),
	} {
		if err := writeFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := certificateIn(dir, "ca.pem", nil); err != nil || !bytes.Equal(got, own.pem) {
		t.Errorf("the root with another behind it is %s, %v", got, err)
	}
	if got, err := certificateIn(dir, "node.pem", own.pem); err != nil || !bytes.Equal(got, node) {
		t.Errorf("the node's certificate is %s, %v", got, err)
	}
	for name, issuer := range map[string][]byte{"absent.pem": nil, "node.pem": nil, "key.pem": nil, "foreign.pem": own.pem} {
		if _, err := certificateIn(dir, name, issuer); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// Only an orderer's own refusal says that a change will not take effect.
func TestIsRefusal(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want bool
	}{
		{status.New(status.OrdererServerStatus, int32(common.Status_BAD_REQUEST), "", nil), true},
		{fmt.Errorf("wrapped twice: %w", status.New(status.OrdererServerStatus, int32(common.Status_FORBIDDEN), "", nil)), true},
		{status.New(status.OrdererServerStatus, int32(common.Status_SERVICE_UNAVAILABLE), "", nil), false},
		{status.New(status.OrdererServerStatus, int32(common.Status_INTERNAL_SERVER_ERROR), "", nil), false},
		{status.New(status.OrdererClientStatus, status.ConnectionFailed.ToInt32(), "", nil), false},
		{context.DeadlineExceeded, false},
	} {
		if got := isRefusal(tc.err); got != tc.want {
			t.Errorf("isRefusal(%v) = %t", tc.err, got)
		}
	}
}

func TestOptionsComeBackAsTheyWere(t *testing.T) {
	channel := genesisConfig(t)
	before := clone(channel)
	if err := setOrdering(channel, defaultDefinition(t).Ordering); err != nil {
		t.Fatal(err)
	}
	if !equal(before, channel) {
		t.Error("the present limits change the configuration")
	}
	if err := setOrdering(&common.ConfigGroup{}, Ordering{}); err == nil {
		t.Error("a channel without ordering is changed")
	}
}

func TestLastConfig(t *testing.T) {
	inner, err := marshal(&common.OrdererBlockMetadata{LastConfig: &common.LastConfig{Index: 5}})
	if err != nil {
		t.Fatal(err)
	}
	outer, err := marshal(&common.Metadata{Value: inner})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := lastConfig(&common.Block{Metadata: &common.BlockMetadata{Metadata: [][]byte{outer}}}); err != nil || n != 5 {
		t.Errorf("last configuration %d, %v", n, err)
	}
	for _, block := range []*common.Block{nil, {}, {Metadata: &common.BlockMetadata{Metadata: [][]byte{{0xff}}}}} {
		if _, err := lastConfig(block); err == nil {
			t.Errorf("%v names a configuration block", block)
		}
	}
}

// A department works with its own folder, and with nobody else's key.
func TestConfiguringNeedsOwnKey(t *testing.T) {
	_, out := hostRendered(t, "police", testHost)
	c := &Consortium{Layout: Layout{State: filepath.Join(out, "state"), Bin: "bin"}, DefinitionPath: "consortium.yaml"}
	for _, code := range []string{"", "police"} {
		h, err := c.configuring(code)
		if err != nil {
			t.Fatal(err)
		}
		if h.dept.Code != "police" {
			t.Errorf("the machine of police is taken for that of %s", h.dept.Code)
		}
		h.close()
	}
	_, err := c.configuring("civil")
	wantProblem(t, err, "no admin's key of civil")
	_, err = c.configuring("nobody")
	wantProblem(t, err, "no department")
	_, err = (&Consortium{Layout: Layout{State: t.TempDir()}}).configuring("")
	wantProblem(t, err, "no consortium")
	l, _ := rendered(t)
	if err := l.saveState(State{Complete: true}); err != nil {
		t.Fatal(err)
	}
	_, err = (&Consortium{Layout: l, DefinitionPath: "consortium.yaml"}).configuring("")
	wantProblem(t, err, "of 4 departments", "--department")
}
