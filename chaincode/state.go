package chaincode

import (
	"errors"
	"fmt"

	"github.com/zhenglian/zhenglian/domain"
)

// want names a record that will be read: the next message to the peer asks for
// it too. Each message costs a round trip; a record costs next to nothing.
func (t *transaction) want(kind domain.RecordKind, id string) {
	t.wanted = append(t.wanted, domain.KeyOf(kind, id))
}

// read returns the stored bytes of a record, nil when there is none. A record is
// read once: the ledger shows every later read the same bytes.
func (t *transaction) read(kind domain.RecordKind, id string) ([]byte, error) {
	key := domain.KeyOf(kind, id)
	if value, known := t.state[key]; known {
		return value, nil
	}
	t.wanted = append(t.wanted, key)
	if err := t.fetch(); err != nil {
		return nil, fmt.Errorf("internal: read %s: %w", key, err)
	}
	return t.state[key], nil
}

// fetch reads the wanted keys that are not known yet with one message.
func (t *transaction) fetch() error {
	if t.state == nil {
		t.state = make(map[string][]byte)
	}
	var keys []string
	for _, key := range t.wanted {
		if _, known := t.state[key]; !known {
			t.state[key] = nil
			keys = append(keys, key)
		}
	}
	t.wanted = nil
	values, err := t.GetStub().GetMultipleStates(keys...)
	if err != nil {
		return err
	}
	if len(values) != len(keys) {
		// A peer whose database fails answers nothing at all, and no error.
		return fmt.Errorf("the peer answered %d of %d values", len(values), len(keys))
	}
	for i, key := range keys {
		if len(values[i]) > 0 {
			t.state[key] = values[i]
		}
	}
	return nil
}

// load returns a record, nil when there is none.
func load[T any](t *transaction, kind domain.RecordKind, id string) (*T, error) {
	value, err := t.read(kind, id)
	if err != nil || value == nil {
		return nil, err
	}
	return decode[T](value, domain.KeyOf(kind, id))
}

// loadAll returns records in the order of their ids, nil where there is none,
// and asks for them with one message.
func loadAll[T any](t *transaction, kind domain.RecordKind, ids []string) ([]*T, error) {
	for _, id := range ids {
		t.want(kind, id)
	}
	list := make([]*T, len(ids))
	for i, id := range ids {
		var err error
		if list[i], err = load[T](t, kind, id); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func decode[T any](value []byte, key string) (*T, error) {
	record := new(T)
	if err := domain.ParseCanonical(value, record); err != nil {
		// Not the caller's fault: it must not look like a refusal.
		return nil, fmt.Errorf("internal: %s does not hold the expected record", key)
	}
	return record, nil
}

// write is one key that the transaction changes.
type write struct {
	key    string
	value  []byte // nil: the key is deleted
	policy []byte // who must endorse later changes; nil: as before
}

// put writes a record. A new one is endorsed by the channel's majority from then
// on, an older one by whom it always was.
func (t *transaction) put(kind domain.RecordKind, id string, record any) error {
	return t.create(kind, id, record, nil)
}

// create writes a record that is new, with the policy for all later changes.
func (t *transaction) create(kind domain.RecordKind, id string, record any, policy []byte) error {
	value, err := domain.Canonical(record)
	if err != nil {
		return err
	}
	return t.write(write{domain.KeyOf(kind, id), value, policy})
}

// free deletes a record, and its policy with it.
func (t *transaction) free(kind domain.RecordKind, id string) error {
	return t.write(write{key: domain.KeyOf(kind, id)})
}

// write plans a write. The ledger never shows a transaction its own writes, so a
// second write of one key is a mistake of the transaction.
func (t *transaction) write(w write) error {
	if t.written[w.key] {
		return errors.New("internal: " + w.key + " is written twice")
	}
	if t.written == nil {
		t.written = make(map[string]bool)
	}
	t.written[w.key] = true
	t.writes = append(t.writes, w)
	return nil
}

// send hands all writes to the peer with as few messages as it takes: a thousand
// writes and policies each. Nothing reaches the peer before, so what fails has
// written nothing.
func (t *transaction) send() error {
	stub := t.GetStub()
	stub.StartWriteBatch()
	for _, w := range t.writes {
		var err error
		if w.value == nil {
			err = stub.DelState(w.key)
		} else {
			err = stub.PutState(w.key, w.value)
		}
		if err == nil && w.policy != nil {
			err = stub.SetStateValidationParameter(w.key, w.policy)
		}
		if err != nil {
			return fmt.Errorf("internal: write %s: %w", w.key, err)
		}
	}
	if err := stub.FinishWriteBatch(); err != nil {
		return fmt.Errorf("internal: send the writes: %w", err)
	}
	return nil
}
