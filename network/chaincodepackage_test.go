package network

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestChaincodePackageIsDeterministic(t *testing.T) {
	c := Chaincode{Name: "zhenglian", Version: "1.0"}
	first, id, err := chaincodePackage(c)
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := chaincodePackage(c)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("two packages of one chaincode differ")
	}
	// The ID is on the ledger of every running consortium: it must not change with the
	// Go release or with this program.
	const want = "zhenglian_1.0:340a0256d11558d4af50b2199efaf34ce80cf3823010931704a6e136bce7f07f"
	if id != want {
		t.Errorf("package ID = %s, want %s", id, want)
	}
	if _, other, _ := chaincodePackage(Chaincode{Name: "zhenglian", Version: "1.1"}); other == id {
		t.Error("another version has the same package ID")
	}
}

func TestChaincodePackageContent(t *testing.T) {
	data, _, err := chaincodePackage(Chaincode{Name: "zhenglian", Version: "1.0"})
	if err != nil {
		t.Fatal(err)
	}
	outer := unpack(t, data)
	want := map[string]string{"metadata.json": `{"type":"ccaas","label":"zhenglian_1.0"}`, "code.tar.gz": outer["code.tar.gz"]}
	if diff := cmp.Diff(want, outer); diff != "" {
		t.Errorf("package (-want +got):\n%s", diff)
	}
	want = map[string]string{"chaincode.json": `{"name":"zhenglian","version":"1.0"}`}
	if diff := cmp.Diff(want, unpack(t, []byte(outer["code.tar.gz"]))); diff != "" {
		t.Errorf("code (-want +got):\n%s", diff)
	}
}

func unpack(t *testing.T, data []byte) map[string]string {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for in := tar.NewReader(zip); ; {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		files[header.Name] = string(content)
	}
}
