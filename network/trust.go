package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
)

// Anchors collects what a verifier must trust: the departments, the roots of their
// enrolment CAs and the keys of their logs. It requires enrolled departments.
func Anchors(l Layout, def *Definition) (*proof.Anchors, error) {
	state, err := l.LoadState()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	anchors := &proof.Anchors{
		Format: proof.TrustFormat, Channel: def.Channel, Chaincode: def.Chaincode.Name,
		Versions: []string{def.Chaincode.Version}, Quorum: def.Quorum(),
	}
	for _, earlier := range state.Versions {
		if !slices.Contains(anchors.Versions, earlier) {
			anchors.Versions = append(anchors.Versions, earlier)
		}
	}
	for _, dept := range def.Departments {
		root, err := os.ReadFile(l.Department(dept.Code, "msp", "cacerts", "ca.pem"))
		if err != nil {
			return nil, fmt.Errorf("trust anchors of %s: %w", dept.Code, err)
		}
		key, err := logKey(l, def, dept.Code)
		if err != nil {
			return nil, fmt.Errorf("trust anchors of %s: %w", dept.Code, err)
		}
		lists, err := l.revocationLists(dept.Code)
		if err != nil {
			return nil, fmt.Errorf("trust anchors of %s: %w", dept.Code, err)
		}
		anchors.Departments = append(anchors.Departments, proof.Department{
			Code: domain.DepartmentCode(dept.Code), MSPID: domain.MSPID(dept.MSPID),
			NameZh: dept.NameZh, NameEn: dept.NameEn, USCC: dept.USCC,
			CARoots: []string{string(root)}, LogOrigin: def.LogOrigin(dept.Code), LogKey: key, CRLs: lists,
		})
	}
	slices.SortFunc(anchors.Departments, func(a, b proof.Department) int {
		return strings.Compare(string(a.Code), string(b.Code))
	})
	return anchors, nil
}

// writeTrust writes the trust file in canonical form.
func writeTrust(l Layout, def *Definition) error {
	anchors, err := Anchors(l, def)
	if err != nil {
		return err
	}
	data, err := domain.Canonical(anchors)
	if err != nil {
		return err
	}
	return writeFile(l.Trust(), data, 0o644)
}

// TrustFile returns the trust anchors in canonical form, as they are published.
func (c *Consortium) TrustFile() ([]byte, error) {
	def, err := c.Definition()
	if err != nil {
		return nil, err
	}
	anchors, err := Anchors(c.Layout, def)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &Problem{Cause: "the departments have no keys yet", Remedy: "run make up first", Err: err}
	}
	if err != nil {
		return nil, err
	}
	return domain.Canonical(anchors)
}
