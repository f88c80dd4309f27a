package ledgeraudit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/encoding/protowire"
)

// maxBlockBytes is more than any block that Fabric makes.
const maxBlockBytes = 128 << 20

// Source gives the blocks of one department's copy of the ledger.
type Source interface {
	// Height is how many blocks the copy has.
	Height(ctx context.Context) (uint64, error)
	// Block returns one block.
	Block(ctx context.Context, number uint64) (*common.Block, error)
	// Blocks calls yield with the blocks from one number up to, and without, another,
	// in order. It ends with yield's error.
	Blocks(ctx context.Context, from, until uint64, yield func(*common.Block) error) error
}

// Files are the block files of a peer's or orderer's ledger: blockfile_000000 and
// so on, as Fabric writes them (fabric common/ledger/blkstorage). They can be
// copied while the peer runs; a block that was being written at the end is left
// out.
type Files struct {
	folder fs.FS
	names  []string
	blocks []place
}

var _ Source = (*Files)(nil)

// place is where a block is.
type place struct {
	file   int
	offset int64
	length int
}

// OpenFiles finds the blocks in a folder of block files.
func OpenFiles(folder fs.FS) (*Files, error) {
	f := &Files{folder: folder}
	entries, err := fs.ReadDir(folder, ".")
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), "blockfile_") {
			f.names = append(f.names, entry.Name())
		}
	}
	slices.Sort(f.names)
	for i, name := range f.names {
		if err := f.index(i); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if len(f.blocks) == 0 {
		return nil, errors.New("no block files with blocks")
	}
	return f, nil
}

// index finds the blocks in one file: each is preceded by its length.
func (f *Files) index(file int) error {
	opened, err := f.folder.Open(f.names[file])
	if err != nil {
		return err
	}
	defer opened.Close() //nolint:errcheck // only read
	r := bufio.NewReaderSize(opened, 1<<16)
	for offset := int64(0); ; {
		length, n, err := readVarint(r)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("at byte %d: %w", offset, err)
		}
		if length == 0 || length > maxBlockBytes {
			return fmt.Errorf("at byte %d: a block of %d bytes", offset, length)
		}
		skipped, err := io.CopyN(io.Discard, r, int64(length))
		if errors.Is(err, io.EOF) {
			return nil // was being written
		}
		if err != nil {
			return fmt.Errorf("at byte %d: %w", offset, err)
		}
		f.blocks = append(f.blocks, place{file, offset + int64(n), int(length)})
		offset += int64(n) + skipped
	}
}

func readVarint(r io.ByteReader) (value uint64, n int, err error) {
	for shift := 0; shift < 64; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return 0, n, err
		}
		n++
		value |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return value, n, nil
		}
	}
	return 0, n, errors.New("a length of another form")
}

// Height implements [Source].
func (f *Files) Height(context.Context) (uint64, error) { return uint64(len(f.blocks)), nil }

// Block implements [Source].
func (f *Files) Block(_ context.Context, number uint64) (*common.Block, error) {
	if number >= uint64(len(f.blocks)) {
		return nil, fmt.Errorf("block %d: the files have %d", number, len(f.blocks))
	}
	at := f.blocks[number]
	opened, err := f.folder.Open(f.names[at.file])
	if err != nil {
		return nil, err
	}
	defer opened.Close() //nolint:errcheck // only read
	seeker, ok := opened.(io.Seeker)
	if !ok {
		return nil, fmt.Errorf("%s: not a file that can be read anywhere", f.names[at.file])
	}
	if _, err := seeker.Seek(at.offset, io.SeekStart); err != nil {
		return nil, err
	}
	data := make([]byte, at.length)
	if _, err := io.ReadFull(opened, data); err != nil {
		return nil, err
	}
	b, err := parseStored(data)
	if err != nil {
		return nil, fmt.Errorf("block %d: %w", number, err)
	}
	return b, nil
}

// Blocks implements [Source].
func (f *Files) Blocks(ctx context.Context, from, until uint64, yield func(*common.Block) error) error {
	for n := from; n < until; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := f.Block(ctx, n)
		if err != nil {
			return err
		}
		if err := yield(b); err != nil {
			return err
		}
	}
	return nil
}

// parseStored reads a block as a ledger stores it, which is no protobuf message:
// number, data hash, previous hash, the number of transactions and each of them,
// the number of metadata slots and each of them; every byte string after its
// length.
func parseStored(data []byte) (*common.Block, error) {
	s := stored{data: data}
	b := &common.Block{Header: &common.BlockHeader{}, Data: &common.BlockData{}, Metadata: &common.BlockMetadata{}}
	b.Header.Number = s.number()
	b.Header.DataHash = s.bytes()
	b.Header.PreviousHash = s.bytes()
	b.Data.Data = s.list()
	b.Metadata.Metadata = s.list()
	if s.failed || len(s.data) > 0 {
		return nil, errors.New("not in the form of stored blocks")
	}
	return b, nil
}

type stored struct {
	data   []byte
	failed bool
}

func (s *stored) number() uint64 {
	value, n := protowire.ConsumeVarint(s.data)
	if n < 0 {
		s.data, s.failed = nil, true
		return 0
	}
	s.data = s.data[n:]
	return value
}

func (s *stored) bytes() []byte {
	value, n := protowire.ConsumeBytes(s.data)
	if n < 0 {
		s.data, s.failed = nil, true
		return nil
	}
	s.data = s.data[n:]
	return value
}

func (s *stored) list() [][]byte {
	var out [][]byte
	for n := s.number(); n > 0 && !s.failed; n-- {
		out = append(out, s.bytes())
	}
	return out
}
