package network

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
)

// tree is what is in a folder: content by name, with the permissions of files.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		files[rel] = info.Mode().String() + "\n" + string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// ageKey is an age key pair, its secret half in a file.
func ageKey(t *testing.T) (recipient, identityFile string) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.txt")
	if err := os.WriteFile(file, []byte("# a comment\n"+id.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return id.Recipient().String(), file
}

// backedUp is a rendered consortium with a ledger and a log of police, and a backup of it.
func backedUp(t *testing.T, secret Secret) (Layout, *Definition, string) {
	t.Helper()
	l, def := rendered(t)
	if err := l.saveState(State{Definition: def.Digest(), Complete: true}); err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("consortium.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string]string{
		l.DefinitionCopy(): string(source),
		l.GenesisBlock():   "genesis",
		l.Department("police", "peer", "data", "ledger", "blockfile_000000"):      randomText(150000), // more than one chunk of age
		l.Department("police", "gateway", "data", "log", "checkpoint"):            "zhenglian.example/log/police\n7\ncm9vdA==\n\n— signature\n",
		l.Department("police", "gateway", "data", "index.sqlite"):                 "index",
		l.Department("bigdata", "gateway", "data", "log", "tile", "of", "others"): "secret of others",
	} {
		if err := writeFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s")) // a socket is no file
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	recipients, err := secret.recipients()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range recipients {
		if s, ok := r.(*age.ScryptRecipient); ok {
			s.SetWorkFactor(10) // a test is no attacker
		}
	}
	file := filepath.Join(t.TempDir(), "police.backup")
	out, err := beginBackup(file, recipients)
	if err != nil {
		t.Fatal(err)
	}
	defer out.discard()
	police, _ := def.Department("police")
	size, root, err := l.logHead("police")
	if err != nil || size != 7 || root != "cm9vdA==" {
		t.Fatalf("logHead = %d, %q, %v", size, root, err)
	}
	written, err := out.write(t.Context(), l, def, police, Manifest{
		Format: backupFormat, Department: "police", Channel: def.Channel, Chaincode: def.Chaincode.Version, TakenAt: time.Now(), Height: 9, LogSize: size, LogRoot: root,
	})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Size() != written || info.Mode().Perm() != 0o600 {
		t.Fatalf("the backup is %v, %v; %d bytes were written", info, err, written)
	}
	return l, def, file
}

func TestBackupComesBackAsItWas(t *testing.T) {
	recipient, identity := ageKey(t)
	passphrase := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(passphrase, []byte("correct horse battery\nignored\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, secrets := range map[string][2]Secret{
		"recipient":  {{Recipients: []string{recipient}}, {IdentityFile: identity}},
		"passphrase": {{PassphraseFile: passphrase}, {PassphraseFile: passphrase}},
	} {
		t.Run(name, func(t *testing.T) {
			l, def, file := backedUp(t, secrets[0])
			dir := t.TempDir()
			var manifest Manifest
			err := readBackup(file, dir, secrets[1], func(m Manifest) error { manifest = m; return nil }, func(string) bool { return true })
			if err != nil {
				t.Fatal(err)
			}
			if manifest.Department != "police" || manifest.Height != 9 || manifest.LogSize != 7 {
				t.Errorf("manifest = %+v", manifest)
			}
			restored := Layout{State: dir}
			if diff := cmp.Diff(tree(t, l.Department("police")), tree(t, restored.Department("police"))); diff != "" {
				t.Errorf("the department's folder (-was +is):\n%s", diff)
			}
			// Of the others only what is public.
			for name := range tree(t, filepath.Join(dir, "departments")) {
				code, rest, _ := strings.Cut(filepath.ToSlash(name), "/")
				if code != "police" && !strings.HasPrefix(rest, "msp/") {
					t.Errorf("the backup of police holds %s", name)
				}
			}
			if _, ok := def.Department("police"); !ok || !exists(restored.GenesisBlock()) || !exists(restored.DefinitionCopy()) || !exists(restored.Trust()) || !exists(restored.tokens("police")) || exists(restored.tokens("civil")) {
				t.Error("what a new host needs is not all there, or more than that")
			}
		})
	}
}

func TestBackupIsSealed(t *testing.T) {
	recipient, identity := ageKey(t)
	_, _, file := backedUp(t, Secret{Recipients: []string{recipient}})
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, clear := range []string{"PRIVATE KEY", "manifest", "police"} {
		if bytes.Contains(data, []byte(clear)) {
			t.Errorf("the file shows %q", clear)
		}
	}
	read := func(file string, s Secret) error {
		return readBackup(file, t.TempDir(), s, func(Manifest) error { return nil }, func(string) bool { return true })
	}
	_, other := ageKey(t)
	wantProblem(t, read(file, Secret{IdentityFile: other}), "cannot be decrypted")
	wantProblem(t, read(file, Secret{}), "--identity or --passphrase-file")
	changed := filepath.Join(t.TempDir(), "changed")
	for _, at := range []int{40, len(data) / 2, len(data) - 1} {
		flipped := slices.Clone(data)
		flipped[at] ^= 1
		if err := os.WriteFile(changed, flipped, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := read(changed, Secret{IdentityFile: identity}); err == nil {
			t.Errorf("byte %d of %d changed: read", at, len(data))
		}
	}
	for _, n := range []int{0, 200, len(data) - 1, len(data) - 70000} {
		if err := os.WriteFile(changed, data[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := read(changed, Secret{IdentityFile: identity}); err == nil {
			t.Errorf("cut after %d of %d bytes: read", n, len(data))
		}
	}
	refused := errors.New("not this one")
	err = readBackup(file, t.TempDir(), Secret{IdentityFile: identity}, func(Manifest) error { return refused }, func(string) bool { t.Error("unpacked"); return true })
	if !errors.Is(err, refused) {
		t.Errorf("error = %v", err)
	}
}

// Whoever has the recipient can write a file, so names are not believed.
func TestRestoreStaysInItsFolder(t *testing.T) {
	recipient, identity := ageKey(t)
	for name, entries := range map[string][]tar.Header{
		"parent":      {{Name: "../evil", Mode: 0o600, Typeflag: tar.TypeReg}},
		"absolute":    {{Name: "/evil", Mode: 0o600, Typeflag: tar.TypeReg}},
		"link":        {{Name: "evil", Linkname: "/etc/passwd", Typeflag: tar.TypeSymlink}},
		"twice":       {{Name: "evil", Mode: 0o600, Typeflag: tar.TypeReg}, {Name: "evil", Mode: 0o600, Typeflag: tar.TypeReg}},
		"device":      {{Name: "evil", Typeflag: tar.TypeChar}},
		"no manifest": nil,
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "backup")
			f, err := os.Create(file)
			if err != nil {
				t.Fatal(err)
			}
			r, err := age.ParseX25519Recipient(recipient)
			if err != nil {
				t.Fatal(err)
			}
			sealed, err := age.Encrypt(f, r)
			if err != nil {
				t.Fatal(err)
			}
			zip := gzip.NewWriter(sealed)
			out := tar.NewWriter(zip)
			manifest := `{"format":"` + backupFormat + `"}`
			if entries != nil {
				err = out.WriteHeader(&tar.Header{Name: manifestName, Mode: 0o600, Size: int64(len(manifest))})
				_, e := io.WriteString(out, manifest)
				err = errors.Join(err, e)
			}
			for _, h := range entries {
				err = errors.Join(err, out.WriteHeader(&h))
			}
			if err := errors.Join(err, out.Close(), zip.Close(), sealed.Close(), f.Close()); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "in", "here")
			err = readBackup(file, dir, Secret{IdentityFile: identity}, func(Manifest) error { return nil }, func(string) bool { return true })
			if err == nil {
				t.Error("restored")
			}
			if exists(filepath.Join(dir, "..", "evil")) || exists("/evil") {
				t.Error("it left its folder")
			}
		})
	}
}

func TestSecretsOfBackups(t *testing.T) {
	short := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(short, []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		secret Secret
		words  string
	}{
		"none":       {Secret{}, "recipients or a passphrase"},
		"both":       {Secret{PassphraseFile: short, Recipients: []string{"age1"}}, "recipients or a passphrase"},
		"short":      {Secret{PassphraseFile: short}, "fewer than 12"},
		"malformed":  {Secret{Recipients: []string{"age1nonsense"}}, "cannot be read"},
		"identities": {Secret{Recipients: []string{"AGE-SECRET-KEY-1"}}, "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tc.secret.recipients()
			wantProblem(t, err, tc.words)
		})
	}
}

// A peer stops before its orderer and never has a block that the orderer lacks.
func TestStopOrder(t *testing.T) {
	o := &operation{def: defaultDefinition(t)}
	got := o.processes(o.def.Departments[1])
	want := []string{"gateway-police", "peer-police", "chaincode-police", "orderer-police", "ca-police"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stop order (-want +got):\n%s", diff)
	}
}

func TestSigners(t *testing.T) {
	o := &operation{def: defaultDefinition(t)}
	for first, want := range map[string][]string{
		"bigdata": {"bigdata", "police", "civil"},
		"market":  {"market", "bigdata", "police"},
	} {
		if diff := cmp.Diff(want, o.signers(first)); diff != "" {
			t.Errorf("signers(%s) (-want +got):\n%s", first, diff)
		}
	}
}
