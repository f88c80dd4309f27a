//go:build e2e

package e2e

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/test/consortium"
)

// TestThreeDepartments starts a consortium from a definition with a department
// less, led by another, beside the one that the other tests use, and loads as
// much of the sample as there are departments for.
func TestThreeDepartments(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	small, err := consortium.Start(ctx, consortium.Options{
		Root: net.Root, State: filepath.Join(net.Root, ".zhenglian-e2e-three"), PortOffset: portOffset + 500,
		Without: []string{"police"}, Settings: map[string]any{"lead": "civil"}, Output: t.Output(),
	})
	must(t, err)
	defer func() { must(t, small.Reset(context.WithoutCancel(ctx))) }()

	out, err := small.Run(ctx, "zhenglian", "sample", "--state", small.State)
	must(t, err)
	for _, want := range []string{"3 registered by 民政局", "9 registered, reviewed and published", "skipped: civil and police are not both members", "of 3 departments, verified offline: valid"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the sample did not say %q:\n%s", want, out)
		}
	}
	again, err := small.Run(ctx, "zhenglian", "sample", "--state", small.State)
	must(t, err)
	if !strings.Contains(string(again), "nothing changed") {
		t.Errorf("a second run changed something:\n%s", again)
	}
}
