package network

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// Progress shows the steps of a command: one line a step, with the time it took.
//
// Rules of its output: a step is named in the imperative, in lower case and without a
// full stop; what it found follows; the time since the command started stands first.
type Progress struct {
	mu    sync.Mutex
	out   io.Writer
	live  bool // a terminal: show a step while it runs
	began time.Time
	steps []Step
}

// Step is a finished step.
type Step struct {
	Name    string  `json:"name"`
	Result  string  `json:"result"`
	Seconds float64 `json:"seconds"`
}

// NewProgress shows steps on out.
func NewProgress(out io.Writer) *Progress {
	p := &Progress{out: out, began: time.Now()}
	if f, ok := out.(interface{ Fd() uintptr }); ok {
		p.live = term.IsTerminal(int(f.Fd()))
	}
	return p
}

// Step runs one step and shows it. The step returns what it found or did, in a few
// words.
func (p *Progress) Step(name string, run func() (string, error)) error {
	start := time.Now()
	done := make(chan struct{})
	var ticking sync.WaitGroup
	if p.live {
		ticking.Go(func() {
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for {
				fmt.Fprintf(p.out, "\r%6.1fs  …    %-29s", time.Since(p.began).Seconds(), name)
				select {
				case <-done:
					fmt.Fprint(p.out, "\r"+strings.Repeat(" ", 60)+"\r")
					return
				case <-tick.C:
				}
			}
		})
	}
	result, err := run()
	close(done)
	ticking.Wait()
	mark := "ok"
	if err != nil {
		mark, result = "FAIL", ""
	}
	took := time.Since(start).Seconds()
	p.mu.Lock()
	defer p.mu.Unlock()
	line := fmt.Sprintf("%6.1fs  %-5s%-29s %5.1fs  %s", time.Since(p.began).Seconds(), mark, name, took, result)
	fmt.Fprintln(p.out, strings.TrimRight(line, " "))
	p.steps = append(p.steps, Step{Name: name, Result: result, Seconds: took})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Note shows a line that is no step.
func (p *Progress) Note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, format+"\n", args...)
}

// Steps are the finished steps in order.
func (p *Progress) Steps() []Step {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Step{}, p.steps...)
}

// Elapsed is the time since the command started.
func (p *Progress) Elapsed() time.Duration { return time.Since(p.began) }
