package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
)

// fix changes one place of a module that a program is built from, as long as no release
// of the module is right by itself.
type fix struct {
	file string // in the module
	why  string
	old  string // stands in the file exactly once
	new  string
}

// mended are the modules of network/tools that Fabric's programs are built with changes
// of. See docs/adr/0038.
var mended = map[string][]fix{
	"github.com/hyperledger-labs/SmartBFT": smartBFTFixes,
	"github.com/hyperledger/fabric":        slices.Concat(verdictFixes, connectionFixes, filterFixes),
}

// smartBFTFixes keep an orderer from falling behind for good, which nobody notices until
// another one fails too: then nothing is ordered any more.
var smartBFTFixes = []fix{
	{
		file: "internal/bft/controller.go",
		why:  "a sync that brings no block must not start the count of decisions anew; SmartBFT has it since 2026-04-30 (pull request 663)",
		old:  "\tnewViewNum = controllerViewNum\n",
		new:  "\tnewViewNum = controllerViewNum\n\tnewDecisionsInView = c.getCurrentDecisionsInView()\n",
	},
	{
		file: "internal/bft/controller.go",
		why:  "a decision says when its view has ended",
		old:  "\trequests   []types.RequestInfo\n}",
		new:  "\trequests   []types.RequestInfo\n\taborted    <-chan struct{}\n}",
	},
	{
		file: "internal/bft/controller.go",
		why:  "the view that decides is the current one: who replaces it waits for its end",
		old:  "\t\tsignatures: signatures,\n\t}:",
		new:  "\t\tsignatures: signatures,\n\t\taborted:    c.currentViewAbortChan(),\n\t}:",
	},
	{
		file: "internal/bft/controller.go",
		why:  "a view that a sync has ended waits no more for its last decision to be delivered, and who delivers must not wait for it",
		old:  "\tcase c.deliverChan <- struct{}{}:\n\tcase <-c.stopChan:\n\t\treturn\n\t}\n",
		new:  "\tcase c.deliverChan <- struct{}{}:\n\tcase <-d.aborted:\n\t\tc.grabSyncToken()\n\t\treturn\n\tcase <-c.stopChan:\n\t\treturn\n\t}\n",
	},
}

// verdictFixes keep all peers from waiting for ever at one block: a transaction that
// writes a key waits for the verdict on each earlier one of its block that sets the key's
// policy, and Fabric gives none to those that it refuses before it asks for endorsements: one
// that is in the ledger already, or that cannot be read.
var verdictFixes = []fix{
	{
		file: "core/common/validation/statebased/vpmanagerimpl.go",
		why:  "who validates a block says which transactions it is done with",
		old:  "type txDependency struct {\n\tmutex               sync.Mutex\n",
		new: `// Outcomes knows the transactions of a block whose validation has ended.
type Outcomes struct {
	mutex   sync.Mutex
	ended   map[uint64]bool
	waiting map[uint64][]func()
}

var outcomes sync.Map // of the blocks in validation: *common.Block to *Outcomes

// Begin says that the validation of a block begins.
func Begin(block *common.Block) *Outcomes {
	o := &Outcomes{ended: map[uint64]bool{}, waiting: map[uint64][]func(){}}
	outcomes.Store(block, o)
	return o
}

// End says that the validation of a block has ended.
func End(block *common.Block) { outcomes.Delete(block) }

// Ended says that the validation of a transaction has ended.
func (o *Outcomes) Ended(txnum uint64) {
	o.mutex.Lock()
	waiting := o.waiting[txnum]
	o.ended[txnum] = true
	delete(o.waiting, txnum)
	o.mutex.Unlock()
	for _, f := range waiting {
		f()
	}
}

func (o *Outcomes) notify(txnum uint64, f func()) {
	o.mutex.Lock()
	ended := o.ended[txnum]
	if !ended {
		o.waiting[txnum] = append(o.waiting[txnum], f)
	}
	o.mutex.Unlock()
	if ended {
		f()
	}
}

// endedWith makes a transaction without a verdict count as invalid when its
// validation has ended, and as one without keys when it could not be read.
func (m *KeyLevelValidationParameterManagerImpl) endedWith(block *common.Block, txnum uint64) {
	dep := m.validationCtx.forBlock(block.Header.Number).getOrCreateDependencyByTxnum(txnum)
	dep.signalDepInserted()
	if o, ok := outcomes.Load(block); ok {
		o.(*Outcomes).notify(txnum, dep.signalEnded)
	}
}

func (d *txDependency) signalEnded() {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.ended = true
	d.cond.Broadcast()
}

type txDependency struct {
	ended               bool
	insertOnce          sync.Once
	mutex               sync.Mutex
`,
	},
	{
		file: "core/common/validation/statebased/vpmanagerimpl.go",
		why:  "of the same",
		old:  "import (\n\t\"sync\"\n",
		new:  "import (\n\t\"sync\"\n\n\t\"github.com/hyperledger/fabric-protos-go-apiv2/common\"\n",
	},
	{
		file: "core/common/validation/statebased/vpmanagerimpl.go",
		why:  "it is said twice of what can be read",
		old:  "\tclose(d.depInserted)\n",
		new:  "\td.insertOnce.Do(func() { close(d.depInserted) })\n",
	},
	{
		file: "core/common/validation/statebased/vpmanagerimpl.go",
		why:  "what ended without a verdict is invalid",
		old:  "\tfor !ok {\n\t\td.cond.Wait()\n\t\terr, ok = d.validationResultMap[ns]\n\t}\n\n\treturn err\n",
		new: "\tfor !ok && !d.ended {\n\t\td.cond.Wait()\n\t\terr, ok = d.validationResultMap[ns]\n\t}\n\tif !ok {\n" +
			"\t\treturn errors.New(\"its validation ended without a verdict\")\n\t}\n\n\treturn err\n",
	},
	{
		file: "core/common/validation/statebased/validator_keylevel.go",
		why:  "of the same",
		old:  "\t\t\t\tklv.extractDependenciesForTx(block.Header.Number, txPosition, block.Data.Data[txPosition])\n",
		new: "\t\t\t\tklv.extractDependenciesForTx(block.Header.Number, txPosition, block.Data.Data[txPosition])\n" +
			"\t\t\t\tif m, ok := klv.vpmgr.(*KeyLevelValidationParameterManagerImpl); ok {\n\t\t\t\t\tm.endedWith(block, txPosition)\n\t\t\t\t}\n",
	},
	{
		file: "core/common/validation/statebased/validator_keylevel.go",
		why:  "a transaction without actions cannot be read",
		old:  "\tcap, err := protoutil.UnmarshalChaincodeActionPayload(tx.Actions[0].Payload)\n",
		new: "\tif len(tx.Actions) == 0 {\n\t\tlogger.Warningf(\"skipping tx at height (%d,%d): it has no actions\", blockNum, txNum)\n\t\treturn\n\t}\n\n" +
			"\tcap, err := protoutil.UnmarshalChaincodeActionPayload(tx.Actions[0].Payload)\n",
	},
	{
		file: "core/committer/txvalidator/v20/validator.go",
		why:  "of the same",
		old:  "\tresults := make(chan *blockValidationResult)\n",
		new:  "\toutcomes := statebased.Begin(block)\n\tdefer statebased.End(block)\n\n\tresults := make(chan *blockValidationResult)\n",
	},
	{
		file: "core/committer/txvalidator/v20/validator.go",
		why:  "of the same",
		old:  "\t\tres := <-results\n",
		new:  "\t\tres := <-results\n\t\toutcomes.Ended(uint64(res.tIdx))\n",
	},
	{
		file: "core/committer/txvalidator/v20/validator.go",
		why:  "of the same",
		old:  "\t\"github.com/hyperledger/fabric/core/common/validation\"\n",
		new:  "\t\"github.com/hyperledger/fabric/core/common/validation\"\n\t\"github.com/hyperledger/fabric/core/common/validation/statebased\"\n",
	},
}

// connectionFixes keep an orderer from waiting in consensus for a handshake that nobody
// answers, for up to 20 s: one that asks over an idle connection connects first.
var connectionFixes = []fix{
	{
		file: "orderer/common/cluster/commauth.go",
		why:  "a connection that was lost is idle; a stream over it waits until it is there again",
		old:  "\t\t\tif connState == connectivity.Connecting {\n",
		new:  "\t\t\tif connState == connectivity.Idle {\n\t\t\t\tconn.Connect()\n\t\t\t}\n\t\t\tif connState == connectivity.Connecting || connState == connectivity.Idle {\n",
	},
}

// filterFixes make peers keep a filter of each table of keys. Nearly every key that our
// transactions write is new, each is looked up five times, and without a filter a look-up
// of a key that is not there reads a block of every level. They also let the state gather
// more before it is written out, into larger tables: fewer of them are looked into for a
// key, and what stands in them is written anew less often. LevelDB has all of that, Fabric
// no setting for it. Tables of any size with filters and without may lie side by side, and
// Fabric's own builds read them.
var filterFixes = []fix{
	{
		file: "common/ledger/util/leveldbhelper/leveldb_helper.go",
		why:  "ten bits of a key keep 99 of 100 look-ups in vain from the table",
		old:  "\tdbOpts := &opt.Options{}\n\tdbPath := dbInst.conf.DBPath\n",
		new: "\tdbOpts := &opt.Options{Filter: filter.NewBloomFilter(10)}\n\tdbPath := dbInst.conf.DBPath\n" +
			"\tif filepath.Base(dbPath) == \"stateLeveldb\" {\n\t\tdbOpts.WriteBuffer, dbOpts.CompactionTableSize, dbOpts.CompactionTotalSize = 16<<20, 8<<20, 40<<20\n\t}\n",
	},
	{
		file: "common/ledger/util/leveldbhelper/leveldb_helper.go",
		why:  "of the same",
		old:  "\t\"github.com/syndtr/goleveldb/leveldb/iterator\"\n",
		new:  "\t\"github.com/syndtr/goleveldb/leveldb/filter\"\n\t\"github.com/syndtr/goleveldb/leveldb/iterator\"\n",
	},
	{
		file: "common/ledger/util/leveldbhelper/leveldb_helper.go",
		why:  "of the same",
		old:  "\t\"fmt\"\n",
		new:  "\t\"fmt\"\n\t\"path/filepath\"\n",
	},
}

// fixed writes copies of modules with fixes into folder, and answers the go.mod to build
// module with, in which the copies take the originals' places. What is copied is what the
// checksums in go.sum are of.
func fixed(ctx context.Context, module string, fixes map[string][]fix, folder string) (goMod string, err error) {
	if err := os.RemoveAll(folder); err != nil {
		return "", err
	}
	data, err := os.ReadFile(filepath.Join(module, "go.mod"))
	if err != nil {
		return "", err
	}
	mod, err := modfile.Parse("go.mod", data, nil)
	if err != nil {
		return "", err
	}
	for path, list := range fixes {
		copied := filepath.Join(folder, filepath.Base(path))
		original, err := moduleFolder(ctx, module, path)
		if err != nil {
			return "", err
		}
		if err := copyModule(original, copied); err != nil {
			return "", err
		}
		for _, f := range list {
			if err := f.apply(copied); err != nil {
				return "", fmt.Errorf("fix %s: %w", path, err)
			}
		}
		if err := mod.AddReplace(path, "", copied, ""); err != nil {
			return "", err
		}
	}
	if data, err = mod.Format(); err != nil {
		return "", err
	}
	sums, err := os.ReadFile(filepath.Join(module, "go.sum"))
	if err != nil {
		return "", err
	}
	goMod = filepath.Join(folder, "go.mod")
	return goMod, errors.Join(os.WriteFile(goMod, data, 0o644), os.WriteFile(filepath.Join(folder, "go.sum"), sums, 0o644))
}

// moduleFolder is where the go command keeps the version of a module that another one
// asks for.
func moduleFolder(ctx context.Context, module, path string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", path)
	cmd.Dir = module
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go mod download %s: %w", path, err)
	}
	var original struct{ Dir string }
	if err := json.Unmarshal(out, &original); err != nil {
		return "", fmt.Errorf("go mod download %s: %w", path, err)
	}
	return original.Dir, nil
}

func (f fix) apply(folder string) error {
	path := filepath.Join(folder, filepath.FromSlash(f.file))
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if n := strings.Count(string(data), f.old); n != 1 {
		return fmt.Errorf("%s has the place to mend %d times, not once: is this another version? (%s)", f.file, n, f.why)
	}
	return os.WriteFile(path, []byte(strings.Replace(string(data), f.old, f.new, 1)), 0o644)
}

// copyModule copies the files of a module: those in the module cache cannot be written to.
func copyModule(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, data, 0o644)
	})
}
