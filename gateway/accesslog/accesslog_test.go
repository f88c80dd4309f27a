package accesslog_test

import (
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/gateway/accesslog"
)

func TestBusyError(t *testing.T) {
	err := &accesslog.BusyError{RetryAfter: 250 * time.Millisecond}
	if want := "the access log has too many records waiting; try again in 250ms"; err.Error() != want {
		t.Errorf("Error = %q, want %q", err, want)
	}
}
