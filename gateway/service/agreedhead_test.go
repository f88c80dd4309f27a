package service

import (
	"errors"
	"testing"

	"github.com/zhenglian/zhenglian/gateway/ledger"
)

func TestAgreedHead(t *testing.T) {
	const down = ^uint64(0)
	for _, tt := range []struct {
		name    string
		heights []uint64
		head    uint64
		highest uint64
		ok      bool
	}{
		{"all equal", []uint64{9, 9, 9, 9}, 9, 9, true},
		{"one ahead by a block", []uint64{9, 10, 9, 9}, 9, 10, true},
		{"two ahead", []uint64{9, 10, 10, 9}, 10, 10, true},
		{"a liar", []uint64{9, 1 << 60, 9, 9}, 9, 1 << 60, true},
		{"a liar and one down", []uint64{9, 1 << 60, 9, down}, 9, 1 << 60, true},
		{"own behind, one other answers", []uint64{9, 12, down, down}, 12, 12, true},
		{"own behind, two others answer", []uint64{9, 12, 12, down}, 12, 12, true},
		{"alone", []uint64{9, down, down, down}, 0, 0, false},
		{"nobody", []uint64{down, down, down, down}, 0, 0, false},
		{"no departments", nil, 0, 0, false},
		{"consortium of one", []uint64{9}, 9, 9, true},
		{"of two", []uint64{9, 11}, 11, 11, true},
		{"of three, none may lie", []uint64{9, 9, 11}, 11, 11, true},
		{"of three, one alone", []uint64{9, down, down}, 0, 0, false},
		{"of seven, two may lie", []uint64{9, 9, 9, 9, 9, 50, 60}, 9, 60, true},
		{"of seven, four answer", []uint64{9, 9, 9, 50, down, down, down}, 50, 50, true},
		{"of seven, three answer", []uint64{9, 9, 50, down, down, down, down}, 0, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var heights []ledger.DepartmentHeight
			for _, h := range tt.heights {
				if h == down {
					heights = append(heights, ledger.DepartmentHeight{Department: "d", Err: errors.New("down")})
					continue
				}
				heights = append(heights, ledger.DepartmentHeight{Department: "d", Height: h})
			}
			head, highest, err := agreedHead(heights)
			if head != tt.head || highest != tt.highest || (err == nil) != tt.ok {
				t.Errorf("agreedHead = %d, %d, %v, want %d, %d, ok %v", head, highest, err, tt.head, tt.highest, tt.ok)
			}
		})
	}
}
