package network

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestFixedModules mends the versions that Fabric's programs are built from: others may
// be right by themselves, or wrong elsewhere.
func TestFixedModules(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "build")
	module, err := filepath.Abs("tools")
	if err != nil {
		t.Fatal(err)
	}
	goMod, err := fixed(t.Context(), module, mended, folder)
	if err != nil {
		t.Fatal(err)
	}
	for path, fixes := range mended {
		copied := filepath.Join(folder, filepath.Base(path))
		cmd := exec.CommandContext(t.Context(), "go", "list", "-modfile="+goMod, "-m", "-f", "{{.Replace.Path}}", path)
		cmd.Dir = module
		out, err := cmd.CombinedOutput()
		if replaced := strings.TrimSpace(string(out)); err != nil || replaced != copied {
			t.Errorf("%s is built from %q (%v), want the mended copy", path, replaced, err)
		}
		for _, f := range fixes {
			data, err := os.ReadFile(filepath.Join(copied, f.file))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(data), f.new) {
				t.Errorf("%s of %s lacks a fix: %s", f.file, path, f.why)
			}
		}
	}
}

// A version that has no such place needs somebody to look at it.
func TestFixOfAnotherVersion(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "a.go")
	f := fix{file: "a.go", why: "it waits", old: "wait()\n", new: "go on\n"}
	for name, content := range map[string]string{"gone": "package a\n", "twice": "wait()\nwait()\n"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := f.apply(folder); err == nil || !strings.Contains(err.Error(), "another version") || !strings.Contains(err.Error(), "it waits") {
			t.Errorf("%s: %v", name, err)
		}
		if data, err := os.ReadFile(path); err != nil || string(data) != content {
			t.Errorf("%s: the file became %q (%v)", name, data, err)
		}
	}
}
