package network

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"
)

// backupFormat is the format of a backup: an age file that holds a gzip stream of a tar
// archive, whose first entry is [backupManifest] and whose other names are relative to the
// state folder. Later releases read it as long as the format is this.
const backupFormat = "zhenglian-backup/1"

const manifestName = "manifest.json"

// Manifest says what a backup holds.
type Manifest struct {
	Format     string    `json:"format"`
	Department string    `json:"department"`
	Channel    string    `json:"channel"`
	Definition string    `json:"definition"` // digest
	Chaincode  string    `json:"chaincode"`  // version
	TakenAt    time.Time `json:"takenAt"`
	Height     uint64    `json:"height"` // blocks that the peer has, at least
	LogSize    uint64    `json:"logSize"`
	LogRoot    string    `json:"logRoot"` // standard base64; "" without a log
}

// Secret is what a backup is encrypted with: a passphrase, or the age recipients it is for
// and, to read it, the file with one of their identities.
type Secret struct {
	PassphraseFile string
	Recipients     []string // age1…
	IdentityFile   string
}

// BackupResult is a finished backup.
type BackupResult struct {
	Manifest
	File  string `json:"file"`
	Bytes int64  `json:"bytes"`
	Away  string `json:"away"` // how long the department's processes were stopped
}

// Backup writes everything of a department into one encrypted file: keys, certificates and
// their authority, the ledgers of peer and orderer, index, outbox and access log. The
// department's processes are stopped while they are copied, so that the parts fit one
// another; the others go on. It refuses when another department is away, because ordering
// would stop with this one.
func (c *Consortium) Backup(ctx context.Context, department, file string, secret Secret) (*BackupResult, error) {
	recipients, err := secret.recipients()
	if err != nil {
		return nil, err
	}
	if exists(file) {
		return nil, problem("choose another file", "%s exists", file)
	}
	o, err := c.operate(ctx)
	if err != nil {
		return nil, err
	}
	defer o.close()
	dept, err := o.department(department)
	if err != nil {
		return nil, err
	}
	result := &BackupResult{File: file, Manifest: Manifest{
		Format: backupFormat, Department: dept.Code, Channel: o.def.Channel,
		Definition: o.state.Definition, Chaincode: o.def.Chaincode.Version,
	}}
	err = c.Progress.Step("look at the others", func() (string, error) {
		if err := o.othersRun(dept); err != nil {
			return "", err
		}
		h := o.admins.height(ctx, dept.Code)
		if h.Error != "" {
			return "", problem("see "+o.Layout.Log("peer-"+dept.Code), "peer-%s does not say how far it is: %s", dept.Code, h.Error)
		}
		result.Height = h.Height
		return fmt.Sprintf("%d blocks", h.Height), nil
	})
	if err != nil {
		return nil, err
	}
	// Before the department stops: a passphrase takes a second to turn into a key.
	out, err := beginBackup(file, recipients)
	if err != nil {
		return nil, err
	}
	defer out.discard()
	stopped := time.Now()
	err = c.Progress.Step("stop "+dept.Code, func() (string, error) {
		return "", o.supervisor.end(ctx, o.processes(dept)...)
	})
	if err == nil {
		err = c.Progress.Step("write the backup", func() (string, error) {
			result.TakenAt = time.Now().UTC().Truncate(time.Second)
			if result.LogSize, result.LogRoot, err = o.Layout.logHead(dept.Code); err != nil {
				return "", err
			}
			result.Bytes, err = out.write(ctx, o.Layout, o.def, dept, result.Manifest)
			return fmt.Sprintf("%.1f MB, log of %d entries", float64(result.Bytes)/1e6, result.LogSize), err
		})
	}
	// The department comes back whatever happened to its backup.
	back := c.Progress.Step("start "+dept.Code, func() (string, error) {
		if err := o.start(context.WithoutCancel(ctx), dept, nodeKinds...); err != nil {
			return "", err
		}
		result.Away = time.Since(stopped).Round(100 * time.Millisecond).String()
		h, err := o.awaitHeight(ctx, dept.Code, result.Height)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%d blocks, away for %s", h.Height, result.Away), o.awaitReady(ctx, dept)
	})
	if err := errors.Join(err, back); err != nil {
		return nil, err
	}
	return result, nil
}

// processes are the department's processes in the order in which they stop: a peer before
// its orderer, so that it never has a block that the orderer lacks.
func (o *operation) processes(dept Department) []string {
	names := make([]string, 0, len(nodeKinds))
	for _, kind := range slices.Backward(nodeKinds) {
		if kind == "peer" { // its chaincode after it, the orderer last but the authority
			names = append(names, dept.process("peer"), dept.process("chaincode"))
			continue
		}
		if kind != "chaincode" {
			names = append(names, dept.process(kind))
		}
	}
	return names
}

// othersRun requires the orderers and peers of all other departments to run.
func (o *operation) othersRun(dept Department) error {
	found, err := o.Layout.processes()
	if err != nil {
		return err
	}
	for _, other := range o.def.Departments {
		for _, kind := range []string{"orderer", "peer"} {
			name := other.process(kind)
			if other.Code != dept.Code && !slices.ContainsFunc(found, func(p process) bool { return p.Name == name }) {
				return problem("bring it back first (make up)", "%s is down: without %s besides, nothing could be written", name, dept.Code)
			}
		}
	}
	return nil
}

// logHead reads size and root of a department's access log from its checkpoint.
func (l Layout) logHead(code string) (size uint64, root string, err error) {
	data, err := os.ReadFile(l.Department(code, "gateway", "data", "log", "checkpoint"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, "", nil // its gateway never ran
	}
	if err != nil {
		return 0, "", err
	}
	lines := strings.Split(string(data), "\n")
	if len(lines) < 3 {
		return 0, "", fmt.Errorf("the checkpoint of %s's access log has %d lines", code, len(lines))
	}
	size, err = strconv.ParseUint(lines[1], 10, 64)
	if err != nil {
		return 0, "", fmt.Errorf("the checkpoint of %s's access log: %w", code, err)
	}
	return size, lines[2], nil
}

// backupFile is a backup while it is written: it has its name when it is complete.
type backupFile struct {
	name      string
	f         *os.File
	encrypted io.WriteCloser
}

func beginBackup(name string, recipients []age.Recipient) (*backupFile, error) {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return nil, err
	}
	b := &backupFile{name: name, f: f}
	if b.encrypted, err = age.Encrypt(f, recipients...); err != nil {
		b.discard()
		return nil, fmt.Errorf("encrypt the backup: %w", err)
	}
	return b, nil
}

// discard removes a backup that is not complete.
func (b *backupFile) discard() {
	_ = b.f.Close()           // closed before, or of no use
	_ = os.Remove(b.f.Name()) // it has its real name, or is of no use
}

// write packs the department and gives the file its name. It answers its size.
func (b *backupFile) write(ctx context.Context, l Layout, def *Definition, dept Department, m Manifest) (int64, error) {
	// Keys, databases and signatures hardly shrink: speed matters, the department is away.
	zip, err := gzip.NewWriterLevel(b.encrypted, gzip.BestSpeed)
	if err != nil {
		return 0, err
	}
	out := tar.NewWriter(zip)
	if err := packDepartment(ctx, out, l, def, dept, m); err != nil {
		return 0, err
	}
	if err := errors.Join(out.Close(), zip.Close(), b.encrypted.Close(), b.f.Chmod(0o600), b.f.Sync()); err != nil {
		return 0, err
	}
	info, err := b.f.Stat()
	if err := errors.Join(err, b.f.Close()); err != nil {
		return 0, err
	}
	return info.Size(), os.Rename(b.f.Name(), b.name)
}

// packDepartment writes the manifest, the department's own folder and access tokens, and
// what is public of the consortium: a host that has nothing can be made from it.
func packDepartment(ctx context.Context, out *tar.Writer, l Layout, def *Definition, dept Department, m Manifest) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := out.WriteHeader(&tar.Header{Name: manifestName, Mode: 0o600, Size: int64(len(data)), ModTime: m.TakenAt, Format: tar.FormatPAX}); err != nil {
		return err
	}
	if _, err := out.Write(data); err != nil {
		return err
	}
	for _, name := range departmentParts(def, dept) {
		root := filepath.Join(l.State, filepath.FromSlash(name))
		err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			rel, err := filepath.Rel(l.State, p)
			if err != nil {
				return err
			}
			return packOne(out, p, filepath.ToSlash(rel), d)
		})
		if err != nil {
			return fmt.Errorf("back up %s: %w", name, err)
		}
	}
	return nil
}

// departmentParts are the folders and files that one department's host needs, relative to
// the state folder. The first two are the department's own and secret.
func departmentParts(def *Definition, dept Department) []string {
	parts := []string{"departments/" + dept.Code, "tokens/" + dept.Code + ".json", "consortium.yaml", "state.json", "channel", "chaincode", "trust"}
	for _, other := range def.Departments {
		if other.Code != dept.Code {
			parts = append(parts, "departments/"+other.Code+"/msp")
		}
	}
	return parts
}

func packOne(out *tar.Writer, file, name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	if !d.IsDir() && !info.Mode().IsRegular() {
		if info.Mode()&fs.ModeSocket != 0 {
			return nil
		}
		return fmt.Errorf("%s is neither a file nor a folder", name)
	}
	header := &tar.Header{Name: name, Mode: int64(info.Mode().Perm()), ModTime: info.ModTime(), Format: tar.FormatPAX}
	if d.IsDir() {
		header.Typeflag, header.Name = tar.TypeDir, name+"/"
		return out.WriteHeader(header)
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	header.Typeflag, header.Size = tar.TypeReg, info.Size()
	if err := out.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.CopyN(out, f, info.Size())
	return err
}

// readBackup decrypts a backup, hands its manifest to accept and unpacks into dir the
// entries for which want is true. Nothing is believed before age has authenticated it.
func readBackup(file, dir string, secret Secret, accept func(Manifest) error, want func(name string) bool) error {
	identities, err := secret.identities()
	if err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	plain, err := age.Decrypt(f, identities...)
	if err != nil {
		return &Problem{Cause: fmt.Sprintf("%s cannot be decrypted: %v", file, err), Remedy: "give the passphrase or the identity it was encrypted for", Err: err}
	}
	zip, err := gzip.NewReader(plain)
	if err != nil {
		return fmt.Errorf("%s is no backup: %w", file, err)
	}
	in := tar.NewReader(zip)
	for first := true; ; first = false {
		header, err := in.Next()
		if errors.Is(err, io.EOF) && !first {
			break
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", file, err)
		}
		if first {
			if header.Name != manifestName || header.Size > 1<<16 {
				return fmt.Errorf("%s is no backup: it begins with %s", file, header.Name)
			}
			var m Manifest
			if err := json.NewDecoder(in).Decode(&m); err != nil {
				return fmt.Errorf("read the manifest of %s: %w", file, err)
			}
			if m.Format != backupFormat {
				return fmt.Errorf("%s has the format %q and this program knows %q", file, m.Format, backupFormat)
			}
			if err := accept(m); err != nil {
				return err
			}
			continue
		}
		if want(path.Clean(header.Name)) {
			if err := unpackOne(in, dir, header); err != nil {
				return fmt.Errorf("restore %s: %w", header.Name, err)
			}
		}
	}
	// The end of the archive is not the end of what age authenticates.
	if _, err := io.Copy(io.Discard, plain); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	return nil
}

func unpackOne(in io.Reader, dir string, header *tar.Header) error {
	name := filepath.FromSlash(path.Clean(header.Name))
	if !filepath.IsLocal(name) {
		return errors.New("the name leaves the folder")
	}
	target := filepath.Join(dir, name)
	switch header.Typeflag {
	case tar.TypeDir:
		return os.MkdirAll(target, 0o700)
	case tar.TypeReg:
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return err
		}
		f, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fs.FileMode(header.Mode).Perm()) //nolint:gosec // permission bits
		if err != nil {
			return err
		}
		_, err = io.Copy(f, in) //nolint:gosec // as large as the department's own data
		return errors.Join(err, f.Sync(), f.Close(), os.Chtimes(target, header.ModTime, header.ModTime))
	}
	return fmt.Errorf("an entry of type %q", header.Typeflag)
}

func (s Secret) recipients() ([]age.Recipient, error) {
	if (s.PassphraseFile == "") == (len(s.Recipients) == 0) {
		return nil, problem("give --recipient age1… or --passphrase-file", "a backup needs either recipients or a passphrase")
	}
	if s.PassphraseFile != "" {
		passphrase, err := s.passphrase()
		if err != nil {
			return nil, err
		}
		r, err := age.NewScryptRecipient(passphrase)
		return []age.Recipient{r}, err
	}
	recipients, err := age.ParseRecipients(strings.NewReader(strings.Join(s.Recipients, "\n")))
	if err != nil {
		return nil, &Problem{Cause: fmt.Sprintf("a recipient cannot be read: %v", err), Remedy: "give what age-keygen prints as the public key", Err: err}
	}
	return recipients, nil
}

func (s Secret) identities() ([]age.Identity, error) {
	if (s.PassphraseFile == "") == (s.IdentityFile == "") {
		return nil, problem("give --identity or --passphrase-file", "a backup is read either with an identity or with a passphrase")
	}
	if s.PassphraseFile != "" {
		passphrase, err := s.passphrase()
		if err != nil {
			return nil, err
		}
		id, err := age.NewScryptIdentity(passphrase)
		return []age.Identity{id}, err
	}
	data, err := os.ReadFile(s.IdentityFile)
	if err != nil {
		return nil, err
	}
	identities, err := age.ParseIdentities(bytes.NewReader(data))
	if err != nil {
		return nil, &Problem{Cause: fmt.Sprintf("%s holds no age identity: %v", s.IdentityFile, err), Remedy: "give the file that age-keygen wrote", Err: err}
	}
	return identities, nil
}

// passphrase is the first line of its file.
func (s Secret) passphrase() (string, error) {
	data, err := os.ReadFile(s.PassphraseFile)
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(data), "\n")
	line = strings.TrimSuffix(line, "\r")
	if len(line) < 12 {
		return "", problem("write a longer one into its first line", "the passphrase in %s has fewer than 12 characters", s.PassphraseFile)
	}
	return line, nil
}
