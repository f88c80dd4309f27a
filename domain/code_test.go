package domain

import (
	"encoding/csv"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestValidUSCC(t *testing.T) {
	for _, s := range []string{"11430000006122244L", "11330105002500287C", "11220000013544541J", "11100000000013338W", "11100000MB03271699"} {
		if !ValidUSCC(s) {
			t.Errorf("ValidUSCC(%q) = false", s)
		}
		// Every other last character, and every change of one character, is refused.
		for i := range len(s) {
			for _, c := range []byte(usccAlphabet) {
				if c == s[i] {
					continue
				}
				if changed := s[:i] + string(c) + s[i+1:]; ValidUSCC(changed) {
					t.Errorf("ValidUSCC(%q) = true, a change of %q", changed, s)
				}
			}
		}
	}
	for _, s := range []string{"", "11430000006122244", "11430000006122244l", "1143000000612224IL", "11430000006122244L "} {
		if ValidUSCC(s) {
			t.Errorf("ValidUSCC(%q) = true", s)
		}
	}
}

func TestCheckCharacter(t *testing.T) {
	for _, tc := range []struct {
		text string
		want byte
	}{
		{"A12425GABC1234002", 'M'},
		{"11100000000013338W011" + "11430000006122244L" + "20230000403" + "001", 'U'},
	} {
		if got, ok := checkCharacter(tc.text); !ok || got != tc.want {
			t.Errorf("checkCharacter(%q) = %c, %v, want %c", tc.text, got, ok, tc.want)
		}
	}
	if _, ok := checkCharacter("a"); ok {
		t.Error("a lower-case letter has no value")
	}
}

func TestCertificateID(t *testing.T) {
	for _, s := range []string{
		"11100000000013338W011.11430000006122244L.20230000403.001.U",
		"11100000000013338W009.11330105002500287C.2025052201.002.0",
		"11100000000013338W032.11220000013544541J.2430599.001.F",
		"11100000MB03271699022.340100.000000016.001.9",
	} {
		id := CertificateOIDRoot + "." + s
		parsed, err := ParseCertificateID(id)
		if err != nil {
			t.Errorf("ParseCertificateID(%q): %v", id, err)
			continue
		}
		if again, err := parsed.Compose(); err != nil || again != id {
			t.Errorf("Compose() = %q, %v, want %q", again, err, id)
		}
	}
	// Chance digits inside a longer serial are not a person's number.
	if _, err := (CertificateID{"11100000000013338W011", "340100", "A13800000000B", "001"}).Compose(); err != nil {
		t.Error(err)
	}
	const good = "1.2.156.3005.2.11100000000013338W011.11430000006122244L.20230000403.001.U"
	for _, tc := range []struct{ name, id, want string }{
		{"check character", good[:len(good)-1] + "V", "wrong check character"},
		{"no check character", good[:len(good)-1], "the check character must be one of 0-9 A-Z"},
		{"two check characters", good + "U", "the check character must be one of 0-9 A-Z"},
		{"lower-case check character", good[:len(good)-1] + "u", "the check character must be one of 0-9 A-Z"},
		{"check character of another serial", strings.Replace(good, "20230000403", "20230000404", 1), "wrong check character (ISO 7064"},
		{"two digits swapped", strings.Replace(good, "20230000403", "20230000430", 1), "wrong check character (ISO 7064"},
		{"other root", strings.Replace(good, "3005", "3003", 1), "has another OID root than 1.2.156.3005.2"},
		{"no root", strings.TrimPrefix(good, CertificateOIDRoot+"."), "must be 1.2.156.3005.2.TYPE.ISSUER.SERIAL.VERSION.CHECK"},
		{"nothing", "", "must be 1.2.156.3005.2.TYPE.ISSUER.SERIAL.VERSION.CHECK"},
		{"space before", " " + good, "must be 1.2.156.3005.2.TYPE.ISSUER.SERIAL.VERSION.CHECK"},
		{"part missing", strings.Replace(good, ".001.", ".", 1), "must have 5 parts after 1.2.156.3005.2"},
		{"part too many", good + ".U", "must have 5 parts after 1.2.156.3005.2"},
		{"type", strings.Replace(good, "3338W011", "3338X011", 1), "typeCode: wrong check character of the unified social credit code"},
		{"O for 0 in the type", strings.Replace(good, "3338W011", "3338WO11", 1), "typeCode: must be the defining authority's"},
		{"O for 0 in the issuer", strings.Replace(good, "11430000006122244L", "1143000000612224OL", 1), "issuerCode: has I, O, S, V or Z"},
		{"lower case", strings.Replace(good, "2244L", "2244l", 1), "issuerCode: has lower-case letters"},
		{"sign in the issuer", strings.Replace(good, "2244L", "224-L", 1), "issuerCode: " + usccRule},
		{"region of five digits", strings.Replace(good, "11430000006122244L", "34010", 1), "issuerCode: neither a unified social credit code nor a region code"},
		{"type number", strings.Replace(good, "W011", "W01", 1), "typeCode: "},
		{"issuer", strings.Replace(good, "2244L", "2244M", 1), "issuerCode: wrong check character of the unified social credit code"},
		{"serial", strings.Replace(good, "20230000403", "2023_0403", 1), "serial: "},
		{"serial missing", strings.Replace(good, "20230000403", "", 1), "serial: "},
		{"version", strings.Replace(good, ".001.", ".1.", 1), "version: "},
		{"a person's number as serial", strings.Replace(good, "20230000403", "999999199001011234", 1), "serial: personal-number rule"},
		{"a telephone as serial", strings.Replace(good, "20230000403", "13800000000", 1), "serial: personal-number rule"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := ParseCertificateID(tc.id)
			wantKind(t, err, Invalid, tc.want)
			for _, finding := range Findings(err) {
				if finding.Rule == RuleOther {
					t.Errorf("no rule: %+v", finding)
				}
			}
		})
	}
}

func TestCommitments(t *testing.T) {
	// Golden values: they are on ledgers and in QR codes.
	if got, want := CheckCodeHash(someID, "2345678ABC"), Digest([]byte("zhenglian/check-code/1\n"+someID+"\n2345678ABC")); got != want {
		t.Errorf("CheckCodeHash = %s, want %s", got, want)
	}
	if got, want := HolderCommitment(someID, "s"), Digest([]byte("zhenglian/holder/1\n"+someID+"\ns")); got != want {
		t.Errorf("HolderCommitment = %s, want %s", got, want)
	}
	if CheckCodeHash(someID, "a") == CheckCodeHash(otherID, "a") {
		t.Error("equal codes of two certificates have equal hashes")
	}
}

// rows reads a file of real data, or skips the test where the data is not there.
func rows(t *testing.T, name string) []map[string]string {
	t.Helper()
	root := filepath.Join("..", "..", "shared", "data")
	if _, err := os.Stat(root); errors.Is(err, fs.ErrNotExist) {
		t.Skip("no folder with real data beside the repository")
	}
	f, err := os.Open(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) < 2 {
		t.Fatalf("%s holds no rows", name)
	}
	var list []map[string]string
	for _, line := range lines[1:] {
		row := map[string]string{}
		for i, name := range lines[0] {
			row[name] = line[i]
		}
		list = append(list, row)
	}
	return list
}

func TestRealCodes(t *testing.T) {
	for _, row := range rows(t, "certificates/uscc_vectors.csv") {
		if got, want := ValidUSCC(row["uscc"]), row["expected"] == "valid"; got != want {
			t.Errorf("ValidUSCC(%q) = %v, want %v", row["uscc"], got, want)
		}
		if LooksPersonal(row["uscc"]) {
			t.Errorf("LooksPersonal(%q) = true", row["uscc"])
		}
	}
	for _, row := range rows(t, "certificates/certificate_ids.csv") {
		_, err := ParseCertificateID(row["certificate_id"])
		if got, want := err == nil, row["expected"] == "valid"; got != want {
			t.Errorf("ParseCertificateID(%q) = %v, want valid %v", row["certificate_id"], err, want)
		}
	}
	for _, row := range rows(t, "certificates/certificate_types.csv") {
		if !validTypeCode(row["type_code"]) {
			t.Errorf("validTypeCode(%q) = false", row["type_code"])
		}
	}
}

func TestRealCatalogEntriesFitTheLimits(t *testing.T) {
	for _, file := range []string{"beijing_2021.csv", "guangxi_2021.csv", "tianjin_2021.csv"} {
		t.Run(file, func(t *testing.T) {
			accepted := 0
			for _, row := range rows(t, "catalog_cn/"+file) {
				c := someContent()
				c.Name, c.Abstract, c.Items, c.Format, c.ShareMode = row["resource_name"], row["abstract"], nil, "file", "platform_file"
				c.FormatType = ""
				seen := map[string]bool{}
				for _, name := range strings.Split(row["info_items"], "|") {
					if name != "" && !seen[name] {
						c.Items = append(c.Items, CatalogItem{Name: name, Type: "C", Level: 1, ShareType: Conditional})
					}
					seen[name] = true
				}
				if c.Abstract == "" {
					c.Abstract = c.Name // some portals publish none
				}
				if err := c.Validate(); err != nil {
					t.Errorf("%s: %v", c.Name, err)
					continue
				}
				accepted++
			}
			if accepted < 100 {
				t.Errorf("%d entries accepted", accepted)
			}
		})
	}
}
