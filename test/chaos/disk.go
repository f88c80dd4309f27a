package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// mountable says whether this process may mount.
func mountable(context.Context, *world) error {
	if os.Geteuid() != 0 {
		return lacking("a full disk needs root, to mount one")
	}
	place, err := os.MkdirTemp("", "zhenglian-disk-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(place) }() // an empty folder
	if err := unix.Mount("tmpfs", place, "tmpfs", 0, "size=4096"); err != nil {
		return lacking("a full disk needs to mount one, and root may not here: %v", err)
	}
	return unix.Unmount(place, 0)
}

const (
	// room is what a process has left on its small disk, in bytes: some of it, so
	// that it fills up while the process writes.
	room = 256 << 10

	// spare is how much larger the disk is than twice the data: for what the process
	// writes before it is full, and after that.
	spare = 64 << 20
)

// fillDisk moves a process's data to a disk of its own, lets it run, and fills
// that disk until it is undone. The disk is in memory: a power cut is another
// fault.
func fillDisk(kind string) func(context.Context, *world, string) (func(context.Context) error, error) {
	return func(ctx context.Context, w *world, target string) (undo func(context.Context) error, err error) {
		data := filepath.Join(w.net.State, "departments", target, kind, "data")
		ballast := filepath.Join(data, "ballast")
		undo = func(context.Context) error { return os.Remove(ballast) }
		if err := stop(ctx, w, target, kind); err != nil {
			return nil, err
		}
		size, err := sizeOf(data)
		if err != nil {
			return nil, err
		}
		if err := errors.Join(os.Rename(data, data+".before"), os.Mkdir(data, 0o700)); err != nil {
			return nil, err
		}
		if err := unix.Mount("tmpfs", data, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", 2*size+spare)); err != nil {
			return nil, fmt.Errorf("mount a small disk at %s: %w", data, err)
		}
		w.leftover = append(w.leftover, func(ctx context.Context) error { return moveBack(ctx, w, target, kind, data) })
		if err := copyInto(ctx, data+".before", data); err != nil {
			return nil, err
		}
		if err := errors.Join(os.RemoveAll(data+".before"), w.net.Resume(ctx, kind+"-"+target), w.observer.ready(ctx, time.Minute)); err != nil {
			return nil, err
		}
		return undo, eventually(ctx, 20*time.Second, "the disk of the "+kind+" of "+target+" is full", func() (bool, string) {
			err := fill(data, ballast) // which fails when the process took the room meanwhile
			return err == nil, fmt.Sprint(err)
		})
	}
}

// moveBack ends the small disk: its data go where they were before.
func moveBack(ctx context.Context, w *world, target, kind, data string) error {
	if err := stop(ctx, w, target, kind); err != nil {
		return err
	}
	err := errors.Join(os.Mkdir(data+".after", 0o700), copyInto(ctx, data, data+".after"), unix.Unmount(data, 0))
	if err != nil {
		return err
	}
	return errors.Join(os.Remove(data), os.Rename(data+".after", data), w.net.Resume(ctx, kind+"-"+target))
}

// sizeOf answers how many bytes the files under a folder have.
func sizeOf(folder string) (size int64, err error) {
	err = filepath.WalkDir(folder, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}

// fill leaves room on the disk and no more.
func fill(data, ballast string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(data, &fs); err != nil {
		return err
	}
	f, err := os.Create(ballast)
	if err != nil {
		return err
	}
	free := int64(fs.Bavail) * fs.Bsize
	return errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, max(free-room, 1)), f.Close())
}

// stop ends a process and waits until it is gone.
func stop(ctx context.Context, w *world, target, kind string) error {
	if err := w.net.Halt(ctx, kind+"-"+target); err != nil {
		return err
	}
	return eventually(ctx, 20*time.Second, kind+" of "+target+" ends", func() (bool, string) {
		pids, err := w.net.Processes(target, kind)
		return err == nil && len(pids) == 0, fmt.Sprint(pids, err)
	})
}

func copyInto(ctx context.Context, from, to string) error {
	if out, err := exec.CommandContext(ctx, "cp", "-a", from+"/.", to).CombinedOutput(); err != nil {
		return fmt.Errorf("copy %s: %w: %s", from, err, out)
	}
	return nil
}
