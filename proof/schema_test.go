package proof_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/zhenglian/zhenglian/proof"
)

// TestSchema checks that the published schema admits every bundle that can be
// read, and refuses what it can express of the rest.
func TestSchema(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("../api/proof-bundle.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(vectorDir, "*.zlproof"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	// Malformed as JSON documents, and not only in their canonical form.
	wantRefused := map[string]bool{
		"capital-key": true, "unknown-key": true, "padding-character": true, "base64-newline": true,
		"no-endorsements": true, "many-endorsements": true, "unknown-format": true, "null": true,
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".zlproof")
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			if _, readable := proof.ParseBundle(data); readable == nil {
				t.Errorf("%s: not JSON, but read: %v", name, err)
			}
			continue
		}
		err = schema.Validate(document)
		if _, unreadable := proof.ParseBundle(data); unreadable == nil && err != nil {
			t.Errorf("%s: refused by the schema, but read: %v", name, err)
		}
		if wantRefused[name] && err == nil {
			t.Errorf("%s: admitted by the schema", name)
		}
		delete(wantRefused, name)
	}
	if len(wantRefused) > 0 {
		t.Errorf("vectors not found: %v", wantRefused)
	}
}
