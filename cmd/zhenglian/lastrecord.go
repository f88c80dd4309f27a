package main

import (
	"context"
	"log/slog"
	"strings"
	"sync"
)

// lastRecord is a log handler that keeps the last error: that of a part which
// says what is wrong in its log and goes on trying.
type lastRecord struct {
	mu   sync.Mutex
	last string
}

// Enabled implements [slog.Handler].
func (l *lastRecord) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelError
}

// Handle implements [slog.Handler].
func (l *lastRecord) Handle(_ context.Context, r slog.Record) error {
	parts := []string{r.Message}
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "error" {
			parts = append(parts, a.Value.String())
		}
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = strings.Join(parts, ": ")
	return nil
}

// WithAttrs implements [slog.Handler].
func (l *lastRecord) WithAttrs([]slog.Attr) slog.Handler { return l }

// WithGroup implements [slog.Handler].
func (l *lastRecord) WithGroup(string) slog.Handler { return l }

func (l *lastRecord) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}
