package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// probeMachine measures what everything here rests on: durable writes of 4 KiB
// and P-256 verifications, each for a fifth of a second.
func probeMachine(dir string) probe {
	const span = 200 * time.Millisecond
	p := probe{FsyncPerSecond: fsyncs(dir, span), VerifyPerSecond: verifications(span)}
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		_, _ = fmt.Sscan(string(data), &p.Load1) // 0 when the kernel tells none
	}
	return p
}

func fsyncs(dir string, span time.Duration) float64 {
	f, err := os.Create(filepath.Join(dir, "fsync.probe"))
	if err != nil {
		return 0
	}
	defer func() {
		_ = f.Close() // its bytes mean nothing
		_ = os.Remove(f.Name())
	}()
	block, n, started := make([]byte, 4096), 0, time.Now()
	for time.Since(started) < span {
		if _, err := f.Write(block); err != nil {
			return 0
		}
		if err := f.Sync(); err != nil {
			return 0
		}
		n++
	}
	return float64(n) / time.Since(started).Seconds()
}

func verifications(span time.Duration) float64 {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return 0
	}
	digest := sha256.Sum256([]byte("probe"))
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		return 0
	}
	n, started := 0, time.Now()
	for time.Since(started) < span {
		if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature) {
			return 0
		}
		n++
	}
	return float64(n) / time.Since(started).Seconds()
}

// commit names the source that was measured, "unknown" outside a checkout.
func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
