package network

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
)

// chaincodePackage builds the package that every department installs. It names the
// chaincode and says that it runs as a service; where each department's process is and
// how the peer proves itself to it stay in that department's folder. All departments
// therefore have the same package ID.
//
// The bytes depend on the arguments only. Nothing is compressed, because compressors
// may write other bytes in another Go release, and the package ID is their digest.
func chaincodePackage(c Chaincode) (data []byte, packageID string, err error) {
	metadata, err := json.Marshal(struct {
		Type  string `json:"type"`
		Label string `json:"label"`
	}{"ccaas", c.Label()})
	if err != nil {
		return nil, "", err
	}
	content, err := json.Marshal(c)
	if err != nil {
		return nil, "", err
	}
	code, err := archive(file{"chaincode.json", content})
	if err != nil {
		return nil, "", err
	}
	data, err = archive(file{"metadata.json", metadata}, file{"code.tar.gz", code})
	if err != nil {
		return nil, "", err
	}
	return data, packageIDOf(c, data), nil
}

// packageIDOf is the ID that a peer gives to the package.
func packageIDOf(c Chaincode, data []byte) string {
	sum := sha256.Sum256(data)
	return c.Label() + ":" + hex.EncodeToString(sum[:])
}

type file struct {
	name string
	data []byte
}

// archive writes the files as a tar archive in an uncompressed gzip stream.
func archive(files ...file) ([]byte, error) {
	var buf bytes.Buffer
	zip, err := gzip.NewWriterLevel(&buf, gzip.NoCompression)
	if err != nil {
		return nil, err
	}
	out := tar.NewWriter(zip)
	for _, f := range files {
		err := out.WriteHeader(&tar.Header{Name: f.name, Mode: 0o100644, Size: int64(len(f.data)), Format: tar.FormatUSTAR})
		if err != nil {
			return nil, err
		}
		if _, err := out.Write(f.data); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(out.Close(), zip.Close()); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
